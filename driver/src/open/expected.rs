//! Whether a backing file is the one that its COW file expects: by its length and time, or, where
//! a tool was changing it, by what the extension block notes of that change.
//!
//! A power cut in the middle of a change may leave the file's length old or new and its time any
//! that it has had, and any part of what was written. Its clean sectors it leaves alone, and
//! those it wrote have their old content or their new one, each whole: by these it is known.
//!
//! [`ExpectedBacking`] decides, without a host; who opens a backing file and who only looks at one
//! both ask it, and cannot come to different answers.

use std::path::Path;

use crate::cow::{BackingChange, Extension, Header, InPlace, LONGEST_SAMPLED_RANGE, OtherBacking};
use crate::host::{FileKind, HostFile, OperationKind};
use crate::units::{Bytes, FileOffset};

use super::{Held, NotInChange, OpenError, host};

/// What is found where a backing file should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundBacking {
    /// What it is.
    pub kind: FileKind,
    /// Its length; `None` where nobody knows, as of a block device that is not open.
    pub len: Option<Bytes>,
    /// When it was modified last, in whole seconds since 1970, and not modulo 2^32 as a header
    /// holds it: a message says the time that the file has.
    pub modified_seconds: i64,
}

impl FoundBacking {
    /// Whether a header that holds `mtime`, which is modulo 2^32, is about this time.
    fn was_modified_at(self, mtime: u32) -> bool {
        self.modified_seconds as u32 == mtime
    }
}

/// How a backing file compares with what its COW file expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison<'a> {
    /// It is the one, going by its length, where that is known, and its time.
    Matches,
    /// Its content has to tell, by this: it is being changed itself.
    ContentDecides(&'a InPlace),
    /// It is another.
    Differs(Difference),
}

/// In what a backing file differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is no regular file or block device, but this.
    Kind(FileKind),
    /// Its length.
    Size {
        /// That of the file.
        found: Bytes,
        /// That which the COW file has noted.
        expected: Bytes,
    },
    /// Its time, in seconds since 1970.
    Modified {
        /// That of the file.
        found: i64,
        /// That which the header has, modulo 2^32.
        expected: u32,
    },
    /// A change of the backing file is under way, and this is none of the files that it is about.
    NotInChange(NotInChange),
}

/// What a COW file says about its backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpectedBacking {
    /// The length that is noted.
    recorded: Bytes,
    /// UML compares with the header's size; after a resize by ubdlab, the extension block has the
    /// size that counts. A backing file that was extended with its device has both. In the middle
    /// of a reflow the header's size is that of no file.
    stock: Option<Bytes>,
    mtime: u32,
    any_time: bool,
    change: Option<BackingChange>,
}

impl ExpectedBacking {
    /// What these blocks say; `any_time` if the user names another file than the header does, whose
    /// time is as it is.
    pub fn of(header: &Header, extension: Option<&Extension>, any_time: bool) -> ExpectedBacking {
        ExpectedBacking {
            recorded: extension.map_or(header.size, |extension| extension.backing_size),
            stock: (!header.relocating).then_some(header.size),
            mtime: header.backing_mtime,
            any_time,
            change: extension.and_then(|extension| extension.change),
        }
    }

    /// Compares all but the content.
    pub fn compare(&self, found: FoundBacking) -> Comparison<'_> {
        if let FileKind::Directory | FileKind::Other = found.kind {
            return Comparison::Differs(Difference::Kind(found.kind));
        }
        let Some(change) = &self.change else {
            return match self.by_length_and_time(found) {
                None => Comparison::Matches,
                Some(difference) => Comparison::Differs(difference),
            };
        };
        // Where the image goes over to another file, neither changes.
        let is_other = |other: OtherBacking| {
            found.was_modified_at(other.mtime) && found.len.is_none_or(|len| len == other.len)
        };
        if change.other.is_some_and(is_other) {
            return Comparison::Matches;
        }
        let not_in_change = |problem| Comparison::Differs(Difference::NotInChange(problem));
        match (&change.in_place, found.len) {
            (Some(in_place), Some(found)) if found != self.recorded && found != in_place.len => {
                not_in_change(NotInChange::Length {
                    found,
                    before: self.recorded,
                    after: in_place.len,
                })
            }
            (Some(in_place), _) => Comparison::ContentDecides(in_place),
            (None, _) if self.by_length_and_time(found).is_none() => Comparison::Matches,
            (None, len) => not_in_change(NotInChange::Facts {
                found: len.unwrap_or(self.recorded),
                modified_seconds: found.modified_seconds,
                before: OtherBacking {
                    len: self.recorded,
                    mtime: self.mtime,
                },
                other: change.other,
            }),
        }
    }

    fn by_length_and_time(&self, found: FoundBacking) -> Option<Difference> {
        let is_right = |len: Bytes| len == self.recorded || Some(len) == self.stock;
        if let Some(found) = found.len.filter(|&len| !is_right(len)) {
            return Some(Difference::Size {
                found,
                expected: self.recorded,
            });
        }
        let is_right = found.was_modified_at(self.mtime) || self.any_time;
        (!is_right).then_some(Difference::Modified {
            found: found.modified_seconds,
            expected: self.mtime,
        })
    }
}

