//! What a kernel of User-Mode Linux is booted with.

use std::path::Path;

use crate::kernel::CannotFuzz;
use crate::kernel::guest_side::BLKDISCARD;
use crate::kernel::laboratory::Programs;
use crate::programs::{find, named};

/// The kernel, if no other is named.
const KERNEL: &str = "linux.uml";

/// The programs that it takes, with this kernel.
///
/// # Errors
/// What is missing, or why the named kernel cannot be run.
pub(super) fn programs(kernel: Option<&Path>) -> Result<Programs, CannotFuzz> {
    let found = |program: &str, package| {
        find(program).ok_or_else(|| CannotFuzz::Missing {
            program: program.to_owned(),
            package,
        })
    };
    Ok(Programs {
        kernel: match kernel {
            Some(kernel) => named(kernel).map_err(|error| CannotFuzz::Starting {
                kernel: kernel.to_owned(),
                error,
            })?,
            None => found(KERNEL, "user-mode-linux")?,
        },
        ubdlab: std::env::current_exe().map_err(|error| CannotFuzz::File {
            path: "this program".into(),
            error,
        })?,
        blkdiscard: found(BLKDISCARD, "util-linux")?,
    })
}
