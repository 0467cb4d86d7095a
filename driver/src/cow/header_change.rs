//! Giving a header another path and time of the backing file. Where both lie in one sector, as in
//! V1 and with short paths in V3, writing that sector is all. V2 has the time in another sector
//! than the path, and a long path takes several: a power cut can leave a part of each header.
//!
//! So the new path and time are first written, with a checksum, into the end of the path field
//! ([`super::header_record`]). While that record is valid, a header that names neither the old nor
//! the new backing file is known to be half changed, and what it is to become is known too.
//!
//! | power goes after | a reader finds | recovery |
//! |---|---|---|
//! | part or all of the record was written | the old header | none needed |
//! | part of the header was written | the old header, the new one, or [`HeaderError::HalfChanged`] | writes the new header again |
//! | all of it was written | the same until it is synced, then the new header | none needed |
//! | the record was cleared, or part of it | the new header | none needed |
//!
//! A record that was not cleared does no harm: the header is whole, and the next change writes
//! over it.

use std::ops::Range;
use std::path::Path;

use crate::units::{FileOffset, SECTOR_SIZE};

use super::fields::Version;
use super::header::{Header, HeaderError};
use super::header_record::{HeaderRecord, Naming, RECORD_END};

/// A part of a header to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPiece {
    /// Where in the file.
    pub at: FileOffset,
    /// What.
    pub bytes: Vec<u8>,
}

/// What to write, step by step and with a sync after each, to give a header another path and
/// time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderChange {
    /// The record; nothing where the header changes in one sector.
    pub record: Vec<HeaderPiece>,
    /// The parts of the header that change.
    pub header: Vec<HeaderPiece>,
    /// Zeros in the place of the record, if there is one.
    pub tidy: Vec<HeaderPiece>,
}

impl HeaderChange {
    /// The change of path and time in the header that `start` begins with to these.
    ///
    /// # Errors
    /// What [`Header::decode`] says of `start`; [`HeaderError::BadPath`] if the path does not fit
    /// into its field; [`HeaderError::NoRoomForChange`] if both paths and the record do not fit
    /// into it together.
    pub fn new(start: &[u8], path: &Path, mtime: u32) -> Result<HeaderChange, HeaderError> {
        let old = Header::decode(start)?;
        let new = old.with_backing(path, mtime)?;
        let current = &start[..old.version.header_len().0 as usize];
        let target = new.encode();
        let header = changed(current, &target, 0..target.len());
        if header.iter().map(sectors).sum::<u64>() <= 1 {
            return Ok(HeaderChange {
                record: Vec::new(),
                header,
                tidy: Vec::new(),
            });
        }
        let path_at = old.version.path_offset();
        let record = HeaderRecord::encode(naming(&old), naming(&new));
        let longest = old.backing_path.len().max(new.backing_path.len());
        let begin = RECORD_END
            .checked_sub(record.len())
            .filter(|&begin| path_at.0 as usize + longest < begin)
            .ok_or(HeaderError::NoRoomForChange {
                offset: path_at.0,
                old: old.backing_path.len(),
                new: new.backing_path.len(),
            })?;
        Ok(HeaderChange {
            record: vec![piece(begin, record)],
            header: around_record(current, &target, begin),
            tidy: vec![piece(begin, vec![0; RECORD_END - begin])],
        })
    }

    /// What is left to do of an interrupted change of the header that `start` begins with; `None`
    /// if none was interrupted.
    pub fn resume(start: &[u8]) -> Option<HeaderChange> {
        let (version, _) = Version::of(start).ok()?;
        let current = start.get(..version.header_len().0 as usize)?;
        let record = version.half_done(current)?;
        let mut target = current.to_vec();
        version.put_naming(&mut target, record.new);
        Some(HeaderChange {
            record: Vec::new(),
            header: around_record(current, &target, record.begin),
            tidy: vec![piece(record.begin, vec![0; RECORD_END - record.begin])],
        })
    }
}

fn naming(header: &Header) -> Naming<'_> {
    Naming {
        path: &header.backing_path,
        mtime: header.backing_mtime,
    }
}

fn piece(at: usize, bytes: Vec<u8>) -> HeaderPiece {
    let at = FileOffset(at as u64);
    HeaderPiece { at, bytes }
}

/// How many sectors a piece touches.
fn sectors(piece: &HeaderPiece) -> u64 {
    let end = piece.at.0 + piece.bytes.len() as u64;
    end.div_ceil(SECTOR_SIZE) - piece.at.0 / SECTOR_SIZE
}

/// What differs within `range`, in whole sectors as far as it has them; neighbours are one piece.
fn changed(current: &[u8], target: &[u8], range: Range<usize>) -> Vec<HeaderPiece> {
    let mut pieces: Vec<HeaderPiece> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = ((at / SECTOR_SIZE as usize + 1) * SECTOR_SIZE as usize).min(range.end);
        if current[at..end] != target[at..end] {
            let sector = &target[at..end];
            match pieces.last_mut() {
                Some(last) if last.at.0 as usize + last.bytes.len() == at => {
                    last.bytes.extend_from_slice(sector);
                }
                _ => pieces.push(piece(at, sector.to_vec())),
            }
        }
        at = end;
    }
    pieces
}

/// What differs, but for the record, which begins there.
fn around_record(current: &[u8], target: &[u8], begin: usize) -> Vec<HeaderPiece> {
    let mut pieces = changed(current, target, 0..begin);
    pieces.extend(changed(current, target, RECORD_END..target.len()));
    pieces
}
