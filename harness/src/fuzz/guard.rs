//! A panic of what is fuzzed is a violation, wherever in a case it comes. So is asking the host, or
//! the machine, for more than any case needs.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sim::Exceeded;

use super::violation::{Kind, Violation};

thread_local! {
    /// How many calls of [`guarded`] this thread is in.
    static GUARDS: Cell<u32> = const { Cell::new(0) };
}

/// Whether a panic of this thread is a violation, and told as one.
pub(crate) fn is_guarded() -> bool {
    GUARDS.get() > 0
}

/// Does `work`; a panic in it is a violation that was seen `when` it says.
///
/// # Errors
/// Those of `work`, and the violation.
pub(super) fn guarded<T, E: From<Violation>>(
    when: &str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    GUARDS.set(GUARDS.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDS.set(GUARDS.get() - 1);
    match done {
        Ok(result) => result,
        Err(panic) => Err(of_panic(&*panic, when).into()),
    }
}

/// What a panic says.
fn of_panic(panic: &(dyn Any + Send), when: &str) -> Violation {
    if let Some(exceeded) = panic.downcast_ref::<Exceeded>() {
        let kind = match exceeded.what.is_endless() {
            true => Kind::DoesNotEnd,
            false => Kind::TooLarge,
        };
        return Violation::new(kind, when, exceeded).with_error(exceeded.what);
    }
    let what = match panic.downcast_ref::<String>() {
        Some(message) => message,
        None => panic.downcast_ref::<&str>().copied().unwrap_or("a panic"),
    };
    Violation::new(Kind::Died, when, what).with_error(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_violation_and_its_words_tell_it_from_others() {
        let guard = |message: &'static str| {
            guarded("then", || -> Result<(), Violation> { panic!("{message}") }).unwrap_err()
        };
        let violation = guard("index 7 of 3");
        assert_eq!(
            (violation.kind, &*violation.what),
            (Kind::Died, "index 7 of 3")
        );
        assert_eq!(violation.cause(), guard("index 12 of 5").cause());
        assert_ne!(violation.cause(), guard("overflow").cause());
    }

    #[test]
    fn a_panic_is_guarded_as_long_as_there_is_a_guard_around_it() {
        let seen = guarded("then", || {
            let inner = guarded("then", || -> Result<(), Violation> { panic!("inside") });
            Ok::<_, Violation>((inner.is_err(), is_guarded()))
        });
        assert_eq!(seen, Ok((true, true)));
        assert!(!is_guarded());
    }

    #[test]
    fn what_ends_well_is_left_alone() {
        assert_eq!(guarded("then", || Ok::<_, Violation>(5)), Ok(5));
    }
}
