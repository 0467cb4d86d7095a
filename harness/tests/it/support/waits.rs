//! Tests of what may wait for ever: they fail where it does, and end.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use harness::clock;

use super::cli::TOO_LONG;

/// Longer than anything takes that ends at all.
const LONGEST: Duration = Duration::from_secs(60);

/// What comes within a minute. What keeps somebody waiting does not keep the test.
pub(crate) fn soon<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(LONGEST).expect("somebody waits for ever")
}

/// Looks again and again until this is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = clock::start();
    while !is_so() {
        assert!(started.elapsed() < TOO_LONG, "waits for ever until {what}");
        std::thread::yield_now();
    }
}

/// Does this on a thread of its own, and tells what came of it.
pub(crate) fn elsewhere<T: Send + 'static>(
    act: impl FnOnce() -> T + Send + 'static,
) -> Receiver<T> {
    let (told, tells) = channel();
    std::thread::spawn(move || told.send(act()));
    tells
}
