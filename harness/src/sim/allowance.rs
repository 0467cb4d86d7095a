//! What may be asked of a simulated host. A program that asks for ever, or for a file as large as
//! its arithmetic mistake, would take the memory or the time of whoever simulates it. It does not
//! listen to errors either. So what exceeds the allowance is not carried out: the run ends in a
//! panic whose payload is [`Exceeded`].

use std::fmt;
use std::panic::panic_any;

use driver::host::OperationKind;
use driver::units::Bytes;

use super::call::Call;

/// What may be asked of a host, counted anew after each crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Operations.
    pub operations: u64,
    /// Bytes written or zeroed, together.
    pub written: Bytes,
    /// The length of a file.
    pub longest_file: Bytes,
    /// The length of one read, write or zeroing.
    pub longest_operation: Bytes,
    /// Unsynced operations that the [snapshots](super::SimHost::keep_snapshots) that nobody has
    /// taken yet hold for themselves, together. Each has a list of them, which shares its older
    /// ones with the others, 128 for the price of one.
    pub at_stake: u64,
}

/// What exceeded an [`Allowance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// What there was too much of.
    pub what: Resource,
    /// The kind of operation that asked for it.
    pub by: OperationKind,
    /// How much was asked for.
    pub asked: u64,
    /// How much is allowed.
    pub allowed: u64,
}

/// What a host is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Operations, without an end to them.
    Operations,
    /// Bytes written, without an end to them.
    Written,
    /// Unsynced operations, without a step's end.
    AtStake,
    /// Bytes of a file.
    FileLength,
    /// Bytes of one operation.
    OperationLength,
}

impl Resource {
    /// Whether it grows with time: what takes too much of it does not end.
    pub fn is_endless(self) -> bool {
        match self {
            Resource::Operations | Resource::Written | Resource::AtStake => true,
            Resource::FileLength | Resource::OperationLength => false,
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::Operations => "host operations",
            Resource::Written => "bytes written",
            Resource::AtStake => "unsynced operations held for the crash points of one step",
            Resource::FileLength => "bytes of one file",
            Resource::OperationLength => "bytes in one host operation",
        })
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exceeded {
            what,
            by,
            asked,
            allowed,
        } = self;
        write!(
            f,
            "found {asked} {what}, the last for a {by:?}, expected at most {allowed}"
        )
    }
}

/// What has been asked of a host so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    allowance: Option<Allowance>,
    operations: u64,
    written: u64,
    at_stake: u64,
}

impl Spent {
    /// Nothing yet, of this allowance.
    pub(crate) fn of(allowance: Allowance) -> Spent {
        Spent {
            allowance: Some(allowance),
            ..Spent::default()
        }
    }

    /// As after a crash.
    pub(crate) fn anew(self) -> Spent {
        Spent {
            allowance: self.allowance,
            ..Spent::default()
        }
    }

    /// An operation is asked for.
    ///
    /// # Panics
    /// With [`Exceeded`], if it is one too many or too large.
    pub(crate) fn spend(&mut self, call: &Call) {
        let Some(allowance) = self.allowance else {
            return;
        };
        let (by, range) = (call.kind, call.range);
        let (len, end) = (range.len.0, range.start.0.saturating_add(range.len.0));
        let (read, written, end) = match by {
            OperationKind::Write | OperationKind::ZeroRange | OperationKind::CloneRange => {
                (0, len, end)
            }
            OperationKind::Read => (len, 0, 0),
            OperationKind::SetLen => (0, 0, end),
            _ => (0, 0, 0),
        };
        self.operations += 1;
        self.written = self.written.saturating_add(written);
        let longest = allowance.longest_operation.0;
        check(Resource::FileLength, by, end, allowance.longest_file.0);
        check(Resource::OperationLength, by, read.max(written), longest);
        check(
            Resource::Operations,
            by,
            self.operations,
            allowance.operations,
        );
        check(Resource::Written, by, self.written, allowance.written.0);
    }

    /// A snapshot is kept that holds this much of unsynced operations for itself.
    ///
    /// # Panics
    /// With [`Exceeded`], if it is one too many.
    pub(crate) fn keep_snapshot(&mut self, by: OperationKind, held: u64) {
        self.at_stake += 1 + held;
        if let Some(allowance) = self.allowance {
            check(Resource::AtStake, by, self.at_stake, allowance.at_stake);
        }
    }

    /// The snapshots were taken.
    pub(crate) fn snapshots_taken(&mut self) {
        self.at_stake = 0;
    }
}

fn check(what: Resource, by: OperationKind, asked: u64, allowed: u64) {
    // Who clears up on the way out of a panic asks the host too, and a second panic would end the
    // process.
    if asked > allowed && !std::thread::panicking() {
        panic_any(Exceeded {
            what,
            by,
            asked,
            allowed,
        });
    }
}
