//! Whether a backing file is the one that its COW file expects: by its length and time, or, where
//! a tool was changing it, by what the extension block notes of that change.
//!
//! A power cut in the middle of a change may leave the file's length old or new and its time any
//! that it has had, and any part of what was written. Its clean sectors it leaves alone, and
//! those it wrote have their old content or their new one, each whole: by these it is known.

use std::path::Path;

use crate::cow::{BackingChange, Extension, Header, InPlace, LONGEST_PLACE, OtherBacking};
use crate::host::HostFile;
use crate::units::{Bytes, FileOffset};

use super::{Held, NotInChange, OpenError, host};

/// What the COW file at `cow` says about its backing file.
pub(super) struct Expected<'a> {
    pub(super) cow: &'a Path,
    pub(super) header: &'a Header,
    pub(super) extension: Option<Extension>,
    /// The user names another file than the header does: its time is as it is.
    pub(super) any_time: bool,
}

impl Expected<'_> {
    /// Whether `backing`, which is at `path`, is that file.
    ///
    /// # Errors
    /// What is different about it; the host's.
    pub(super) fn check<F: HostFile>(
        &self,
        path: &Path,
        backing: &Held<F>,
    ) -> Result<(), OpenError> {
        let found = OtherBacking {
            len: backing.len(),
            mtime: backing.mtime(),
        };
        let Some(change) = self.extension.and_then(|extension| extension.change) else {
            return self.check_length_and_time(path, found);
        };
        // Where the image goes over to another file, neither changes.
        if change.other == Some(found) {
            return Ok(());
        }
        match change.in_place {
            Some(in_place) => self.check_in_place(path, backing, &in_place),
            None => self
                .check_length_and_time(path, found)
                .map_err(|_| self.not_in_change(path, self.neither(found, change))),
        }
    }

    /// The length that is recorded, for which UML takes the header's.
    fn recorded(&self) -> Bytes {
        (self.extension).map_or(self.header.size, |extension| extension.backing_size)
    }

    /// UML compares with the header's size; after a resize by ubdlab, the extension block has
    /// the size that counts. A backing file that was extended with its device has both.
    fn check_length_and_time(&self, path: &Path, found: OtherBacking) -> Result<(), OpenError> {
        let recorded = self.recorded();
        let stock = !self.header.relocating && found.len == self.header.size;
        if found.len != recorded && !stock {
            return Err(OpenError::BackingSize {
                path: path.to_owned(),
                cow: self.cow.to_owned(),
                found: found.len,
                expected: recorded,
            });
        }
        if found.mtime != self.header.backing_mtime && !self.any_time {
            return Err(OpenError::BackingModified {
                path: path.to_owned(),
                cow: self.cow.to_owned(),
                found: found.mtime,
                expected: self.header.backing_mtime,
            });
        }
        Ok(())
    }

    fn check_in_place<F: HostFile>(
        &self,
        path: &Path,
        backing: &Held<F>,
        change: &InPlace,
    ) -> Result<(), OpenError> {
        let (found, before) = (backing.len(), self.recorded());
        if found != before && found != change.len {
            let problem = NotInChange::Length {
                found,
                before,
                after: change.len,
            };
            return Err(self.not_in_change(path, problem));
        }
        let mut buffer = vec![0; LONGEST_PLACE.bytes().0 as usize];
        for place in change.sample.places() {
            let content = &mut buffer[..place.range.count.bytes().0 as usize];
            let at = FileOffset(place.range.start.bytes().0);
            backing
                .file()
                .read_exact_at(content, at)
                .map_err(host(path, "reading the backing file"))?;
            if !place.may_hold(content) {
                return Err(self.not_in_change(path, NotInChange::Content { at }));
            }
        }
        Ok(())
    }

    /// What was found, and what the file may be: the old one or the new one.
    fn neither(&self, found: OtherBacking, change: BackingChange) -> NotInChange {
        NotInChange::Facts {
            found,
            before: OtherBacking {
                len: self.recorded(),
                mtime: self.header.backing_mtime,
            },
            other: change.other,
        }
    }

    fn not_in_change(&self, path: &Path, problem: NotInChange) -> OpenError {
        OpenError::NotInChange {
            path: path.to_owned(),
            cow: self.cow.to_owned(),
            problem,
        }
    }
}
