//! Copying ranges between two files of one host: extents are shared where the host can, and
//! what is a hole stays one.

use driver::host::{HostError, HostFile, clear};
use driver::units::{Bytes, FileOffset, FileRange};

use crate::at_once::AtOnce;
use crate::clone_range::CloneRange;
use crate::space::BLOCK;

/// What stands in the target before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nothing but a hole: a new file.
    Hole,
    /// Anything: where the source has a hole, the target gets one.
    Anything,
}

/// Copies from file to file.
#[derive(Debug)]
pub(crate) struct Copying {
    target: Target,
    at_once: AtOnce,
    can_clone: bool,
    buffer: Vec<u8>,
    copied: Bytes,
    /// The data that was found last, and in which source, by its address.
    found: Option<(usize, FileRange)>,
}

/// A copy that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyError {
    pub(crate) action: CopyAction,
    /// Where in the file that the action was on.
    pub(crate) at: FileOffset,
    pub(crate) error: HostError,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyAction {
    Read,
    Write,
}

impl CopyError {
    fn reading(at: FileOffset) -> impl FnOnce(HostError) -> CopyError {
        let action = CopyAction::Read;
        move |error| CopyError { action, at, error }
    }

    fn writing(at: FileOffset) -> impl FnOnce(HostError) -> CopyError {
        let action = CopyAction::Write;
        move |error| CopyError { action, at, error }
    }
}

impl Copying {
    /// Copies into a target in which this stands before.
    pub(crate) fn into(target: Target) -> Copying {
        Copying {
            target,
            at_once: AtOnce::default(),
            can_clone: true,
            buffer: Vec::new(),
            copied: Bytes(0),
            found: None,
        }
    }

    /// Copies this much at once.
    pub(crate) fn set_at_once(&mut self, at_once: AtOnce) {
        self.at_once = at_once;
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

    /// Shares a range of `source`, holes and all, with `target` from `to` on. `false` if the
    /// host shares nothing, and nothing was done. However many extents there are in the range,
    /// it is one call for all of them.
    pub(crate) fn share<F: CloneRange>(
        &mut self,
        source: &F,
        range: FileRange,
        target: &F,
        to: FileOffset,
    ) -> Result<bool, CopyError> {
        Ok(self.can_clone && self.clone_blocks(source, range, target, to)?)
    }

    /// Copies the front of `range` of `source` to `to` in `target`; how much, at least a
    /// sector and at most [`Copying::step`].
    pub(crate) fn copy<F: CloneRange>(
        &mut self,
        source: &F,
        range: FileRange,
        target: &F,
        to: FileOffset,
    ) -> Result<Bytes, CopyError> {
        let shared = FileRange::new(range.start, range.len.min(self.step()));
        if self.can_clone && self.clone_blocks(source, shared, target, to)? {
            return Ok(shared.len);
        }
        let copied = FileRange::new(range.start, range.len.min(self.at_once.copied_a_step()));
        self.copy_data(source, copied, target, to)?;
        Ok(copied.len)
    }

    /// Shares the whole blocks of a range and copies its ends. `false` if the host shares
    /// nothing, and nothing was done.
    fn clone_blocks<F: CloneRange>(
        &mut self,
        source: &F,
        range: FileRange,
        target: &F,
        to: FileOffset,
    ) -> Result<bool, CopyError> {
        let first = FileOffset(range.start.0.next_multiple_of(BLOCK));
        let last = FileOffset(range.end().0 / BLOCK * BLOCK);
        if range.start.0 % BLOCK != to.0 % BLOCK {
            self.can_clone = false;
            return Ok(false);
        }
        if first >= last {
            self.copy_data(source, range, target, to)?;
            return Ok(true);
        }
        let place = |at: FileOffset| to + (at - range.start);
        let blocks = FileRange::between(first..last);
        match target.clone_range(source, blocks, place(first)) {
            Err(HostError::Unsupported) => {
                self.can_clone = false;
                return Ok(false);
            }
            result => result.map_err(CopyError::writing(place(first)))?,
        }
        self.copy_data(source, FileRange::between(range.start..first), target, to)?;
        let rest = FileRange::between(last..range.end());
        self.copy_data(source, rest, target, place(last))?;
        Ok(true)
    }

    fn copy_data<F: HostFile>(
        &mut self,
        source: &F,
        range: FileRange,
        target: &F,
        to: FileOffset,
    ) -> Result<(), CopyError> {
        if Bytes(0) < range.len && range.len <= self.at_once.short() {
            self.buffer.resize(range.len.0 as usize, 0);
            source
                .read_exact_at(&mut self.buffer, range.start)
                .map_err(CopyError::reading(range.start))?;
            if !is_zero(&self.buffer) {
                target
                    .write_all_at(&self.buffer, to)
                    .map_err(CopyError::writing(to))?;
                self.copied += range.len;
                return Ok(());
            }
        }
        let place = |at: FileOffset| to + (at - range.start);
        let mut at = range.start;
        while let Some(data) = self
            .next_data(source, FileRange::between(at..range.end()))
            .map_err(CopyError::reading(at))?
        {
            self.make_hole(target, place(at)..place(data.start))?;
            at = data.start;
            while at < data.end() {
                let len = (data.end() - at).min(self.at_once.bytes());
                self.buffer.resize(len.0 as usize, 0);
                source
                    .read_exact_at(&mut self.buffer, at)
                    .map_err(CopyError::reading(at))?;
                target
                    .write_all_at(&self.buffer, place(at))
                    .map_err(CopyError::writing(place(at)))?;
                self.copied += len;
                at += len;
            }
        }
        self.make_hole(target, place(at)..place(range.end()))
    }

    /// The first data in a range of the source, cut to it.
    ///
    /// Where data ends is remembered: a host may have to go through all of it to tell, and it
    /// is asked once for each step of a copy. What was data and has been freed since is copied as
    /// the zeros that it reads as. Holes are not remembered: somebody may write there.
    fn next_data<F: HostFile>(
        &mut self,
        source: &F,
        range: FileRange,
    ) -> Result<Option<FileRange>, HostError> {
        if range.len == Bytes(0) {
            return Ok(None);
        }
        let which = std::ptr::from_ref(source).addr();
        let known = self.found.filter(|&(found_in, data)| {
            found_in == which && data.start <= range.start && range.start < data.end()
        });
        let data = match known {
            Some((_, data)) => Some(data),
            None => source.next_data(range.start)?,
        };
        self.found = data.map(|data| (which, data));
        Ok(data.filter(|data| data.start < range.end()).map(|data| {
            let end = data.end().min(range.end());
            FileRange::between(data.start.max(range.start)..end)
        }))
    }

    fn make_hole<F: HostFile>(
        &self,
        target: &F,
        gap: std::ops::Range<FileOffset>,
    ) -> Result<(), CopyError> {
        if self.target == Target::Hole || gap.start >= gap.end {
            return Ok(());
        }
        let range = FileRange::between(gap);
        clear(target, range).map_err(CopyError::writing(range.start))
    }
}

/// Whether there is nothing but zeros, so that it may have been a hole.
pub(crate) fn is_zero(data: &[u8]) -> bool {
    let (words, rest) = data.as_chunks::<64>();
    words.iter().all(|word| *word == [0; 64]) && rest.iter().all(|&byte| byte == 0)
}
