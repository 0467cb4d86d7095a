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
use driver::host::{Action, Finished, HostError, HostResult, Operation, Transfer};
use io_uring::types::{self, Fd, FsyncFlags};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;

use crate::real_files::{RealFile, host_error, is_repeated};

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
    /// How far a transfer has come that takes as many entries as it needs.
    transfer: Option<Transfer>,
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
        Ok(Uring::over(ring))
    }

    fn over(ring: IoUring) -> Uring {
        Uring {
            ring,
            under_way: (0..DEPTH).map(|_| None).collect(),
            free: (0..DEPTH).rev().collect(),
            finished: VecDeque::with_capacity(DEPTH as usize),
            aside: None,
            listens: false,
            at_once: AtOnce::default(),
            syncs: 0,
            patience: Patience::new(PATIENCE_MS),
        }
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

    /// Lets the next wait end when the thread beside the ring has ended an operation. Whether it
    /// does, or that thread has nothing under way; otherwise the kernel takes no entry now.
    fn listen(&mut self) -> bool {
        let Some(aside) = &self.aside else {
            return true;
        };
        if self.listens || aside.under_way() == 0 {
            return true;
        }
        let readable = opcode::PollAdd::new(Fd(aside.wakes()), POLL_IN);
        let entry = readable.build().user_data(ASIDE);
        for _ in 0..2 {
            // SAFETY: the entry names no memory, and the pipe stays open as long as the ring.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_ok() {
                self.listens = true;
                return true;
            }
            // The queue is full of what the kernel has not been told of yet.
            let _ = self.ring.submit();
        }
        false
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
        let done = self.transfer.map_or(0, |transfer| transfer.done());
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
        let action = &mut self.operation.action;
        let Ok(done) = usize::try_from(result) else {
            return match Errno::from_raw_os_error(-result) {
                // The kernel had nobody to carry it out: no thread could be started for that.
                Errno::CANCELED => After::NotBegun,
                Errno::AGAIN if is_repeated(action.kind()) => After::NotBegun,
                Errno::INTR if is_repeated(action.kind()) => After::GoesOn,
                errno => After::Ended(Err(host_error(errno))),
            };
        };
        match (&mut self.transfer, action) {
            (Some(transfer), _) => match transfer.after(done) {
                Some(ended) => After::Ended(ended),
                None => After::GoesOn,
            },
            // What is asked for in one call ends with it, however much of it came.
            (None, Action::ReadOnce { count, .. } | Action::WriteOnce { count, .. }) => {
                *count = done;
                After::Ended(Ok(()))
            }
            (None, _) => After::Ended(Ok(())),
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
            transfer: Transfer::of(&operation.action),
            operation,
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
            if !self.listen() && self.count() == 0 {
                // Nothing on the ring would ever end this wait.
                let aside = self.aside.as_mut();
                return aside.and_then(|aside| aside.wait(longest)).transpose();
            }
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
mod tests;
