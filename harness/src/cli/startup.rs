//! How the process was started, looked at before Rust's runtime changes it.
//!
//! The runtime opens `/dev/null` for each of the three standard descriptors that it finds closed.
//! After that, a report that nobody can read looks like one that its reader asked to throw away.
//! `/dev/null` opened for reading and writing is no evidence either: Python's
//! `subprocess.DEVNULL` is just that.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{Errno, fcntl_getfd};

/// Whether standard output was closed (a shell's `>&-`).
static STDOUT_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Runs before `main`, and before the runtime's own preparations.
#[ctor::ctor]
fn look() {
    let found = fcntl_getfd(rustix::stdio::stdout());
    STDOUT_WAS_CLOSED.store(found == Err(Errno::BADF), Ordering::Relaxed);
}

/// Whether the program was started without a standard output.
pub(super) fn stdout_was_closed() -> bool {
    STDOUT_WAS_CLOSED.load(Ordering::Relaxed)
}
