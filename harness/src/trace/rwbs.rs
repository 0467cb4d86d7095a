//! The letters by which the kernel's block events say what a request is.
//!
//! In this order: `F` for a preflush; the operation, `R`, `W`, `D`, `DE` (secure
//! erase), `F` (flush), `N`, or in newer kernels `WZ` (write-zeroes) and `Z` with a
//! letter (zones); then `F` for FUA and `A`, `S`, `M`, `U` for read-ahead,
//! synchronous, metadata and atomic. Seen on Linux 6.18 and older: write-zeroes is
//! `N` with a count of sectors, as is every operation without a letter of its own,
//! but the others (commands to the device) have none. The first `F` is the
//! operation when no other follows: a request that only flushes is `FF` with the
//! preflush flag, as the block layer makes it, and would be `F` or `FS` without.

use super::TraceOperation;

/// The letters that are expected, for the error when there are others.
pub(super) const EXPECTED: &str =
    "RWBS of an optional F, one of R W D DE F N WZ, an optional F, and A S M U";

/// What the letters say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rwbs {
    /// The operation; `None` for a command to the device (`N` without sectors).
    pub(super) operation: Option<TraceOperation>,
    /// The first `F`.
    pub(super) preflush: bool,
    /// The `F` after the operation.
    pub(super) fua: bool,
}

/// What `letters` say about a request of `sectors` sectors; `None` if they are not
/// such letters, or an operation of zoned devices.
pub(super) fn parse(letters: &str, sectors: u64) -> Option<Rwbs> {
    let mut rest = letters.as_bytes();
    let mut preflush = false;
    if let [b'F', b'R' | b'W' | b'D' | b'E' | b'F' | b'N', ..] = rest {
        preflush = true;
        rest = &rest[1..];
    }
    let (operation, length) = match rest {
        [b'W', b'Z', ..] => (Some(TraceOperation::WriteZeroes), 2),
        [b'D', b'E', ..] => (Some(TraceOperation::Discard), 2),
        [b'R', ..] => (Some(TraceOperation::Read), 1),
        [b'W', ..] => (Some(TraceOperation::Write), 1),
        [b'D' | b'E', ..] => (Some(TraceOperation::Discard), 1),
        [b'F', ..] => (Some(TraceOperation::Flush), 1),
        // blkparse's name for a request that only flushes; the kernel prints FF.
        [b'N', ..] if sectors == 0 && preflush => (Some(TraceOperation::Flush), 1),
        [b'N', ..] if sectors == 0 => (None, 1),
        [b'N', ..] => (Some(TraceOperation::WriteZeroes), 1),
        _ => return None,
    };
    rest = &rest[length..];
    let fua = rest.first() == Some(&b'F');
    let flags = if fua { &rest[1..] } else { rest };
    if !flags.iter().all(|letter| b"ASMU".contains(letter)) {
        return None;
    }
    // A write without data that has a preflush is how file systems ask for a flush.
    let operation = match operation {
        Some(TraceOperation::Write) if preflush && sectors == 0 => Some(TraceOperation::Flush),
        other => other,
    };
    let with_flags = operation == Some(TraceOperation::Flush) || operation.is_none();
    Some(Rwbs {
        operation,
        preflush: preflush && !with_flags,
        fua: fua && !with_flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_that_the_kernel_prints() {
        use TraceOperation::{Discard, Flush, Read, Write, WriteZeroes};
        for (letters, sectors, operation, preflush, fua) in [
            ("R", 8, Some(Read), false, false),
            ("RA", 8, Some(Read), false, false),
            ("RAM", 8, Some(Read), false, false),
            ("RSM", 8, Some(Read), false, false),
            ("W", 8, Some(Write), false, false),
            ("WS", 8, Some(Write), false, false),
            ("WSM", 8, Some(Write), false, false),
            ("WSMU", 8, Some(Write), false, false),
            ("WFS", 8, Some(Write), false, true),
            ("FWS", 8, Some(Write), true, false),
            ("FWFS", 8, Some(Write), true, true),
            ("FWFSM", 8, Some(Write), true, true),
            ("FWS", 0, Some(Flush), false, false),
            ("FWFS", 0, Some(Flush), false, false),
            ("F", 0, Some(Flush), false, false),
            ("FS", 0, Some(Flush), false, false),
            ("FF", 0, Some(Flush), false, false),
            ("FFS", 0, Some(Flush), false, false),
            ("FFF", 0, Some(Flush), false, false),
            ("D", 8, Some(Discard), false, false),
            ("DS", 8, Some(Discard), false, false),
            ("DES", 8, Some(Discard), false, false),
            ("NS", 8, Some(WriteZeroes), false, false),
            ("N", 0, None, false, false),
            ("FN", 0, Some(Flush), false, false),
            ("FNS", 0, Some(Flush), false, false),
            ("WZS", 8, Some(WriteZeroes), false, false),
        ] {
            let expected = Rwbs {
                operation,
                preflush,
                fua,
            };
            assert_eq!(
                parse(letters, sectors),
                Some(expected),
                "{letters} of {sectors}"
            );
        }
        for letters in ["", "S", "X", "WX", "ZA", "ZR", "FZA", "WSF", "w", "FFFF"] {
            assert_eq!(parse(letters, 8), None, "{letters}");
        }
    }
}
