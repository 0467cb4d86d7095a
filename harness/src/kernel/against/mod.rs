//! Kernel and model side by side. What was recorded of a kernel's driver is held against a model of
//! it, operation by operation: the model gets the requests of the same case, and has to ask its
//! host for the same things, with the same bytes, in the same order. The host answers it as it has
//! answered the kernel, failures included. What the guest has heard has to be the same too:
//! whether the device opens, its size, the status of each request, and each byte of each read.
//!
//! - `asked`: an operation, as it can be seen from outside.
//! - `block_layer`: the rules by which a guest's requests become those of a driver.
//! - `opening`: the opening of a device, and what the kernel reads of it by itself.
//! - `comparing`: a life, word by word and operation by operation; `choosing` says which request
//!   comes next, `hearing` compares what the guests hear, `answering` is the model's host, and
//!   `misheard` is what the driver has heard of it otherwise.
//! - [`difference`]: the first thing in which the two differ, as a file that needs no kernel, and
//!   its story.
//! - [`campaign`]: many cases.
//!
//! # What is not compared
//!
//! Locks, attributes and the opening of files: a recording has none of them. The number of the
//! error with which a device does not open. What a kernel's memory held where it did not belong to
//! the driver: the bytes that are written past the end of a bitmap are passed over. Where such
//! memory stands for bits, the comparison of a case ends, which is counted: after a short read of
//! the bitmap, and in V1 and V2 at the sectors that have no bit in the file. So it does where such
//! memory stands for the header, after a read of it that has failed, and holds another one than
//! that of the opening before. Which error of the host the driver hears as another, or as none, is
//! taken from the recording, and counted. The error of a place that no file has (int-offsets) is
//! not in a recording: at a difference that a driver with such a place shows, the comparison ends.

mod answering;
mod asked;
mod block_layer;
pub mod campaign;
mod choosing;
mod comparing;
pub mod difference;
mod hearing;
mod misheard;
mod opening;

use driver::linux::{Defect, Defects};

use crate::fuzz::case::{Case, DriverName};
use crate::fuzz::defect::CaseDefect;
use crate::fuzz::recorded::Recording;
use crate::fuzz::world::NotRelived;

pub use difference::Difference;

use misheard::compare_as_heard;

/// What a comparison has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Requests of the guest that have ended alike.
    pub requests: u64,
    /// Host operations that were alike.
    pub host_operations: u64,
    /// Sectors that reads have brought, all of them compared.
    pub sectors_read: u64,
    /// Errors of the host that the kernel has heard as others, or as none.
    pub misheard: u64,
    /// The first difference, at which the comparison has ended.
    pub difference: Option<Difference>,
    /// Why the rest of the recording was not compared.
    pub cut_short: Option<&'static str>,
}

/// Holds what was recorded of a case against a model.
///
/// # Errors
/// If the recording is not of the case.
pub fn compare(
    case: &Case,
    recording: &Recording,
    against: DriverName,
) -> Result<Compared, NotRelived> {
    let case = modelled(case, against, &recording.kernel);
    compare_as_heard(&case, recording)
}

/// The case, with the model that a kernel is held against as its driver.
fn modelled(case: &Case, against: DriverName, kernel: &str) -> Case {
    let defects = defects_of(kernel);
    Case {
        driver: against,
        defects: defects.iter().map(CaseDefect::Kernel).collect(),
        ..case.clone()
    }
}

/// The defects of a kernel that says this of itself. [`Defect::LimitBeforeHeader`] came with Linux
/// 6.9. All others of 6.12 have been there since 5.11.
fn defects_of(kernel: &str) -> Defects {
    let all = Defects::LINUX_6_12;
    match version(kernel) {
        Some(found) if found < (6, 9) => all.without(Defect::LimitBeforeHeader),
        _ => all,
    }
}

/// The version in `Linux (none) 6.1.176 #1 Sat ..`.
fn version(kernel: &str) -> Option<(u32, u32)> {
    kernel.split_whitespace().find_map(|word| {
        let (major, rest) = word.split_once('.')?;
        let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some((major.parse().ok()?, minor.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_before_6_9_lacks_the_defect_that_came_with_it() {
        for (kernel, has_it) in [
            (
                "Linux (none) 6.1.176 #1 Sat Jul  4 15:38:16 UTC 2026 x86_64",
                false,
            ),
            ("Linux (none) 6.8.0-rc1 #1", false),
            ("Linux (none) 6.12.3 #1 Sat", true),
            ("Linux of somebody", true),
        ] {
            let defects = defects_of(kernel);
            assert_eq!(
                defects.contains(Defect::LimitBeforeHeader),
                has_it,
                "{kernel}"
            );
            assert!(defects.contains(Defect::FlushNoop));
        }
    }
}
