//! Writing another path and time of the backing file into the header of a COW file; see
//! [`HeaderChange`] for what a power cut leaves.

use std::path::Path;

use crate::cow::{HeaderChange, HeaderError, HeaderPiece, LONGEST_HEADER};
use crate::host::{FailedOperation, HostFile, OperationKind};
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
        /// What the host was asked for, and what it said.
        failed: FailedOperation,
    },
    /// A host operation failed, and so did putting back what was there: a part of the header is
    /// changed, or all of it.
    HalfDone {
        /// Where in the file.
        at: FileOffset,
        /// What the host was asked for, and what it said.
        failed: FailedOperation,
    },
}

impl NotNamed {
    fn host(at: FileOffset) -> impl FnOnce(FailedOperation) -> NotNamed {
        move |failed| NotNamed::Host { at, failed }
    }
}

/// The first bytes of a file, as many as tell its header.
pub(crate) fn read_start<F: HostFile>(file: &F) -> Result<Vec<u8>, FailedOperation> {
    let mut start = vec![0; LONGEST_HEADER.0 as usize];
    let len = file.len().map_err(OperationKind::Len.failed())?;
    start.truncate(len.0.min(LONGEST_HEADER.0) as usize);
    file.read_exact_at(&mut start, FileOffset(0))
        .map_err(OperationKind::Read.failed())?;
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
    if let Err((at, failed)) = put(file, &change.record) {
        // It would do no harm.
        let _ = put(file, &former(&change.record));
        return Err(NotNamed::Host { at, failed });
    }
    if let Err((at, failed)) = put(file, &change.header) {
        if put(file, &former(&change.header)).is_err() {
            return Err(NotNamed::HalfDone { at, failed });
        }
        let _ = put(file, &former(&change.record));
        return Err(NotNamed::Host { at, failed });
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
    put(file, &change.header).map_err(|(at, failed)| NotNamed::HalfDone { at, failed })?;
    tidy_up(file, &change);
    Ok(true)
}

/// The header is whole and durable: nobody reads what may be left of the record.
fn tidy_up<F: HostFile>(file: &F, change: &HeaderChange) {
    let _ = put(file, &change.tidy);
}

/// Writes the pieces and syncs, if there are any.
fn put<F: HostFile>(file: &F, pieces: &[HeaderPiece]) -> Result<(), (FileOffset, FailedOperation)> {
    let Some(last) = pieces.last() else {
        return Ok(());
    };
    for piece in pieces {
        let written = file.write_all_at(&piece.bytes, piece.at);
        written.map_err(|error| (piece.at, OperationKind::Write.failed()(error)))?;
    }
    let synced = file.sync_data().map_err(OperationKind::SyncData.failed());
    synced.map_err(|failed| (last.at, failed))
}
