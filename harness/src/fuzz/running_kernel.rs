//! What of the catalogue was seen on a running kernel, and where that is told. Findings of
//! `ubdlab fuzz --driver kernel` that show it are kept under `docs/findings/`, each with its story;
//! a test judges each of them again.

use std::fmt;

use driver::linux::Defect;

/// The kernel that was fuzzed: the one of Debian's package `user-mode-linux` 6.1um4.
pub const KERNEL: &str = "6.1";

/// Whether a defect was seen on that kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnKernel {
    /// It was, and `docs/findings/` has the finding.
    Seen,
    /// It was, by a test that has this name.
    SeenByTest(&'static str),
    /// It was, where the kernel was held against its model.
    SeenAgainst,
    /// It cannot be, for this reason.
    CannotShow(&'static str),
}

/// Whether this defect was seen.
pub const fn on_kernel(defect: Defect) -> OnKernel {
    use OnKernel::{CannotShow, Seen, SeenAgainst, SeenByTest};
    match defect {
        Defect::FlushNoop
        | Defect::UnorderedPublish
        | Defect::ErrorLeavesBit
        | Defect::BitmapWriteNeverRetried
        | Defect::ZeroWriteIsSuccess
        | Defect::LastRunOffset
        | Defect::ShortReadRestart
        | Defect::OneWordUnderflow
        | Defect::V1V2ShortBitmap
        | Defect::ShortBitmapRead
        | Defect::IntOffsets
        | Defect::BackingSwitchClobbersV1V2
        | Defect::HeaderUnchecked
        | Defect::CreateNotAtomic
        | Defect::FailedDiscardLeavesBits
        | Defect::MemoryPastTheBitmap => Seen,
        Defect::FailedHeaderReadIsSuccess | Defect::SharedErrno => SeenAgainst,
        Defect::LockLostOnClose => SeenByTest("image_peers::lock_lost"),
        Defect::FlushWrongFile => CannotShow("flush-noop hides it"),
        Defect::RequeueLosesBitmap => CannotShow("the pipe has room for all requests of a device"),
        Defect::PartialRequeueDuplicates => CannotShow("repaired in 5.11"),
        Defect::EndOfMapOverrun => CannotShow("repaired before 2.6"),
        Defect::LimitBeforeHeader => CannotShow("since 6.9 only"),
        Defect::V3WideLayout => CannotShow("repaired in 2005"),
        Defect::MtimeSeconds => CannotShow("6.1 compares all of it"),
    }
}

/// As the column of the catalogue has it, a link being one from `docs/`.
#[derive(Clone, Copy, Debug)]
pub struct InColumn(pub Defect);

impl fmt::Display for InColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.name();
        match on_kernel(self.0) {
            OnKernel::Seen => write!(f, "{KERNEL}: [yes](findings/{name}.txt)"),
            OnKernel::SeenByTest(test) => write!(f, "{KERNEL}: yes, in the test `{test}`"),
            OnKernel::SeenAgainst => write!(f, "{KERNEL}: yes, with `--against`"),
            OnKernel::CannotShow(why) => write!(f, "cannot show: {why}"),
        }
    }
}
