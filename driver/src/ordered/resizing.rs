//! Carrying on with a resize: the device does what the procedure asks for, and gives it the answer.
//!
//! A resize goes on from turn to turn, as [`Desk::turn`] and [`Desk::pass`] cut it. Between two
//! turns requests go on: how many, whoever steps both decides.

use std::future::Future;
use std::pin::Pin;

use crate::coroutine::{Coroutine, Resumed};
use crate::executor::Executor;
use crate::host::{Action, FileRole, FinishedAction, HostFile};
use crate::resize::{ResizeError, ResizeOutcome, ResizeStep, Resized};

use super::desk::{Answer, Ask, WaitFor};
use super::procedure::Resize;
use super::{Desk, Hold, Ordered, Relocation};

/// A procedure under way, which ends with `T`.
pub(super) struct Running<F, T> {
    coroutine: Coroutine<Ask<F>, Answer, Result<T, ResizeError>>,
    state: State,
    /// It is to be told so by the next thing that it asks for.
    abandoned: bool,
    /// Giving it up comes too late.
    decided: bool,
}

#[derive(Debug)]
enum State {
    /// Nothing of it has been done.
    Begins,
    /// It waits for this.
    Waits(WaitFor),
    /// It has asked for this operation, which nobody has begun.
    Asked(FileRole, Action),
    /// Its operation is under way.
    UnderWay,
}

impl<F, T> std::fmt::Debug for Running<F, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Who carries out what a procedure asks for.
enum Hands<'a, F> {
    /// The device, where it is given.
    AtOnce,
    /// An executor.
    On(&'a mut dyn Executor<F>),
}

/// How far a procedure has gone on.
enum Went<T> {
    Working,
    Waiting,
    Ended(Result<T, ResizeError>),
}

impl<F: HostFile, T> Running<F, T> {
    fn new(
        begin: impl FnOnce(Desk<F>) -> Pin<Box<dyn Future<Output = Result<T, ResizeError>>>>,
    ) -> Running<F, T> {
        Running {
            coroutine: Coroutine::new(|asker| begin(Desk::new(asker))),
            state: State::Begins,
            abandoned: false,
            decided: false,
        }
    }

    /// Goes on until it lets requests go on, waits for something, or ends.
    fn go_on(&mut self, device: &mut Ordered<F>, hands: &mut Hands<'_, F>) -> Went<T> {
        loop {
            let answer = match std::mem::replace(&mut self.state, State::UnderWay) {
                State::Begins if self.abandoned => return Went::Ended(Err(ResizeError::Abandoned)),
                State::Waits(_) if self.is_refused() => Some(Answer::Abandoned),
                State::Begins if device.engine.begin_turn() => None,
                State::Waits(WaitFor::Nothing) => Some(Answer::Done),
                State::Waits(WaitFor::Turn) if device.engine.begin_turn() => Some(Answer::Done),
                state @ (State::Begins | State::Waits(_)) => {
                    self.state = state;
                    return Went::Waiting;
                }
                State::Asked(file, action) => match hands {
                    Hands::AtOnce => {
                        let operation = device.engine.relocate(file, action);
                        device.carry_out(operation);
                        continue;
                    }
                    Hands::On(executor) if executor.room() > 0 => {
                        let operation = device.engine.relocate(file, action);
                        executor.begin(operation, &device.files);
                        return Went::Working;
                    }
                    Hands::On(_) => {
                        self.state = State::Asked(file, action);
                        return Went::Waiting;
                    }
                },
                State::UnderWay => match device.engine.take_relocated() {
                    Some((action, result)) => {
                        Some(Answer::Finished(FinishedAction { action, result }))
                    }
                    None => return Went::Waiting,
                },
            };
            match self.resume(device, answer) {
                None => {}
                Some(went) => return went,
            }
        }
    }

    /// Whether what it asks for is refused, once.
    fn is_refused(&mut self) -> bool {
        std::mem::take(&mut self.abandoned) && !self.decided
    }

    /// Lets the procedure go on up to the next operation that it asks for; `None` if it does. All
    /// looks on the way are taken.
    fn resume(&mut self, device: &mut Ordered<F>, answer: Option<Answer>) -> Option<Went<T>> {
        let mut answer = answer;
        loop {
            let ask = match self.coroutine.resume(answer.take()) {
                Resumed::Ends(result) => return Some(Went::Ended(result)),
                Resumed::Asks(ask) => ask,
            };
            answer = Some(match ask {
                Ask::Follow(look) => {
                    look(&mut Relocation::of(device));
                    Answer::Done
                }
                Ask::Decided => {
                    self.decided = true;
                    Answer::Done
                }
                _ if self.is_refused() => Answer::Abandoned,
                Ask::Look(look) => {
                    look(&mut Relocation::of(device));
                    Answer::Done
                }
                Ask::Operation(file, action) => {
                    self.state = State::Asked(file, action);
                    return None;
                }
                Ask::Wait(wait_for) => {
                    device.engine.end_turn();
                    self.state = State::Waits(wait_for);
                    return Some(Went::Working);
                }
            });
        }
    }
}