/// Whether `backing`, which is at `path`, is what the COW file at `cow` expects.
///
/// # Errors
/// What is different about it; the host's.
pub(super) fn check<F: HostFile>(
    expected: &ExpectedBacking,
    cow: &Path,
    path: &Path,
    backing: &Held<F>,
) -> Result<(), OpenError> {
    let found = FoundBacking {
        kind: backing.kind(),
        len: Some(backing.len()),
        modified_seconds: backing.modified_seconds(),
    };
    let (path_buf, cow_buf) = (path.to_owned(), cow.to_owned());
    let problem = match expected.compare(found) {
        Comparison::Matches => return Ok(()),
        Comparison::ContentDecides(in_place) => match other_content(path, backing, in_place)? {
            None => return Ok(()),
            Some(problem) => problem,
        },
        Comparison::Differs(Difference::NotInChange(problem)) => problem,
        Comparison::Differs(Difference::Kind(kind)) => {
            return Err(OpenError::NotADisk {
                path: path_buf,
                kind,
            });
        }
        Comparison::Differs(Difference::Size { found, expected }) => {
            return Err(OpenError::BackingSize {
                path: path_buf,
                cow: cow_buf,
                found,
                expected,
            });
        }
        Comparison::Differs(Difference::Modified { found, expected }) => {
            return Err(OpenError::BackingModified {
                path: path_buf,
                cow: cow_buf,
                found,
                expected,
            });
        }
    };
    Err(OpenError::NotInChange {
        path: path_buf,
        cow: cow_buf,
        problem,
    })
}

/// The first place of a change that has another content than it may have.
fn other_content<F: HostFile>(
    path: &Path,
    backing: &Held<F>,
    change: &InPlace,
) -> Result<Option<NotInChange>, OpenError> {
    let mut buffer = vec![0; LONGEST_SAMPLED_RANGE.bytes().0 as usize];
    for place in change.sample.ranges() {
        let content = &mut buffer[..place.range.count.bytes().0 as usize];
        let at = FileOffset(place.range.start.bytes().0);
        backing.file().read_exact_at(content, at).map_err(host(
            path,
            OperationKind::Read,
            "reading the backing file",
        ))?;
        if !place.may_hold(content) {
            return Ok(Some(NotInChange::Content { at }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: Bytes = Bytes(32768);
    const MTIME: u32 = 77;

    fn header(size: u64, relocating: bool) -> Header {
        let header = Header::v3(Path::new("/disk"), MTIME, Bytes(size), 4096).unwrap();
        Header {
            relocating,
            ..header
        }
    }

    fn found(len: u64, mtime: u32) -> FoundBacking {
        let modified_seconds = mtime.into();
        FoundBacking {
            kind: FileKind::Regular,
            len: Some(Bytes(len)),
            modified_seconds,
        }
    }

    fn size(found: u64) -> Comparison<'static> {
        Comparison::Differs(Difference::Size {
            found: Bytes(found),
            expected: RECORDED,
        })
    }

    #[test]
    fn the_header_s_size_is_right_too_but_for_the_middle_of_a_reflow() {
        let extension = Extension {
            backing_size: RECORDED,
            change: None,
        };
        for (relocating, with_header_s) in [(false, Comparison::Matches), (true, size(65536))] {
            let header = header(65536, relocating);
            let expected = ExpectedBacking::of(&header, Some(&extension), false);
            assert_eq!(expected.compare(found(32768, MTIME)), Comparison::Matches);
            assert_eq!(expected.compare(found(65536, MTIME)), with_header_s);
            assert_eq!(expected.compare(found(4096, MTIME)), size(4096));
        }
    }

    #[test]
    fn a_length_that_nobody_knows_and_a_time_that_nobody_asks_for_are_right() {
        let unknown = |mtime| FoundBacking {
            kind: FileKind::BlockDevice,
            len: None,
            ..found(0, mtime)
        };
        let modified = |found| {
            Comparison::Differs(Difference::Modified {
                found,
                expected: MTIME,
            })
        };
        let of = |any_time| ExpectedBacking::of(&header(RECORDED.0, false), None, any_time);
        assert_eq!(of(false).compare(unknown(MTIME)), Comparison::Matches);
        assert_eq!(of(false).compare(unknown(1)), modified(1));
        assert_eq!(of(false).compare(found(32768, 1)), modified(1));
        assert_eq!(of(true).compare(found(32768, 1)), Comparison::Matches);
        assert_eq!(of(true).compare(found(512, 1)), size(512));
    }

    /// A header holds a time modulo 2^32; a message says the one that the file has.
    #[test]
    fn a_time_past_32_bits_is_compared_modulo_2_32_and_told_whole() {
        let expected = ExpectedBacking::of(&header(RECORDED.0, false), None, false);
        let at = |seconds| FoundBacking {
            modified_seconds: seconds,
            ..found(RECORDED.0, 0)
        };
        let same = i64::from(MTIME) + (1 << 32);
        assert_eq!(expected.compare(at(same)), Comparison::Matches);
        for found in [same + 1, -1] {
            let expected_difference = Difference::Modified {
                found,
                expected: MTIME,
            };
            assert_eq!(
                expected.compare(at(found)),
                Comparison::Differs(expected_difference)
            );
        }
    }

    #[test]
    fn nothing_but_a_regular_file_or_a_block_device_can_be_it() {
        let expected = ExpectedBacking::of(&header(RECORDED.0, false), None, true);
        for kind in [FileKind::Directory, FileKind::Other] {
            let found = FoundBacking {
                kind,
                ..found(32768, MTIME)
            };
            let differs = Comparison::Differs(Difference::Kind(kind));
            assert_eq!(expected.compare(found), differs);
        }
    }
}
