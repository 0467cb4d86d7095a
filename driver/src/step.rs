//! What one step of a driver comes to.

use std::convert::Infallible;

use crate::blk::Completion;

/// What one step of a driver came to. `D` is what it can die of: by default in words.
#[derive(Debug)]
pub enum Step<D = String> {
    /// Nothing is queued.
    Idle,
    /// Nothing can be done before a relocation has had its turn.
    Blocked,
    /// Something was done, and there is more to do.
    Working,
    /// A request is finished.
    Completed(Completion),
    /// The driver is dead, of this; nothing that was in flight will complete.
    Died(D),
}

impl<D> Step<D> {
    /// Maps what it died of.
    #[inline]
    pub fn map_death<E>(self, tell: impl FnOnce(D) -> E) -> Step<E> {
        match self {
            Step::Idle => Step::Idle,
            Step::Blocked => Step::Blocked,
            Step::Working => Step::Working,
            Step::Completed(completion) => Step::Completed(completion),
            Step::Died(death) => Step::Died(tell(death)),
        }
    }
}

/// A step of what never dies.
impl From<Step<Infallible>> for Step {
    #[inline]
    fn from(step: Step<Infallible>) -> Step {
        step.map_death(|never| match never {})
    }
}