impl<F: HostFile> Ordered<F> {
    /// Begins a resize. The device carries on with it, between its requests, as often as
    /// [`Ordered::step_resize`] or [`Ordered::step_resize_on`] is called.
    ///
    /// # Panics
    /// If one is under way.
    pub fn begin_resize(&mut self, resize: Box<dyn Resize<F>>) {
        assert!(self.resize.is_none(), "a resize is under way");
        self.resize = Some(Running::new(|desk| resize.begin(desk)));
    }

    /// Whether a resize is under way.
    #[inline]
    pub fn is_resizing(&self) -> bool {
        self.resize.is_some()
    }

    /// Gives the resize up that is under way, at whatever step. It has to be stepped on: it puts
    /// things back, and ends with [`ResizeError::Abandoned`]; or as it would have, if nothing was
    /// left to do. Afterwards the device has its old size; or, where a reflow has moved something,
    /// a header that says so, and a recovery finishes the move; or the new size, if that was
    /// committed.
    pub fn abandon_resize(&mut self) {
        if let Some(running) = &mut self.resize {
            running.abandoned = true;
        }
    }

    /// One step of the resize under way, each operation carried out where it is given.
    pub fn step_resize(&mut self) -> ResizeStep {
        self.resize_goes_on(&mut Hands::AtOnce)
    }

    /// One step of the resize under way, whose operation `executor` carries out. When that has
    /// ended, which [`Ordered::finish`] has to be told, it is the next step's turn.
    pub fn step_resize_on(&mut self, executor: &mut dyn Executor<F>) -> ResizeStep {
        self.resize_goes_on(&mut Hands::On(executor))
    }

    fn resize_goes_on(&mut self, hands: &mut Hands<'_, F>) -> ResizeStep {
        let Some(mut running) = self.resize.take() else {
            return ResizeStep::Idle;
        };
        let went = running.go_on(self, hands);
        let step = match went {
            Went::Working => ResizeStep::Working,
            Went::Waiting => ResizeStep::Waiting,
            Went::Ended(outcome) => {
                self.end_relocation();
                return ResizeStep::Ended(outcome);
            }
        };
        self.resize = Some(running);
        step
    }

    /// A resize that failed half-way must not leave requests waiting for it.
    fn end_relocation(&mut self) {
        self.engine.end_turn();
        self.engine.set_hold(Hold::Nothing);
        self.files.new = None;
    }

    /// Gives the resize up that is under way, and carries on until it has put things back, each
    /// operation where it is given; how it ended. What an executor was given has to have ended.
    pub fn give_up_resize(&mut self) -> Option<ResizeOutcome> {
        self.abandon_resize();
        let mut aside = self.engine.set_aside_completions();
        let outcome = loop {
            match self.step_resize() {
                ResizeStep::Idle => break None,
                ResizeStep::Ended(outcome) => break Some(outcome),
                ResizeStep::Working => {}
                ResizeStep::Waiting => {
                    let Some(operation) = self.engine.next_operation() else {
                        // It waits for what is not here.
                        break None;
                    };
                    self.carry_out(operation);
                    aside.append(&mut self.engine.set_aside_completions());
                }
            }
        };
        self.engine.put_back_completions(aside);
        outcome
    }

    /// Carries a relocation out that is no resize, on a device that has nothing else to do: to its
    /// end, each operation where it is given.
    ///
    /// # Errors
    /// The relocation's; [`ResizeError::Refused`] while requests or a resize are under way.
    pub fn relocate<T, P>(&mut self, begin: impl FnOnce(Desk<F>) -> P) -> Result<T, ResizeError>
    where
        P: Future<Output = Result<T, ResizeError>> + 'static,
    {
        let refused = || Err(ResizeError::Refused("requests are under way".into()));
        if self.is_resizing() {
            return refused();
        }
        let mut running = Running::new(|desk| Box::pin(begin(desk)));
        let result = loop {
            match running.go_on(self, &mut Hands::AtOnce) {
                Went::Working => {}
                Went::Waiting => break refused(),
                Went::Ended(result) => break result,
            }
        };
        self.end_relocation();
        result
    }

    /// Carries a resize out on a device that nobody else submits to, to its end.
    ///
    /// # Errors
    /// The resize's; [`ResizeError::Refused`] while requests are under way.
    pub fn resize(&mut self, resize: Box<dyn Resize<F>>) -> Result<Resized, ResizeError> {
        self.relocate(|desk| resize.begin(desk))
    }
}
