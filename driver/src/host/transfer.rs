//! Reads and writes that a host carries out in as many calls as it likes: what comes after a call
//! that has done a part, all of it, or nothing.

use crate::units::{Bytes, FileOffset};

use super::{Action, HostError, HostResult};

/// A read or a write under way. What it is about may be of any length, and none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    reads: bool,
    at: FileOffset,
    len: usize,
    done: usize,
}

impl Transfer {
    /// A read of `len` bytes from `at`.
    #[inline]
    pub fn reading(at: FileOffset, len: usize) -> Transfer {
        Transfer {
            reads: true,
            at,
            len,
            done: 0,
        }
    }

    /// A write of `len` bytes to `at`.
    #[inline]
    pub fn writing(at: FileOffset, len: usize) -> Transfer {
        Transfer {
            reads: false,
            at,
            len,
            done: 0,
        }
    }

    /// What an action transfers that goes on until all is done; `None` for any other.
    #[inline]
    pub fn of(action: &Action) -> Option<Transfer> {
        match action {
            Action::Read { at, buffer } => Some(Transfer::reading(*at, buffer.part.len())),
            Action::Write { at, buffer } => Some(Transfer::writing(*at, buffer.part.len())),
            _ => None,
        }
    }

    /// The bytes that are done, from the front on.
    #[inline]
    pub fn done(&self) -> usize {
        self.done
    }

    /// Where in the file what is left begins.
    #[inline]
    pub fn next_at(&self) -> FileOffset {
        self.at + Bytes(self.done as u64)
    }

    /// Whether nothing is left.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.done >= self.len
    }

    /// A call for what was left has done `count` bytes: how the transfer has ended. `None` if it
    /// goes on with what is left now. A read of nothing has met the end of the file, and a write of
    /// nothing would be repeated for ever.
    #[inline]
    pub fn after(&mut self, count: usize) -> Option<HostResult<()>> {
        self.done += count;
        match count {
            _ if self.is_complete() => Some(Ok(())),
            0 if self.reads => Some(Err(HostError::UnexpectedEnd {
                found: self.next_at().0,
                expected: self.at.0 + self.len as u64,
            })),
            0 => Some(Err(HostError::WroteNothing)),
            _ => None,
        }
    }

    /// Has `call` do what is left, from these bytes on in buffer and file, as often as it takes.
    #[inline]
    pub(super) fn carry_out(
        &mut self,
        mut call: impl FnMut(usize, FileOffset) -> HostResult<usize>,
    ) -> HostResult<()> {
        if self.is_complete() {
            return Ok(());
        }
        loop {
            let count = call(self.done, self.next_at())?;
            if let Some(ended) = self.after(count) {
                return ended;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: FileOffset = FileOffset(1000);

    #[test]
    fn a_short_call_is_followed_by_one_for_the_rest() {
        for mut transfer in [Transfer::reading(AT, 100), Transfer::writing(AT, 100)] {
            for (count, done) in [(60, 60), (39, 99)] {
                assert_eq!(transfer.after(count), None);
                assert_eq!(
                    (transfer.done(), transfer.next_at().0),
                    (done, 1000 + done as u64)
                );
            }
            assert_eq!(transfer.after(1), Some(Ok(())));
        }
    }

    #[test]
    fn a_call_that_does_nothing_ends_it_where_something_is_left() {
        let mut reading = Transfer::reading(AT, 100);
        assert_eq!(reading.after(30), None);
        let end = HostError::UnexpectedEnd {
            found: 1030,
            expected: 1100,
        };
        assert_eq!(reading.after(0), Some(Err(end)));
        let mut writing = Transfer::writing(AT, 100);
        assert_eq!(writing.after(0), Some(Err(HostError::WroteNothing)));
        for mut nothing in [Transfer::reading(AT, 0), Transfer::writing(AT, 0)] {
            assert!(nothing.is_complete());
            assert_eq!(nothing.after(0), Some(Ok(())));
        }
    }

    #[test]
    fn what_is_asked_for_in_one_call_does_not_go_on() {
        let buffer = || super::super::Buffer::whole(vec![0; 512]);
        let whole = Action::Read {
            at: AT,
            buffer: buffer(),
        };
        assert_eq!(Transfer::of(&whole), Some(Transfer::reading(AT, 512)));
        for other in [
            Action::read_once(AT, buffer()),
            Action::write_once(AT, buffer()),
            Action::SyncData,
        ] {
            assert_eq!(Transfer::of(&other), None);
        }
    }
}
