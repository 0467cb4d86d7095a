//! `ubdlab kernel-guest`, the first process of a kernel that `ubdlab fuzz --driver kernel` boots.
//! Nobody else can use it: it takes the first serial line of its machine.

use std::process::ExitCode;

use crate::kernel::COMMAND;
use crate::kernel::guest_side::serve;

use super::{Failure, OPERATION_FAILED, output};

/// Whether this is the first process of a machine, and was asked to be such a guest.
pub(super) fn is_asked_for() -> bool {
    let is_first = rustix::process::getpid().is_init();
    is_first
        && std::env::args_os()
            .nth(1)
            .is_some_and(|word| word == COMMAND)
}

/// Serves the laboratory until the machine ends.
pub(super) fn run() -> ExitCode {
    if let Err(error) = serve() {
        output::failure(&Failure(driver::system_words(&error)));
    }
    ExitCode::from(OPERATION_FAILED)
}
