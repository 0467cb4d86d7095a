//! The path and time that a header is being changed to, for another backing file. They stand in
//! the end of the header's path field, where nobody looks. `docs/format.md` has the table of
//! fields.
//!
//! Only whole records with a good checksum count, and only the path field's own unused bytes
//! can hold one: no guest can write there.

use std::ops::Range;

use super::extension::{is_sealed, seal};
use super::fields::u32_at;

const MAGIC: &[u8; 8] = b"ubdlabN\n";
const VERSION: u32 = 1;

/// The record ends here, with the last whole sector of the path field. A header that ends
/// before lies in one sector, and never needs a record.
pub(super) const RECORD_END: usize = 4096;

/// A NUL begins the record, so that a path before it ends in any case. Then comes the new path,
/// and then this many bytes with the other fields.
const TRAILER_LEN: usize = 40;
const CHECKSUM: Range<usize> = 12..16;
const PATH_LEN: Range<usize> = 16..20;
const MTIME: Range<usize> = 20..24;
const OLD_PATH_LEN: Range<usize> = 24..28;
const OLD_PATH_CHECKSUM: Range<usize> = 28..32;
const OLD_MTIME: Range<usize> = 32..36;

/// What a header says of its backing file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Naming<'a> {
    /// The path, without the NULs after it.
    pub(super) path: &'a [u8],
    /// The time.
    pub(super) mtime: u32,
}

/// As much of it as tells two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    path_len: u32,
    path_checksum: u32,
    mtime: u32,
}

impl Naming<'_> {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint {
            path_len: self.path.len() as u32,
            path_checksum: crc32c::crc32c(self.path),
            mtime: self.mtime,
        }
    }
}

/// A valid record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderRecord<'a> {
    /// Where it begins, in bytes from the start of the file.
    pub(super) begin: usize,
    /// What the header is to say.
    pub(super) new: Naming<'a>,
    /// What it said before.
    old: Fingerprint,
}

impl<'a> HeaderRecord<'a> {
    /// The bytes of the record, which have to end at [`RECORD_END`].
    pub(super) fn encode(old: Naming<'_>, new: Naming<'_>) -> Vec<u8> {
        let mut record = vec![0];
        record.extend_from_slice(new.path);
        let trailer_at = record.len();
        record.resize(trailer_at + TRAILER_LEN, 0);
        let trailer = &mut record[trailer_at..];
        let old = old.fingerprint();
        trailer[..8].copy_from_slice(MAGIC);
        for (field, value) in [
            (8..12, VERSION),
            (PATH_LEN, new.path.len() as u32),
            (MTIME, new.mtime),
            (OLD_PATH_LEN, old.path_len),
            (OLD_PATH_CHECKSUM, old.path_checksum),
            (OLD_MTIME, old.mtime),
        ] {
            trailer[field].copy_from_slice(&value.to_be_bytes());
        }
        seal(&mut record, checksum_of(trailer_at));
        record
    }

    /// The record in the header at the start of a file, whose path field begins at `path_at`.
    pub(super) fn decode(header: &'a [u8], path_at: usize) -> Option<HeaderRecord<'a>> {
        let trailer = header.get(RECORD_END - TRAILER_LEN..RECORD_END)?;
        let u32_at = |field| u32_at(trailer, field);
        if &trailer[..8] != MAGIC || u32_at(8..12) != VERSION {
            return None;
        }
        let path_len = u32_at(PATH_LEN) as usize;
        let begin = (RECORD_END - TRAILER_LEN - 1).checked_sub(path_len)?;
        if path_len == 0 || begin <= path_at {
            return None;
        }
        let record = &header[begin..RECORD_END];
        let path = &record[1..=path_len];
        if record[0] != 0 || path.contains(&0) || !is_sealed(record, checksum_of(1 + path_len)) {
            return None;
        }
        Some(HeaderRecord {
            begin,
            new: Naming {
                path,
                mtime: u32_at(MTIME),
            },
            old: Fingerprint {
                path_len: u32_at(OLD_PATH_LEN),
                path_checksum: u32_at(OLD_PATH_CHECKSUM),
                mtime: u32_at(OLD_MTIME),
            },
        })
    }

    /// Whether a header that says this has neither its old content nor its new one. Where it has
    /// one of them, the record is not begun or is done with, and means nothing.
    pub(super) fn is_half_done(&self, now: Naming<'_>) -> bool {
        let now = now.fingerprint();
        now != self.old && now != self.new.fingerprint()
    }
}

/// Where the checksum is in a record whose trailer begins there.
fn checksum_of(trailer_at: usize) -> Range<usize> {
    trailer_at + CHECKSUM.start..trailer_at + CHECKSUM.end
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Naming<'_> = Naming {
        path: b"/images/root.img",
        mtime: 1_060_000_000,
    };
    const NEW: Naming<'_> = Naming {
        path: b"/moved/root.img",
        mtime: 1_070_000_000,
    };

    fn header() -> Vec<u8> {
        let record = HeaderRecord::encode(OLD, NEW);
        let mut header = vec![0; RECORD_END - record.len()];
        header.extend_from_slice(&record);
        header
    }

    #[test]
    fn a_record_survives_the_way_there_and_back() {
        let header = header();
        let record = HeaderRecord::decode(&header, 8).unwrap();
        assert_eq!(record.new, NEW);
        assert!(!record.is_half_done(OLD) && !record.is_half_done(NEW));
        for (path, mtime) in [(OLD.path, NEW.mtime), (NEW.path, OLD.mtime)] {
            assert!(record.is_half_done(Naming { path, mtime }));
        }
    }

    #[test]
    fn the_fields_are_where_the_format_has_them() {
        let header = header();
        let trailer = &header[RECORD_END - 40..];
        assert_eq!(&trailer[..12], b"ubdlabN\n\0\0\0\x01");
        let u32_at = |at: usize| u32::from_be_bytes(trailer[at..at + 4].try_into().unwrap());
        let found = [16, 20, 24, 28, 32, 36].map(u32_at);
        let old_path = crc32c::crc32c(OLD.path);
        assert_eq!(found, [15, NEW.mtime, 16, old_path, OLD.mtime, 0]);
        let begin = RECORD_END - 40 - 15 - 1;
        assert_eq!(&header[begin..begin + 16], b"\0/moved/root.img");
        let mut unsealed = header[begin..].to_vec();
        unsealed[16 + 12..16 + 16].fill(0);
        assert_eq!(u32_at(12), crc32c::crc32c(&unsealed));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let header = header();
        let begin = RECORD_END - 40 - 15 - 1;
        for bit in begin * 8..RECORD_END * 8 {
            let mut changed = header.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(HeaderRecord::decode(&changed, 8), None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_lies_within_the_path_field_after_a_path() {
        let header = header();
        let begin = RECORD_END - 40 - 15 - 1;
        assert!(HeaderRecord::decode(&header, begin - 1).is_some());
        assert!(HeaderRecord::decode(&header, begin).is_none());
        assert!(HeaderRecord::decode(&header[..RECORD_END - 1], 8).is_none());
        for len in [0, 16, 4000, u32::MAX] {
            let mut changed = header.clone();
            changed[RECORD_END - 24..RECORD_END - 20].copy_from_slice(&len.to_be_bytes());
            assert!(HeaderRecord::decode(&changed, 8).is_none(), "{len}");
        }
    }
}
