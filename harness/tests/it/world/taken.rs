//! Which crashes and failures of a story a run takes: all of them, or those at which a row of its
//! table begins, however few changes the row lasts, and every third of the others.

use std::path::PathBuf;

use driver::cow::{Extension, Geometry, Header, JournalRecord};
use driver::units::{Bytes, FileOffset};
use harness::sim::SimHost;

use super::{BACKING, COW};
use crate::support::share::share;

/// One in this many of those that begin no row is taken in a run that is not thorough.
const OTHERS: u64 = 3;

/// What tells a row of a table from the next: the names; of the COW file the header, what belongs
/// to it, and how many sectors are dirty; of the backing file its time and length.
#[derive(PartialEq, Eq)]
struct Row {
    names: Vec<PathBuf>,
    start: Vec<u8>,
    dirty: u32,
    backing: Option<(i64, Bytes)>,
}

impl Row {
    fn of(host: &SimHost) -> Row {
        let cow = host.content(COW);
        let at = |offset: FileOffset, len: u64| {
            let mut bytes = vec![0; len as usize];
            if let Some(cow) = &cow {
                cow.read_at(&mut bytes, offset);
            }
            bytes
        };
        let slots_end = JournalRecord::slots_offset() + Bytes(JournalRecord::SLOTS_LEN as u64);
        let mut start = at(FileOffset(0), slots_end.0);
        let header = Header::decode(&start).ok();
        let geometry = header.and_then(|header| Geometry::of(&header).ok());
        let bitmap = geometry.map(|geometry| geometry.bitmap());
        if let Some(bitmap) = bitmap {
            // Without an extension block, the bitmap may begin where that would be.
            start.truncate(bitmap.start.0.max(Extension::OFFSET.0) as usize);
        }
        let bitmap = bitmap.map_or_else(Vec::new, |bitmap| at(bitmap.start, bitmap.len.0));
        Row {
            names: host.paths(),
            start,
            dirty: bitmap.iter().map(|byte| byte.count_ones()).sum(),
            backing: (host.modified_seconds(BACKING))
                .and_then(|time| Some((time, host.content(BACKING)?.length()))),
        }
    }
}

/// The rows that a story goes through.
pub(crate) struct Rows(Vec<Row>);

impl Rows {
    /// Of the moments before each of its changes and after the last.
    pub(crate) fn of(moments: &[SimHost]) -> Rows {
        Rows(moments.iter().map(Row::of).collect())
    }

    /// Of a story that has come to its end on this host, which has kept snapshots of it.
    pub(crate) fn told_on(host: &SimHost) -> Rows {
        let mut moments = host.take_snapshots();
        moments.push(host.after_kill());
        assert_eq!(moments.len() as u64, host.changes() + 1, "a snapshot each");
        Rows::of(&moments)
    }

    fn is_new_after(&self, change: u64) -> bool {
        let change = change as usize;
        self.0[change] != self.0[change + 1]
    }

    /// Those that are taken of the crashes before these changes.
    pub(crate) fn crashes(&self, all: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
        taken(all, |at| at > 0 && self.is_new_after(at - 1))
    }

    /// Those that are taken of the failures of these changes.
    pub(crate) fn failures(&self, all: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
        taken(all, |at| self.is_new_after(at))
    }
}

fn taken(
    all: impl Iterator<Item = u64>,
    begins_row: impl Fn(u64) -> bool,
) -> impl Iterator<Item = u64> {
    let (nth, mut others) = (share(1, OTHERS), 0);
    all.filter(move |&at| {
        begins_row(at) || {
            others += 1;
            others % nth == 1 % nth
        }
    })
}
