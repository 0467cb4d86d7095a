//! Copying ranges between two files of one host: extents are shared where the host can, and
//! what is a hole stays one. What it takes it asks for as operations, of [`Hands`]: of the desk of
//! a resize, or of two files that an image tool has open, on which they are carried out at once.

use std::convert::Infallible;

use driver::at_once;
use driver::host::{
    Action, Buffer, FileRole, FinishedAction, HostError, HostFile, Operation, OperationKind,
    Waiter, carry_out_or_instead,
};
use driver::ordered::Desk;
use driver::resize::ResizeError;
use driver::units::{Bytes, FileOffset, FileRange};

use crate::at_once::AtOnce;
use crate::space::BLOCK;
use crate::zeros::is_zero;

/// What stands in the target before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nothing but a hole: a new file.
    Hole,
    /// Anything: where the source has a hole, the target gets one.
    Anything,
}

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Target,
}

/// Who carries operations out on two files.
pub(crate) trait Hands {
    /// Why they carry nothing out any more.
    type Stopped;

    /// What the source is, among the files that one copy goes from.
    fn source(&self) -> FileRole;

    /// Carries an operation out.
    async fn carry_out(&self, on: End, action: Action) -> Result<FinishedAction, Self::Stopped>;
}

/// Two files that are open here.
pub(crate) struct OnFiles<'a, F> {
    /// What the source is.
    pub(crate) role: FileRole,
    pub(crate) source: &'a F,
    pub(crate) target: &'a F,
}

impl<F> Clone for OnFiles<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for OnFiles<'_, F> {}

impl<F: HostFile> Hands for OnFiles<'_, F> {
    type Stopped = Infallible;

    fn source(&self) -> FileRole {
        self.role
    }

    async fn carry_out(&self, on: End, action: Action) -> Result<FinishedAction, Infallible> {
        let (role, file) = match on {
            End::Source => (self.role, self.source),
            End::Target => (FileRole::New, self.target),
        };
        let operation = Operation {
            waiter: Waiter(0),
            file: role,
            action,
        };
        let finished = operation.carry_out(Some(file), Some(self.source));
        Ok(FinishedAction {
            action: finished.operation.action,
            result: finished.result,
        })
    }
}

/// The COW file of a device and the one that a rebuild makes, at the desk of the rebuild.
impl<F: HostFile> Hands for Desk<F> {
    type Stopped = ResizeError;

    fn source(&self) -> FileRole {
        FileRole::Cow
    }

    async fn carry_out(&self, on: End, action: Action) -> Result<FinishedAction, ResizeError> {
        let file = match on {
            End::Source => FileRole::Cow,
            End::Target => FileRole::New,
        };
        self.operate(file, action).await
    }
}

/// Copies from file to file.
#[derive(Debug)]
pub(crate) struct Copying {
    target: Target,
    at_once: AtOnce,
    can_clone: bool,
    buffer: Vec<u8>,
    copied: Bytes,
    /// The data that was found last, in each source.
    found: Vec<(FileRole, FileRange)>,
}

/// A copy that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyError {
    /// The file that could not be read or written.
    pub(crate) on: End,
    /// What was asked of it.
    pub(crate) kind: OperationKind,
    /// Where in that file.
    pub(crate) at: FileOffset,
    pub(crate) error: HostError,
}

/// Why a copy ended early.
#[derive(Debug)]
pub(crate) enum CopyEnded<S> {
    /// The host.
    Failed(CopyError),
    /// See [`Hands::Stopped`].
    Stopped(S),
}

/// The action, if it has succeeded; `on` which of the files.
///
/// # Errors
/// The host's.
fn succeeded<S>(on: End, ended: FinishedAction) -> Result<Action, CopyEnded<S>> {
    let FinishedAction { action, result } = ended;
    let (kind, at) = (action.kind(), action.range().start);
    let failed = |error| CopyError {
        on,
        kind,
        at,
        error,
    };
    match result {
        Ok(()) => Ok(action),
        Err(error) => Err(CopyEnded::Failed(failed(error))),
    }
}

