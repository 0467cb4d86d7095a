//! Many operations given to the kernel in one call (`io_uring`, Linux 5.11 and later).
//!
//! This is the only file with unsafe code. The kernel reads and writes the buffers of operations
//! while they are under way. Each buffer is on the heap, belongs to the entry of `under_way` that
//! its operation has, and stays there until the kernel has said that it has ended; dropping a
//! [`Uring`] waits for that.
#![expect(unsafe_code, reason = "the kernel is given addresses; see above")]

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Action, Finished, HostError, HostResult, Operation};
use driver::units::FileOffset;
use io_uring::types::{self, Fd, FsyncFlags};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;

use crate::real_files::{RealFile, host_error};

use super::aside::Aside;
use super::at_once::AtOnce;

/// The most operations that are under way.
const DEPTH: u32 = 64;

/// What the entry is known by that waits for the thread beside the ring; no slot has this number.
const ASIDE: u64 = u64::MAX;

/// That something can be read.
const POLL_IN: u32 = 1;
/// How long, in milliseconds, the kernel may be short of something with nothing ending meanwhile.
const PATIENCE_MS: u64 = 10_000;

/// The longest pause before the kernel is asked again, in milliseconds.
const LONGEST_PAUSE_MS: u64 = 64;

/// The most bytes that one entry of the ring is asked for: its length has 32 bits.
const MOST_BYTES: usize = 1 << 30;

