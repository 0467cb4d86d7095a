//! Short writes that are carried out where they begin, as long as none of them takes its time.
//!
//! Most file systems take a write into the page cache from the ring only by way of a thread of the
//! kernel, one write after the other: ext4 and tmpfs do. Waking that thread, and being woken by it,
//! costs several times as much as the write, which is a copy into memory. But a write may also wait
//! for the disk: for a sync, for a range that is being freed, for others that have made too much of
//! the page cache dirty. Who has found that out once asks the ring for a while.

use std::time::{Duration, Instant};

use driver::host::Action;
use driver::units::{Bytes, FileOffset};

/// The longest write that is carried out at once.
const LONGEST: Bytes = Bytes(64 << 10);

/// What the page cache keeps. Of a page that is written in part, the rest may have to be read.
const PAGE: u64 = 4096;

/// Many times what a copy into memory takes.
const SLOW: Duration = Duration::from_millis(1);

/// Writes that go to the ring after one that was slow.
const PATIENCE: u32 = 1024;

/// Whether writes are carried out at once.
#[derive(Debug)]
pub(super) struct AtOnce {
    /// Writes that still go to the ring.
    left: u32,
    /// A write that takes longer has waited for something.
    slow: Duration,
}

impl Default for AtOnce {
    fn default() -> AtOnce {
        AtOnce {
            left: 0,
            slow: SLOW,
        }
    }
}

impl AtOnce {
    /// Whether to carry this out at once.
    pub(super) fn takes(&mut self, action: &Action) -> bool {
        let (Action::Write { at, buffer } | Action::WriteOnce { at, buffer, .. }) = action else {
            return false;
        };
        let FileOffset(at) = *at;
        let len = buffer.len();
        let is_whole_pages = at.is_multiple_of(PAGE) && len.0.is_multiple_of(PAGE);
        if !is_whole_pages || len > LONGEST {
            return false;
        }
        let takes = self.left == 0;
        self.left = self.left.saturating_sub(1);
        takes
    }

    /// Carries it out, and notes how long that took.
    pub(super) fn carry_out<T>(&mut self, write: impl FnOnce() -> T) -> T {
        let began = now();
        let written = write();
        self.took(began.elapsed());
        written
    }

    /// Takes note of the time that a write took.
    fn took(&mut self, time: Duration) {
        if time > self.slow {
            self.left = PATIENCE;
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nobody else tells whether the host has waited"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
impl AtOnce {
    /// One for which the ring has all writes of a test.
    pub(super) fn never() -> AtOnce {
        AtOnce {
            left: u32::MAX,
            ..AtOnce::default()
        }
    }

    /// One for which no write is slow, however busy the machine is.
    pub(super) fn always() -> AtOnce {
        AtOnce {
            slow: Duration::MAX,
            ..AtOnce::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use driver::host::Buffer;

    use super::*;

    fn write(at: u64, len: usize) -> Action {
        Action::Write {
            at: FileOffset(at),
            buffer: Buffer::whole(vec![0; len]),
        }
    }

    #[test]
    fn whole_pages_are_written_at_once() {
        let mut at_once = AtOnce::default();
        assert!(at_once.takes(&write(8192, 4096)));
        for action in [
            write(512, 4096),
            write(4096, 512),
            write(0, LONGEST.0 as usize + 4096),
            Action::SyncData,
        ] {
            assert!(!at_once.takes(&action), "{action:?}");
        }
    }

    /// How many writes in a row go to the ring.
    fn refused(at_once: &mut AtOnce) -> usize {
        let takes = std::iter::from_fn(|| Some(at_once.takes(&write(0, 4096))));
        let limit = 2 * PATIENCE as usize;
        takes.take(limit).take_while(|takes| !takes).count()
    }

    #[test]
    fn after_one_that_took_its_time_the_ring_has_the_next_ones() {
        let mut at_once = AtOnce::default();
        at_once.took(SLOW);
        assert_eq!(refused(&mut at_once), 0);
        at_once.took(SLOW + Duration::from_nanos(1));
        // A quick one does not end that.
        at_once.took(Duration::ZERO);
        assert_eq!(refused(&mut at_once), PATIENCE as usize);
        assert_eq!(refused(&mut at_once), 0);
    }

    #[test]
    fn the_time_of_what_is_carried_out_counts() {
        let mut at_once = AtOnce {
            slow: Duration::ZERO,
            ..AtOnce::default()
        };
        // A system call takes more than no time.
        assert!(at_once.carry_out(|| std::fs::metadata("/").is_ok()));
        assert_eq!(refused(&mut at_once), PATIENCE as usize);
        let mut at_once = AtOnce::always();
        assert!(at_once.carry_out(|| std::fs::metadata("/").is_ok()));
        assert_eq!(refused(&mut at_once), 0);
    }
}