impl Copying {
    /// Copies into a target in which this stands before, `at_once` in one go.
    pub(crate) fn into(target: Target, at_once: AtOnce) -> Copying {
        Copying {
            target,
            at_once,
            can_clone: true,
            buffer: Vec::new(),
            copied: Bytes(0),
            found: Vec::new(),
        }
    }

    /// How much was read and written, without what is shared.
    pub(crate) fn copied(&self) -> Bytes {
        self.copied
    }

    /// The length of the piece to be copied next: a caller that wants to look up now and
    /// then copies no more at once.
    pub(crate) fn step(&self) -> Bytes {
        match self.can_clone {
            true => self.at_once.shared_a_step(),
            false => self.at_once.copied_a_step(),
        }
    }

    /// Whether extents may turn out to be shared.
    pub(crate) fn may_share(&self) -> bool {
        self.can_clone
    }

    /// Shares a range of the source, holes and all, with the target from `to` on. `false` if the
    /// host shares nothing, and nothing was done. However many extents there are in the range,
    /// it is one call for all of them.
    pub(crate) async fn share<H: Hands>(
        &mut self,
        hands: &H,
        range: FileRange,
        to: FileOffset,
    ) -> Result<bool, CopyEnded<H::Stopped>> {
        Ok(self.can_clone && self.clone_blocks(hands, range, to).await?)
    }

    /// Copies the front of a range of the source to `to` in the target; how much, at least a
    /// sector and at most [`Copying::step`].
    pub(crate) async fn copy<H: Hands>(
        &mut self,
        hands: &H,
        range: FileRange,
        to: FileOffset,
    ) -> Result<Bytes, CopyEnded<H::Stopped>> {
        let shared = FileRange::new(range.start, range.len.min(self.step()));
        if self.share(hands, shared, to).await? {
            return Ok(shared.len);
        }
        let copied = FileRange::new(range.start, range.len.min(self.at_once.copied_a_step()));
        self.copy_data(hands, copied, to).await?;
        Ok(copied.len)
    }

    /// Copies like [`Copying::copy`], between two files that are open here.
    pub(crate) fn copy_now<F: HostFile>(
        &mut self,
        files: OnFiles<'_, F>,
        range: FileRange,
        to: FileOffset,
    ) -> Result<Bytes, CopyError> {
        at_once(self.copy(&files, range, to)).map_err(|ended| match ended {
            CopyEnded::Failed(failed) => failed,
            CopyEnded::Stopped(never) => match never {},
        })
    }

    /// Shares the whole blocks of a range and copies its ends. `false` if the host shares
    /// nothing, and nothing was done.
    async fn clone_blocks<H: Hands>(
        &mut self,
        hands: &H,
        range: FileRange,
        to: FileOffset,
    ) -> Result<bool, CopyEnded<H::Stopped>> {
        if range.start.0 % BLOCK != to.0 % BLOCK {
            self.can_clone = false;
            return Ok(false);
        }
        let Some(blocks) = range.whole_blocks(BLOCK) else {
            self.copy_data(hands, range, to).await?;
            return Ok(true);
        };
        let place = |at: FileOffset| to + (at - range.start);
        let clone = Action::CloneRange {
            source: hands.source(),
            from: blocks,
            to: place(blocks.start),
        };
        let ended = ask(hands, End::Target, clone).await?;
        if ended.result == Err(HostError::Unsupported) {
            self.can_clone = false;
            return Ok(false);
        }
        succeeded(End::Target, ended)?;
        let front = FileRange::between(range.start..blocks.start);
        self.copy_data(hands, front, to).await?;
        let rest = FileRange::between(blocks.end()..range.end());
        self.copy_data(hands, rest, place(blocks.end())).await?;
        Ok(true)
    }

