//! Writing another path and time of the backing file into the header of a COW file; see
//! [`HeaderChange`] for what a power cut leaves.

use std::path::Path;

use crate::cow::{HeaderChange, HeaderError, HeaderPiece, LONGEST_HEADER};
use crate::host::{HostError, HostFile, HostResult};
use crate::units::FileOffset;

/// Why a header was not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotNamed {
    /// It cannot be; nothing was written.
    Header(HeaderError),
    /// A host operation failed, and the header is what it was.
    Host {
        /// Where in the file.
        at: FileOffset,
        /// What the host said.
        error: HostError,
    },
    /// A host operation failed, and so did putting back what was there: a part of the header is
    /// changed, or all of it.
    HalfDone {
        /// Where in the file.
        at: FileOffset,
        /// What the host said.
        error: HostError,
    },
}

impl NotNamed {
    fn host(at: FileOffset) -> impl FnOnce(HostError) -> NotNamed {
        move |error| NotNamed::Host { at, error }
    }
}

/// The first bytes of a file, as many as tell its header.
pub(crate) fn read_start<F: HostFile>(file: &F) -> HostResult<Vec<u8>> {
    let mut start = vec![0; LONGEST_HEADER.0 as usize];
    let len = file.len()?;
    start.truncate(len.0.min(LONGEST_HEADER.0) as usize);
    file.read_exact_at(&mut start, FileOffset(0))?;
    Ok(start)
}

/// Makes the header of `file` name another backing file, durably.
pub(crate) fn name_backing<F: HostFile>(file: &F, path: &Path, mtime: u32) -> Result<(), NotNamed> {
    let start = read_start(file).map_err(NotNamed::host(FileOffset(0)))?;
    let change = HeaderChange::new(&start, path, mtime).map_err(NotNamed::Header)?;
    let former = |pieces: &[HeaderPiece]| -> Vec<HeaderPiece> {
        let former = |piece: &HeaderPiece| {
            let at = piece.at.0 as usize;
            HeaderPiece {
                at: piece.at,
                bytes: start[at..at + piece.bytes.len()].to_vec(),
            }
        };
        pieces.iter().map(former).collect()
    };
    if let Err((at, error)) = put(file, &change.record) {
        // It would do no harm.
        let _ = put(file, &former(&change.record));
        return Err(NotNamed::Host { at, error });
    }
    if let Err((at, error)) = put(file, &change.header) {
        if put(file, &former(&change.header)).is_err() {
            return Err(NotNamed::HalfDone { at, error });
        }
        let _ = put(file, &former(&change.record));
        return Err(NotNamed::Host { at, error });
    }
    tidy_up(file, &change);
    Ok(())
}

/// Finishes an interrupted change of the header of `file`. Returns whether there was one.
pub(crate) fn finish<F: HostFile>(file: &F) -> Result<bool, NotNamed> {
    let start = read_start(file).map_err(NotNamed::host(FileOffset(0)))?;
    let Some(change) = HeaderChange::resume(&start) else {
        return Ok(false);
    };
    put(file, &change.header).map_err(|(at, error)| NotNamed::HalfDone { at, error })?;
    tidy_up(file, &change);
    Ok(true)
}

/// The header is whole and durable: nobody reads what may be left of the record.
fn tidy_up<F: HostFile>(file: &F, change: &HeaderChange) {
    let _ = put(file, &change.tidy);
}

/// Writes the pieces and syncs, if there are any.
fn put<F: HostFile>(file: &F, pieces: &[HeaderPiece]) -> Result<(), (FileOffset, HostError)> {
    let Some(last) = pieces.last() else {
        return Ok(());
    };
    for piece in pieces {
        let written = file.write_all_at(&piece.bytes, piece.at);
        written.map_err(|error| (piece.at, error))?;
    }
    file.sync_data().map_err(|error| (last.at, error))
}
