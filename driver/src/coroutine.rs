//! A procedure that asks for one thing after the other, as a value that is resumed with an answer:
//! an `async` function, and what it takes to run one without a runtime. Nobody wakes it, for it
//! waits for nothing but its answers, and whoever has one resumes it.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Where a question and its answer lie.
enum Mail<A, B> {
    Nothing,
    Asked(A),
    Answered(B),
}

type Mailbox<A, B> = Rc<RefCell<Mail<A, B>>>;

/// The procedure's end: it asks.
pub(crate) struct Asker<A, B>(Mailbox<A, B>);

impl<A, B> Clone for Asker<A, B> {
    fn clone(&self) -> Asker<A, B> {
        Asker(Rc::clone(&self.0))
    }
}

impl<A, B> Asker<A, B> {
    /// Asks, and waits for the answer. A procedure asks one thing at a time.
    pub(crate) async fn ask(&self, question: A) -> B {
        self.0.replace(Mail::Asked(question));
        poll_fn(|_| match self.0.replace(Mail::Nothing) {
            Mail::Answered(answer) => Poll::Ready(answer),
            other => {
                self.0.replace(other);
                Poll::Pending
            }
        })
        .await
    }
}

/// A procedure that asks `A`, is answered `B`, and ends with `T`.
pub(crate) struct Coroutine<A, B, T> {
    mailbox: Mailbox<A, B>,
    procedure: Pin<Box<dyn Future<Output = T>>>,
}

/// How far a procedure has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resumed<A, T> {
    /// It asks this, and goes on when it is answered.
    Asks(A),
    /// It is over.
    Ends(T),
}

impl<A, B, T> Coroutine<A, B, T> {
    /// The procedure that `begin` makes of its asker. Nothing of it happens before it is resumed.
    pub(crate) fn new(
        begin: impl FnOnce(Asker<A, B>) -> Pin<Box<dyn Future<Output = T>>>,
    ) -> Coroutine<A, B, T> {
        let mailbox = Rc::new(RefCell::new(Mail::Nothing));
        let procedure = begin(Asker(Rc::clone(&mailbox)));
        Coroutine { mailbox, procedure }
    }

    /// Lets it go on, with the answer to what it has asked; the first time with none.
    ///
    /// # Panics
    /// If it waits for something that it has not asked for. A procedure is not resumed after its
    /// end.
    pub(crate) fn resume(&mut self, answer: Option<B>) -> Resumed<A, T> {
        if let Some(answer) = answer {
            self.mailbox.replace(Mail::Answered(answer));
        }
        let mut context = Context::from_waker(Waker::noop());
        match self.procedure.as_mut().poll(&mut context) {
            Poll::Ready(result) => Resumed::Ends(result),
            Poll::Pending => match self.mailbox.replace(Mail::Nothing) {
                Mail::Asked(question) => Resumed::Asks(question),
                _ => panic!("a procedure waits for nothing but answers"),
            },
        }
    }
}

/// What comes of a future that waits for nothing.
///
/// # Panics
/// If it waits.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("what is to be had at once waits for something"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adds_up() -> Coroutine<&'static str, u32, u32> {
        Coroutine::new(|asker| {
            Box::pin(async move { asker.ask("one").await + asker.ask("another").await })
        })
    }

    #[test]
    fn it_asks_one_thing_after_the_other_and_ends() {
        let mut coroutine = adds_up();
        assert_eq!(coroutine.resume(None), Resumed::Asks("one"));
        assert_eq!(coroutine.resume(Some(3)), Resumed::Asks("another"));
        assert_eq!(coroutine.resume(Some(4)), Resumed::Ends(7));
    }

    #[test]
    fn what_it_holds_is_dropped_with_it() {
        struct Held(Rc<RefCell<bool>>);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.replace(true);
            }
        }
        let dropped = Rc::new(RefCell::new(false));
        let held = Held(Rc::clone(&dropped));
        let mut coroutine = Coroutine::<(), (), ()>::new(|asker| {
            Box::pin(async move {
                let _held = held;
                asker.ask(()).await;
            })
        });
        assert_eq!(coroutine.resume(None), Resumed::Asks(()));
        assert!(!*dropped.borrow());
        drop(coroutine);
        assert!(*dropped.borrow());
    }

    #[test]
    #[should_panic(expected = "waits for nothing but answers")]
    fn who_waits_for_something_else_is_told() {
        let mut coroutine = Coroutine::<(), (), ()>::new(|_| Box::pin(std::future::pending()));
        coroutine.resume(None);
    }
}