    async fn copy_data<H: Hands>(
        &mut self,
        hands: &H,
        range: FileRange,
        to: FileOffset,
    ) -> Result<(), CopyEnded<H::Stopped>> {
        if Bytes(0) < range.len && range.len <= self.at_once.short() {
            self.read(hands, range).await?;
            if !is_zero(&self.buffer) {
                return self.write(hands, to).await;
            }
        }
        let place = |at: FileOffset| to + (at - range.start);
        let mut at = range.start;
        while let Some(data) = self
            .next_data(hands, FileRange::between(at..range.end()))
            .await?
        {
            self.make_hole(hands, place(at)..place(data.start)).await?;
            at = data.start;
            while at < data.end() {
                let len = (data.end() - at).min(self.at_once.bytes());
                self.read(hands, FileRange::new(at, len)).await?;
                self.write(hands, place(at)).await?;
                at += len;
            }
        }
        self.make_hole(hands, place(at)..place(range.end())).await
    }

    /// Fills the buffer with a range of the source.
    async fn read<H: Hands>(
        &mut self,
        hands: &H,
        range: FileRange,
    ) -> Result<(), CopyEnded<H::Stopped>> {
        let at = range.start;
        let mut data = std::mem::take(&mut self.buffer);
        data.resize(range.len.0 as usize, 0);
        let buffer = Buffer::whole(data);
        let ended = ask(hands, End::Source, Action::Read { at, buffer }).await?;
        self.keep_buffer(succeeded(End::Source, ended)?);
        Ok(())
    }

    /// Writes the buffer to the target.
    async fn write<H: Hands>(
        &mut self,
        hands: &H,
        at: FileOffset,
    ) -> Result<(), CopyEnded<H::Stopped>> {
        let buffer = Buffer::whole(std::mem::take(&mut self.buffer));
        let len = buffer.len();
        let ended = ask(hands, End::Target, Action::Write { at, buffer }).await?;
        self.keep_buffer(succeeded(End::Target, ended)?);
        self.copied += len;
        Ok(())
    }

    fn keep_buffer(&mut self, action: Action) {
        if let Action::Read { buffer, .. } | Action::Write { buffer, .. } = action {
            self.buffer = buffer.data;
        }
    }

    /// The first data in a range of the source, cut to it.
    ///
    /// Where data ends is remembered: a host may have to go through all of it to tell, and it
    /// is asked once for each step of a copy. What was data and has been freed since is copied as
    /// the zeros that it reads as. Holes are not remembered: somebody may write there.
    async fn next_data<H: Hands>(
        &mut self,
        hands: &H,
        range: FileRange,
    ) -> Result<Option<FileRange>, CopyEnded<H::Stopped>> {
        if range.len == Bytes(0) {
            return Ok(None);
        }
        let (source, from) = (hands.source(), range.start);
        let index = self.found.iter().position(|(role, _)| *role == source);
        let known = index.map(|index| self.found.swap_remove(index).1);
        let known = known.filter(|data| data.start <= from && from < data.end());
        let data = match known {
            Some(data) => Some(data),
            None => {
                let action = Action::NextData { from, found: None };
                let ended = ask(hands, End::Source, action).await?;
                match succeeded(End::Source, ended)? {
                    Action::NextData { found, .. } => found,
                    _ => None,
                }
            }
        };
        self.found.extend(data.map(|data| (source, data)));
        Ok(data.and_then(|data| data.common(range)))
    }

    async fn make_hole<H: Hands>(
        &self,
        hands: &H,
        gap: std::ops::Range<FileOffset>,
    ) -> Result<(), CopyEnded<H::Stopped>> {
        if self.target == Target::Hole || gap.start >= gap.end {
            return Ok(());
        }
        let range = FileRange::between(gap);
        let carry_out = async |action| ask(hands, End::Target, action).await;
        let ended = carry_out_or_instead(Action::PunchHole(range), carry_out).await?;
        succeeded(End::Target, ended).map(drop)
    }
}

async fn ask<H: Hands>(
    hands: &H,
    on: End,
    action: Action,
) -> Result<FinishedAction, CopyEnded<H::Stopped>> {
    let ended = hands.carry_out(on, action).await;
    ended.map_err(CopyEnded::Stopped)
}
