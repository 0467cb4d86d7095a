//! How large the tables of a run are. A table of crashes, kills or seeds only gains by its size:
//! every run takes a share of it, and all of it where `UBDLAB_THOROUGH=1` says so, as in CI.

/// Whether everything is to be run.
pub(crate) fn is_thorough() -> bool {
    match std::env::var_os("UBDLAB_THOROUGH") {
        None => false,
        Some(said) => {
            assert_eq!(said, "1", "UBDLAB_THOROUGH: found {said:?}, expected 1");
            true
        }
    }
}

/// The number for a thorough run, or else the usual one.
pub(crate) fn share<T>(thorough: T, usual: T) -> T {
    if is_thorough() { thorough } else { usual }
}

/// All of them, or else every `nth`, the first one included.
pub(crate) fn every<T>(nth: usize, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    all.step_by(share(1, nth))
}
