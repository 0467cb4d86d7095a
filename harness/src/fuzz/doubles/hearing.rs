//! What goes wrong between the host and whoever uses it: errors that are not taken for what they
//! are, and limits that are not kept.

use driver::blk::{Operation, Status};
use driver::host::HostFile;
use driver::ordered::Step;

use crate::sim::{Fault, Mishearing};

use super::{Defective, Double, Driven, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "zeroing-in-part-is-taken-for-done",
        does: "takes a punch or a zeroing that the host has done in part for done",
        seam: Seam::Host(Mishearing {
            takes_for_done: Some(|injected| matches!(injected.fault, Fault::InPart(_))),
            misses_renames: false,
            takes_for_durable: None,
        }),
        found_as: &[Kind::LostWrite, Kind::StaleRead],
        replay: None,
    },
    Double {
        name: "rename-done-is-taken-for-failed",
        does: "takes a rename whose answer was lost for not done, and goes on with the old file",
        seam: Seam::Host(Mishearing {
            takes_for_done: None,
            misses_renames: true,
            takes_for_durable: None,
        }),
        found_as: &[
            Kind::Inconsistent,
            Kind::WrongSize,
            Kind::LostWrite,
            Kind::StaleRead,
            Kind::Zeros,
            Kind::NotExcluded,
        ],
        replay: None,
    },
    Double {
        name: "sync-once-more-is-enough",
        does: "after a failed sync, acknowledges flushes again once a sync has succeeded",
        seam: Seam::driver::<SyncsAgain>(),
        found_as: &[Kind::LostWrite, Kind::Zeros, Kind::StaleRead],
        replay: None,
    },
    Double {
        name: "pending-words-without-a-limit",
        does: "lets any number of words of the bitmap wait for a publication",
        seam: Seam::Opened(|device| device.set_pending_words(u64::MAX)),
        found_as: &[Kind::WrongCompletion],
        replay: None,
    },
];

/// The device refuses flushes after a failed sync, whatever waits. Where no bit waits to be
/// published, this one carries them out: with a sync, which makes nothing durable that the one
/// before gave up.
#[derive(Default)]
struct SyncsAgain;

impl<F: HostFile> Defective<F> for SyncsAgain {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let mut step = device.step();
        if let Step::Completed(completion) = &mut step
            && completion.request.operation == Operation::Flush
            && completion.status == Status::IoError
            && completion.failure.is_none()
            && !device.map().has_changes()
            && device.cow().sync_data().is_ok()
        {
            completion.status = Status::Ok;
        }
        step
    }
}