/// Why there is no ring: the kernel does not know it, or does not allow it here.
#[derive(Debug, thiserror::Error)]
#[error("io_uring is not to be had here: {}", driver::system_words(.0))]
pub struct NoUring(#[from] pub std::io::Error);

/// An operation whose buffer the kernel may be using.
struct UnderWay {
    operation: Operation,
    /// How many bytes are done.
    done: usize,
    file: Arc<RealFile>,
}

/// A ring of operations shared with the kernel.
pub struct Uring {
    ring: IoUring,
    under_way: Vec<Option<UnderWay>>,
    free: Vec<u32>,
    /// What has ended without the kernel, or in the last look, the first first.
    finished: VecDeque<Finished>,
    /// Carries out what is not for the ring, once there has been any.
    aside: Option<Aside>,
    /// An entry of the ring waits for that.
    listens: bool,
    at_once: AtOnce,
    /// Syncs on the ring.
    syncs: usize,
    /// Since something has ended.
    patience: Patience,
}

impl Uring {
    /// Makes a ring, and sees whether the kernel carries out what is needed.
    ///
    /// # Errors
    /// That it does not, and why.
    pub fn new() -> Result<Uring, NoUring> {
        // The second works with older kernels.
        let mut ring = IoUring::builder()
            .setup_coop_taskrun()
            .build(DEPTH)
            .or_else(|_| IoUring::new(DEPTH))?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Read::CODE, opcode::Write::CODE, opcode::Fsync::CODE];
        let has_all = needed.iter().all(|code| probe.is_supported(*code));
        // Without it no wait has an end but the end of an operation.
        if !has_all || !ring.params().is_feature_ext_arg() {
            return Err(NoUring(std::io::ErrorKind::Unsupported.into()));
        }
        // A filter may let a ring be made, and not be used.
        let nothing = opcode::Nop::new().build();
        // SAFETY: the entry names neither a file nor memory.
        let pushed = unsafe { ring.submission().push(&nothing) };
        if pushed.is_ok() {
            enter_until_ended(|| {
                let ended = ring.completion().next();
                ended.is_none().then(|| ring.submit_and_wait(1))
            })?;
        }
        Ok(Uring {
            ring,
            under_way: (0..DEPTH).map(|_| None).collect(),
            free: (0..DEPTH).rev().collect(),
            finished: VecDeque::with_capacity(DEPTH as usize),
            aside: None,
            listens: false,
            at_once: AtOnce::default(),
            syncs: 0,
            patience: Patience::new(PATIENCE_MS),
        })
    }

    fn count(&self) -> usize {
        DEPTH as usize - self.free.len()
    }

    /// Operations that the thread beside the ring has.
    fn count_aside(&self) -> usize {
        self.aside.as_ref().map_or(0, Aside::under_way)
    }

    /// Has the thread beside the ring carry an operation out.
    fn begin_aside(&mut self, operation: Operation, files: &Files<RealFile>) {
        if self.aside.is_none() {
            self.aside = Aside::start().ok();
        }
        match &mut self.aside {
            Some(aside) => aside.begin(operation, files),
            // There is no thread to be had.
            None => self.finished.push_back(files.carry_out(operation)),
        }
    }

    /// Lets the next wait end when the thread beside the ring has ended an operation.
    fn listen(&mut self) {
        let Some(aside) = &self.aside else {
            return;
        };
        if self.listens || aside.under_way() == 0 {
            return;
        }
        let readable = opcode::PollAdd::new(Fd(aside.wakes()), POLL_IN);
        let entry = readable.build().user_data(ASIDE);
        for _ in 0..2 {
            // SAFETY: the entry names no memory, and the pipe stays open as long as the ring.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_ok() {
                self.listens = true;
                return;
            }
            // The queue is full of what the kernel has not been told of yet.
            let _ = self.ring.submit();
        }
    }

    /// Something that has ended already, and that nobody was given.
    fn next_finished(&mut self) -> Result<Option<Finished>, Died> {
        if let Some(finished) = self.finished.pop_front() {
            return Ok(Some(finished));
        }
        let aside = self.aside.as_mut();
        aside.and_then(Aside::ended).transpose()
    }

    /// Gives the kernel what is left of the operation in `slot`.
    fn push(&mut self, slot: u32) {
        let Some(under_way) = &mut self.under_way[slot as usize] else {
            return;
        };
        let entry = under_way.entry().user_data(u64::from(slot));
        // SAFETY: the entry names a file and a buffer of `under_way[slot]`, which stay where they
        // are until the kernel has ended the operation: nothing takes them out before.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        if pushed.is_err() {
            // The queue is as long as there are slots, and each has one entry at most in it: it is
            // full only of what the kernel has not been told of yet.
            let _ = self.ring.submit();
            // SAFETY: as above.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_err() {
                self.end(slot, Err(HostError::Os(Errno::BUSY.raw_os_error())));
            }
        }
    }

    /// Gives the kernel what has been begun and is still in the queue, without waiting.
    fn submit(&mut self) {
        if !self.ring.submission().is_empty() {
            // What is refused stays in the queue, and the next wait says why.
            let _ = self.ring.submit();
        }
    }

    fn end(&mut self, slot: u32, result: HostResult<()>) {
        if let Some(ended) = self.take_out(slot) {
            self.finished.push_back(Finished {
                operation: ended.operation,
                result,
            });
        }
    }

    /// What the kernel has done with, and whose buffer is ours again.
    fn take_out(&mut self, slot: u32) -> Option<UnderWay> {
        let ended = self.under_way[slot as usize].take()?;
        self.free.push(slot);
        self.syncs -= usize::from(is_sync(&ended.operation.action));
        Some(ended)
    }

    /// Takes what the kernel has ended. Whether there was anything.
    fn take(&mut self) -> bool {
        let mut any = false;
        while let Some(entry) = self.next_entry() {
            any = true;
            if entry.user_data() == ASIDE {
                self.listens = false;
                if let Some(aside) = &mut self.aside {
                    aside.is_awake();
                }
                continue;
            }
            self.patience = Patience::new(PATIENCE_MS);
            let (slot, result) = (entry.user_data() as u32, entry.result());
            let Some(Some(under_way)) = self.under_way.get_mut(slot as usize) else {
                continue;
            };
            match under_way.after(result) {
                After::Ended(result) => self.end(slot, result),
                After::GoesOn => self.push(slot),
                After::NotBegun => {
                    // It is carried out here.
                    if let Some(ended) = self.take_out(slot) {
                        let file = Some(&*ended.file);
                        self.finished
                            .push_back(ended.operation.carry_out(file, None));
                    }
                }
            }
        }
        any
    }

    fn next_entry(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Gives the kernel what has been begun, and waits until an operation has ended, or no longer
    /// than `longest`.
    fn wait_for_one(&mut self, longest: Option<Duration>) -> Result<(), Died> {
        let waited = match longest {
            None => self.ring.submit_and_wait(1),
            Some(longest) => {
                let longest = types::Timespec::from(longest);
                let arguments = types::SubmitArgs::new().timespec(&longest);
                self.ring.submitter().submit_with_args(1, &arguments)
            }
        };
        let gone_on = self.patience.unless_passing(waited);
        gone_on.map_err(|error| Died {
            what: format!("io_uring does not go on: {}", driver::system_words(error)),
        })
    }
}

