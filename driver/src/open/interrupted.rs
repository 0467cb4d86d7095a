//! The reflow that a header says is under way: its journal's last record, and whether that can be
//! one of this file.

use std::path::Path;

use crate::cow::{Extension, Geometry, Header, JournalRecord, MAX_SECTORS, MapTooLarge};
use crate::host::{HostFile, OperationKind};
use crate::units::{Bytes, FileOffset, Sector};

use super::error::OpenError;
use super::held::Held;
use super::{host, no_layout};

/// The last record of the reflow that the header says is under way, and the layout that it leads
/// to.
pub(super) fn interrupted_move<F: HostFile>(
    cow: &Held<F>,
    path: &Path,
    header: &Header,
    is_extended: bool,
) -> Result<(JournalRecord, Geometry), OpenError> {
    if !is_extended {
        return Err(OpenError::Journal {
            path: path.to_owned(),
            at: Extension::OFFSET,
            problem: "there is no valid extension block".into(),
        });
    }
    let record = read_journal(cow.file(), path, header)?;
    let new = record.new_geometry().map_err(no_layout(path, header))?;
    Ok((record, new))
}

/// What every reflow makes sure of before it marks the header: the new layout lies after the old
/// one, and the file is long enough for it.
pub(super) fn check_move(
    path: &Path,
    old: &Geometry,
    new: &Geometry,
    len: Bytes,
) -> Result<(), OpenError> {
    if !JournalRecord::fits(old) {
        return Err(journal_error(path, "the header has no room for a journal"));
    }
    if !new.lies_after(old) || new.capacity() < old.capacity() {
        let problem = "the journal's new layout does not lie after the old one";
        return Err(journal_error(path, problem));
    }
    if new.capacity() > MAX_SECTORS {
        return Err(OpenError::TooLarge {
            path: path.to_owned(),
            error: MapTooLarge {
                found: new.capacity(),
                maximum: MAX_SECTORS,
            },
        });
    }
    if len < new.data_end() - FileOffset(0) {
        return Err(OpenError::DataCutShort {
            path: path.to_owned(),
            found: len,
            expected: new.data_end(),
        });
    }
    Ok(())
}

/// Reads the record that says how far an interrupted reflow has come, and checks that it
/// belongs to this header.
fn read_journal<F: HostFile>(
    file: &F,
    path: &Path,
    header: &Header,
) -> Result<JournalRecord, OpenError> {
    let mut slots = [0; JournalRecord::SLOTS_LEN];
    file.read_exact_at(&mut slots, JournalRecord::slots_offset())
        .map_err(host(path, OperationKind::Read, "reading the journal"))?;
    let record = JournalRecord::latest(&slots)
        .ok_or_else(|| journal_error(path, "neither journal slot holds a valid record"))?;
    if (record.old_size, record.old_alignment) != (header.size, header.alignment) {
        return Err(journal_error(path, "the journal is about another layout"));
    }
    let highest = record.highest_sequence();
    if record.sequence > highest {
        return Err(OpenError::Journal {
            path: path.to_owned(),
            at: record.slot_offset(),
            problem: format!(
                "found record number {}, expected at most {highest} for the device's sectors: no \
                 resize has written it",
                record.sequence
            ),
        });
    }
    if record.frontier > Sector(0) + header.size.whole_sectors() {
        return Err(journal_error(path, "the frontier is past the device's end"));
    }
    Ok(record)
}

fn journal_error(path: &Path, problem: &str) -> OpenError {
    OpenError::Journal {
        path: path.to_owned(),
        at: JournalRecord::slots_offset(),
        problem: problem.into(),
    }
}
