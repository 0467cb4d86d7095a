//! A panic of what is fuzzed is a violation, wherever in a case it comes. So is asking the host, or
//! the machine, for more than any case needs.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sim::Exceeded;

use super::violation::{Kind, Violation};

/// Does `work`; a panic in it is a violation that was seen `when` it says.
///
/// # Errors
/// Those of `work`, and the violation.
pub(super) fn guarded<T, E: From<Violation>>(
    when: &str,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    match catch_unwind(AssertUnwindSafe(work)) {
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
    fn what_ends_well_is_left_alone() {
        assert_eq!(guarded("then", || Ok::<_, Violation>(5)), Ok(5));
    }
}