fn is_sync(action: &Action) -> bool {
    matches!(action, Action::SyncData)
}

/// Enters the kernel until `enter` says with `None` that what it waits for has ended.
fn enter_until_ended(
    mut enter: impl FnMut() -> Option<std::io::Result<usize>>,
) -> std::io::Result<()> {
    let mut patience = Patience::new(PATIENCE_MS);
    while let Some(entered) = enter() {
        patience.unless_passing(entered)?;
    }
    Ok(())
}

/// How long the kernel is asked again where it takes nothing because it is short of memory or of
/// room. Nothing tells when it has it again.
#[derive(Debug)]
struct Patience {
    left_ms: u64,
    /// The last pause; 0 before the first.
    pause_ms: u64,
}

impl Patience {
    fn new(left_ms: u64) -> Patience {
        let pause_ms = 0;
        Patience { left_ms, pause_ms }
    }

    /// Whether the kernel can be asked again: it was not refused, a signal came, the time is over,
    /// or it is short of something. In the last case, after a pause, and not for ever.
    fn unless_passing<T>(&mut self, entered: std::io::Result<T>) -> std::io::Result<()> {
        let Err(error) = entered else {
            return Ok(());
        };
        match Errno::from_io_error(&error) {
            Some(Errno::INTR | Errno::TIME) => Ok(()),
            Some(Errno::AGAIN | Errno::BUSY) if self.left_ms > 0 => {
                self.pause_ms = (2 * self.pause_ms).clamp(1, LONGEST_PAUSE_MS.min(self.left_ms));
                self.left_ms -= self.pause_ms;
                #[expect(
                    clippy::disallowed_methods,
                    reason = "nobody tells when the kernel has memory again"
                )]
                std::thread::sleep(Duration::from_millis(self.pause_ms));
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// What comes after the kernel has ended an entry.
enum After {
    Ended(HostResult<()>),
    GoesOn,
    NotBegun,
}

impl UnderWay {
    /// The entry for what is left to do.
    fn entry(&mut self) -> squeue::Entry {
        let fd = Fd(self.file.as_raw_fd());
        let done = self.done;
        match &mut self.operation.action {
            Action::Read { at, buffer } | Action::ReadOnce { at, buffer, .. } => {
                let left = &mut buffer.data[buffer.part.clone()][done..];
                let len = left.len().min(MOST_BYTES) as u32;
                opcode::Read::new(fd, left.as_mut_ptr(), len)
                    .offset(at.0 + done as u64)
                    .build()
            }
            Action::Write { at, buffer } | Action::WriteOnce { at, buffer, .. } => {
                let left = &buffer.data[buffer.part.clone()][done..];
                let len = left.len().min(MOST_BYTES) as u32;
                opcode::Write::new(fd, left.as_ptr(), len)
                    .offset(at.0 + done as u64)
                    .build()
            }
            _ => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        }
    }

    /// The kernel has ended an entry with this result: bytes, or an error number below 0.
    fn after(&mut self, result: i32) -> After {
        let (at, len, reads) = match &self.operation.action {
            Action::Read { at, buffer } | Action::ReadOnce { at, buffer, .. } => {
                (*at, buffer.part.len(), true)
            }
            Action::Write { at, buffer } | Action::WriteOnce { at, buffer, .. } => {
                (*at, buffer.part.len(), false)
            }
            _ => (FileOffset(0), 0, false),
        };
        if result < 0 {
            return match Errno::from_raw_os_error(-result) {
                // The kernel had nobody to carry it out: no thread could be started for that.
                Errno::CANCELED => After::NotBegun,
                // A sync is never repeated: after one that failed, pages may count as clean.
                Errno::INTR if len > 0 => After::GoesOn,
                Errno::AGAIN if len > 0 => After::NotBegun,
                errno => After::Ended(Err(host_error(errno))),
            };
        }
        self.done += result as usize;
        // What is asked for in one call ends with it, however much of it came.
        if let Action::ReadOnce { count, .. } | Action::WriteOnce { count, .. } =
            &mut self.operation.action
        {
            *count = self.done;
            return After::Ended(Ok(()));
        }
        match result {
            _ if self.done >= len => After::Ended(Ok(())),
            0 if reads => After::Ended(Err(HostError::UnexpectedEnd {
                found: at.0 + self.done as u64,
                expected: at.0 + len as u64,
            })),
            0 => After::Ended(Err(HostError::WroteNothing)),
            _ => After::GoesOn,
        }
    }
}

impl Executor<RealFile> for Uring {
    fn room(&self) -> usize {
        self.free.len().saturating_sub(self.count_aside())
    }

    fn under_way(&self) -> usize {
        self.count() + self.count_aside() + self.finished.len()
    }

    fn begin(&mut self, operation: Operation, files: &Files<RealFile>) {
        let Some(file) = files.of(operation.file) else {
            return self.finished.push_back(files.carry_out(operation));
        };
        let allowed = match &operation.action {
            Action::Read { at, buffer } | Action::ReadOnce { at, buffer, .. } => {
                file.may_read(*at, buffer.len())
            }
            Action::Write { at, buffer } | Action::WriteOnce { at, buffer, .. } => {
                file.may_write(*at, buffer.len())
            }
            Action::SyncData => Ok(()),
            // The ring has no entry for some of them, and none is frequent.
            Action::WriteZeros(_)
            | Action::ZeroRange(_)
            | Action::PunchHole(_)
            | Action::SetLen(_)
            | Action::Len(_)
            | Action::NextData { .. }
            | Action::CloneRange { .. } => return self.begin_aside(operation, files),
        };
        if let Err(error) = allowed {
            return self.finished.push_back(Finished {
                operation,
                result: Err(error),
            });
        }
        // What frees or syncs may hold what a write needs.
        let is_quiet = self.syncs + self.count_aside() == 0;
        if is_quiet && self.at_once.takes(&operation.action) {
            // What was begun before does not wait for this one.
            self.submit();
            let written = self.at_once.carry_out(|| files.carry_out(operation));
            return self.finished.push_back(written);
        }
        let Some(slot) = self.free.pop() else {
            return self.finished.push_back(files.carry_out(operation));
        };
        self.syncs += usize::from(is_sync(&operation.action));
        self.under_way[slot as usize] = Some(UnderWay {
            operation,
            done: 0,
            file: Arc::clone(file),
        });
        self.push(slot);
    }

    fn finished(&mut self, wait: Wait) -> Result<Option<Finished>, Died> {
        loop {
            if let Some(finished) = self.next_finished()? {
                return Ok(Some(finished));
            }
            if self.take() {
                continue;
            }
            if self.count() + self.count_aside() == 0 {
                return Ok(None);
            }
            let longest = match wait {
                Wait::No => {
                    // What was begun goes to the kernel at the latest now.
                    self.submit();
                    self.take();
                    return self.next_finished();
                }
                Wait::ForOne => None,
                Wait::AtMost(longest) => Some(longest),
            };
            self.listen();
            self.wait_for_one(longest)?;
            if longest.is_some() {
                self.take();
                return self.next_finished();
            }
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        while self.count() > 0 {
            if self.wait_for_one(None).is_err() {
                // The kernel may still write into these buffers: they are never given back.
                std::mem::forget(std::mem::take(&mut self.under_way));
                return;
            }
            while let Some(entry) = self.next_entry() {
                // That of the thread beside the ring is none of them.
                let slot = entry.user_data() as usize;
                if let Some(ended) = self.under_way.get_mut(slot)
                    && ended.take().is_some()
                {
                    self.free.push(slot as u32);
                }
            }
        }
    }
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring")
            .field("under_way", &self.count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use driver::host::{Access, Buffer, FileRole, HostNames, OperationKind, Waiter};
    use driver::units::Bytes;

    use super::*;
    use crate::real_files::RealHost;

    fn under_way(action: Action) -> UnderWay {
        let file = RealHost
            .open("/dev/zero".as_ref(), Access::ReadOnly)
            .unwrap();
        UnderWay {
            operation: Operation {
                waiter: Waiter(0),
                file: FileRole::Cow,
                action,
            },
            done: 0,
            file: Arc::new(file),
        }
    }

    #[test]
    fn one_call_ends_with_what_the_kernel_did_of_it() {
        let buffer = || Buffer::whole(vec![0; 512]);
        for action in [
            Action::read_once(FileOffset(0), buffer()),
            Action::write_once(FileOffset(0), buffer()),
        ] {
            for done in [0, 100, 512] {
                let mut ended = under_way(action.clone());
                assert!(matches!(ended.after(done), After::Ended(Ok(()))));
                let (Action::ReadOnce { count, .. } | Action::WriteOnce { count, .. }) =
                    ended.operation.action
                else {
                    panic!("it is another action now");
                };
                assert_eq!(count, done as usize);
            }
        }
    }

    /// A signal may fall on any call, and so on the first that a ring is tried with.
    #[test]
    fn a_ring_is_tried_until_it_is_refused_for_good() {
        let tried = |errnos: &[Errno]| {
            let mut refused = errnos.iter().map(|&errno| Err(std::io::Error::from(errno)));
            enter_until_ended(|| refused.next())
        };
        assert!(tried(&[Errno::INTR, Errno::AGAIN, Errno::BUSY]).is_ok());
        assert!(tried(&[Errno::INTR, Errno::PERM, Errno::INTR]).is_err());
    }

    #[test]
    fn what_passes_is_asked_again_but_not_for_ever() {
        let refused = |errno: Errno| Err::<usize, _>(std::io::Error::from(errno));
        let mut patience = Patience::new(5);
        for errno in [Errno::INTR, Errno::TIME].repeat(1000) {
            assert!(patience.unless_passing(refused(errno)).is_ok());
        }
        assert!(patience.unless_passing(Ok(1)).is_ok());
        // After 1, 2 and 2 ms.
        for errno in [Errno::AGAIN, Errno::BUSY, Errno::AGAIN] {
            assert!(patience.unless_passing(refused(errno)).is_ok());
        }
        for errno in [Errno::AGAIN, Errno::BUSY] {
            assert!(patience.unless_passing(refused(errno)).is_err());
        }
        assert!(patience.unless_passing(refused(Errno::INTR)).is_ok());
        let error = Patience::new(5).unless_passing(refused(Errno::NOMEM));
        let error = error.unwrap_err();
        assert_eq!(driver::system_words(error), "cannot allocate memory");
    }

    /// The kernel carries out what is asked for in one call, as it does all transfers: whoever
    /// began it does not wait.
    #[test]
    fn one_call_goes_onto_the_ring() {
        let Ok(mut uring) = Uring::new() else {
            eprintln!("skipped: there is no ring here");
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [9; 300]).unwrap();
        let files = Files {
            cow: Arc::new(RealHost.open(&path, Access::ReadOnly).unwrap()),
            backing: None,
            new: None,
        };
        let action = Action::read_once(FileOffset(0), Buffer::whole(vec![7; 512]));
        uring.begin(under_way(action).operation, &files);
        assert_eq!((uring.count(), uring.finished.len()), (1, 0));
        let ended = uring.finished(Wait::ForOne).unwrap().unwrap();
        assert_eq!(ended.result, Ok(()));
        let Action::ReadOnce { buffer, count, .. } = ended.operation.action else {
            panic!("it is another action now");
        };
        // All that the file has.
        assert_eq!((count, &buffer.data[..300]), (300, &[9; 300][..]));
    }

    /// A ring that carries every short write out at once, and a file of `pages` pages; `None` where
    /// there is no ring.
    fn at_once_over(pages: usize) -> Option<(Uring, Files<RealFile>, tempfile::TempDir)> {
        let Ok(mut uring) = Uring::new() else {
            eprintln!("skipped: there is no ring here");
            return None;
        };
        uring.at_once = AtOnce::always();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![9_u8; pages * 4096]).unwrap();
        let files = Files {
            cow: Arc::new(RealHost.open(&path, Access::ReadWrite).unwrap()),
            backing: None,
            new: None,
        };
        Some((uring, files, directory))
    }

    fn write_page(page: u64, byte: u8) -> Operation {
        let action = Action::Write {
            at: FileOffset(page * 4096),
            buffer: Buffer::whole(vec![byte; 4096]),
        };
        under_way(action).operation
    }

    /// A write into the page cache ends where it begins, and goes onto the ring when something is
    /// under way that it may have to wait for.
    #[test]
    fn a_short_write_is_carried_out_at_once() {
        let Some((mut uring, files, directory)) = at_once_over(1) else {
            return;
        };
        let path = directory.path().join("file");
        uring.begin(write_page(0, 1), &files);
        assert_eq!((uring.count(), uring.finished.len()), (0, 1));
        assert_eq!(std::fs::read(&path).unwrap(), [1; 4096]);
        assert!(uring.finished(Wait::No).unwrap().is_some());
        for beside in [Action::SyncData, Action::SetLen(Bytes(4096))] {
            uring.begin(under_way(beside).operation, &files);
            uring.begin(write_page(0, 2), &files);
            let writes = uring.count() - uring.syncs;
            assert_eq!((writes, uring.finished.len()), (1, 0));
            while uring.under_way() > 0 {
                let ended = uring.finished(Wait::ForOne).unwrap().unwrap();
                assert_eq!(ended.result, Ok(()));
            }
            uring.begin(write_page(0, 3), &files);
            assert_eq!((uring.count(), uring.syncs), (0, 0));
            assert!(uring.finished(Wait::No).unwrap().is_some());
        }
    }

    /// The kernel is told of a read before the write that comes after it is carried out.
    #[test]
    fn a_write_at_once_does_not_delay_what_was_begun_before() {
        let Some((mut uring, files, _directory)) = at_once_over(2) else {
            return;
        };
        let read = Action::read_once(FileOffset(0), Buffer::whole(vec![7; 512]));
        uring.begin(under_way(read).operation, &files);
        assert!(!uring.ring.submission().is_empty());
        uring.begin(write_page(1, 1), &files);
        assert_eq!((uring.count(), uring.finished.len()), (1, 1));
        assert!(uring.ring.submission().is_empty());
        while uring.under_way() > 0 {
            let ended = uring.finished(Wait::ForOne).unwrap().unwrap();
            assert_eq!(ended.result, Ok(()));
        }
    }

    #[test]
    fn writes_at_once_are_given_back_as_they_were_begun() {
        let Some((mut uring, files, _directory)) = at_once_over(4) else {
            return;
        };
        for page in 0..4 {
            uring.begin(write_page(page, 1), &files);
        }
        let mut ended = Vec::new();
        while let Some(finished) = uring.finished(Wait::No).unwrap() {
            let Action::Write { at, .. } = finished.operation.action else {
                panic!("it is another action now");
            };
            ended.push(at.0 / 4096);
        }
        assert_eq!(ended, [0, 1, 2, 3]);
    }

    /// Looking for data, or freeing it, may take long: who begins it does not wait, and is woken at
    /// its end, beside what is on the ring.
    #[test]
    fn what_is_not_for_the_ring_is_carried_out_beside_it() {
        let Ok(mut uring) = Uring::new() else {
            eprintln!("skipped: there is no ring here");
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, [9; 8192]).unwrap();
        let files = Files {
            cow: Arc::new(RealHost.open(&path, Access::ReadWrite).unwrap()),
            backing: None,
            new: None,
        };
        let room = uring.room();
        let at = FileOffset(0);
        for wait in [Wait::ForOne, Wait::AtMost(Duration::from_secs(600))] {
            let read = Action::read_once(at, Buffer::whole(vec![7; 512]));
            let look = Action::NextData {
                from: at,
                found: None,
            };
            for action in [look, Action::SetLen(Bytes(8192)), read] {
                uring.begin(under_way(action).operation, &files);
            }
            assert_eq!((uring.count(), uring.count_aside()), (1, 2));
            assert_eq!((uring.finished.len(), uring.under_way()), (0, 3));
            assert_eq!(uring.room(), room - 3);
            let mut ended = Vec::new();
            while uring.under_way() > 0 {
                if let Some(finished) = uring.finished(wait).unwrap() {
                    assert_eq!(finished.result, Ok(()));
                    ended.push(finished.operation.action.kind());
                }
            }
            ended.sort_unstable();
            let expected = [
                OperationKind::Read,
                OperationKind::SetLen,
                OperationKind::NextData,
            ];
            assert_eq!(ended, expected);
            assert_eq!(uring.room(), room);
        }
    }

    /// The process of the test below: what it may write into a file ends within the transfer, so
    /// that the kernel writes a part of it, and then nothing.
    #[test]
    #[ignore = "it is run by a_short_write_is_not_taken_for_a_whole_one"]
    fn a_write_past_what_the_process_may_write() {
        let Some(path) = std::env::var_os("UBDLAB_SHORT_WRITE") else {
            return;
        };
        let files = Files {
            cow: Arc::new(RealHost.open(path.as_ref(), Access::ReadWrite).unwrap()),
            backing: None,
            new: None,
        };
        let mut uring = Uring::new().unwrap();
        uring.at_once = AtOnce::never();
        let data: Vec<u8> = (0..8192u32).map(|byte| (byte / 7) as u8).collect();
        let action = Action::Write {
            at: FileOffset(0),
            buffer: Buffer::whole(data),
        };
        uring.begin(under_way(action).operation, &files);
        let ended = uring.finished(Wait::ForOne).unwrap().unwrap();
        assert!(ended.result.is_err(), "{:?}", ended.result);
    }

    #[test]
    fn a_short_write_is_not_taken_for_a_whole_one() {
        if Uring::new().is_err() {
            eprintln!("skipped: there is no ring here");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        // The shell counts in blocks of 512 or of 1024 bytes.
        let limited = "trap '' XFSZ; ulimit -f 4; exec \"$0\" --ignored --exact \"$1\"";
        let test = "executor::uring::tests::a_write_past_what_the_process_may_write";
        let ran = std::process::Command::new("sh")
            .args(["-c", limited])
            .arg(std::env::current_exe().unwrap())
            .arg(test)
            .env("UBDLAB_SHORT_WRITE", &path)
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stdout)
        );
        let written = std::fs::read(&path).unwrap();
        assert!(matches!(written.len(), 2048 | 4096), "{}", written.len());
        let expected = (0..8192u32).map(|byte| (byte / 7) as u8);
        assert!(written.iter().copied().eq(expected.take(written.len())));
    }

    /// Where no thread can be started for it, the kernel cancels what it has not begun.
    #[test]
    fn what_the_kernel_has_not_begun_is_no_failure() {
        let read = || Action::Read {
            at: FileOffset(0),
            buffer: Buffer::whole(vec![0; 512]),
        };
        let cancelled = -Errno::CANCELED.raw_os_error();
        for action in [read(), Action::SyncData] {
            let after = under_way(action).after(cancelled);
            assert!(matches!(after, After::NotBegun));
        }
        // A part that was read goes on from there.
        let mut begun = under_way(read());
        assert!(matches!(begun.after(100), After::GoesOn));
        assert!(matches!(begun.after(412), After::Ended(Ok(()))));
        // A sync that was interrupted is not repeated.
        let interrupted = under_way(Action::SyncData).after(-Errno::INTR.raw_os_error());
        assert!(matches!(interrupted, After::Ended(Err(_))));
    }
}
