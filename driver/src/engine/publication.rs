//! Making writes durable: sync the data, write the changed words of the bitmap as they
//! were when that sync began, sync again. One operation at a time.
//!
//! | power goes after | a reader finds |
//! |---|---|
//! | nothing, or the first sync | the old bits: new sectors read as the backing file's, which is what was durable before |
//! | some of the words | some of the new bits, each with its data, which the first sync made durable |
//! | the second sync | all of it |
//!
//! A word is eight bytes at a multiple of eight from the bitmap's start, which is itself
//! at a multiple of eight in every version, so that no word lies across two sectors and
//! none can tear.
//!
//! Writes go on meanwhile. What has ended when the first sync begins is covered: its bits are taken
//! at that moment, and no others. What ends later belongs to the next publication, also where it
//! is about the same words.

use crate::cow::{PageSnapshot, SectorMap};
use crate::host::{Action, Buffer};

use super::begun::Slot;
use super::placement::Placement;
use super::statistics::Statistics;

/// What is known of the COW file's durability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Durability {
    /// How often something was written.
    changes: u64,
    /// How many of these changes a sync has covered.
    synced: u64,
    /// A sync has failed: the host may have dropped what it could not write, so no bit may
    /// be published and nothing be called durable until the device is opened again.
    pub(crate) failed: bool,
}

/// What a sync covers that begins now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covers(u64);

impl Durability {
    /// Something was written, or may have been.
    #[inline]
    pub(crate) fn note_change(&mut self) {
        self.changes += 1;
    }

    /// Whether something was written that no sync has covered.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.changes != self.synced
    }

    /// A sync begins.
    pub(crate) fn begin_sync(&self) -> Covers {
        Covers(self.changes)
    }

    /// A sync has ended.
    pub(crate) fn end_sync(&mut self, covers: Covers, is_ok: bool) {
        match is_ok {
            true => self.synced = self.synced.max(covers.0),
            false => self.failed = true,
        }
    }

    /// Another file is in the COW file's place, and all of it is durable.
    pub(crate) fn start_anew(&mut self) {
        self.synced = self.changes;
    }
}

/// A publication under way, one of whose operations has been given out.
#[derive(Debug)]
pub(super) struct Publication {
    /// The requests that it completes.
    pub(super) waiters: Vec<Slot>,
    stage: Stage,
    snapshots: Vec<PageSnapshot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    SyncData(Covers),
    WriteBits { page: usize, bitmap: usize },
    SyncBits(Covers),
}

/// What comes next of a publication.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This operation on the COW file.
    Operation(Action),
    /// All that it covers is durable.
    Durable,
}

/// What a publication works on.
pub(super) struct Published<'a> {
    pub(super) map: &'a mut SectorMap,
    pub(super) placement: &'a Placement,
    pub(super) durability: &'a mut Durability,
    pub(super) statistics: &'a mut Statistics,
}

impl Publication {
    /// Begins one; what comes first.
    pub(super) fn begin(waiters: Vec<Slot>, on: &mut Published<'_>) -> (Publication, Next) {
        let snapshots = match on.placement.bitmaps().last() {
            Some(bitmap) => on.map.take_changes(bitmap.len),
            None => Vec::new(),
        };
        let covers = on.durability.begin_sync();
        let mut publication = Publication {
            waiters,
            stage: Stage::SyncData(covers),
            snapshots,
        };
        let next = match on.durability.is_unsynced() {
            true => sync(on),
            false => publication.first_bits(on),
        };
        (publication, next)
    }

    /// The operation that was given out has succeeded; what comes next.
    pub(super) fn go_on(&mut self, on: &mut Published<'_>) -> Next {
        match self.stage {
            Stage::SyncData(covers) => {
                on.durability.end_sync(covers, true);
                self.first_bits(on)
            }
            Stage::WriteBits { page, bitmap } => self.bits_from(page, bitmap + 1, on),
            Stage::SyncBits(covers) => {
                on.durability.end_sync(covers, true);
                Next::Durable
            }
        }
    }

    /// The operation that was given out has failed, and the publication with it: the bits that it
    /// was about to publish count as changed again.
    pub(super) fn fail(&self, on: &mut Published<'_>) {
        if let Stage::SyncData(covers) | Stage::SyncBits(covers) = self.stage {
            on.durability.end_sync(covers, false);
        }
        for snapshot in &self.snapshots {
            on.map.restore_changes(snapshot);
        }
    }

    fn first_bits(&mut self, on: &mut Published<'_>) -> Next {
        match self.snapshots.is_empty() {
            true => Next::Durable,
            false => self.bits_from(0, 0, on),
        }
    }

    /// Writes the part of a snapshot that the next bitmap has room for: during a grow a bitmap may
    /// be shorter than the map. After the last bitmap comes the next snapshot, and after the last
    /// of those the sync.
    fn bits_from(&mut self, page: usize, bitmap: usize, on: &mut Published<'_>) -> Next {
        let (mut page, mut bitmap) = (page, bitmap);
        while let Some(snapshot) = self.snapshots.get(page) {
            let Some(place) = on.placement.bitmaps().get(bitmap) else {
                (page, bitmap) = (page + 1, 0);
                continue;
            };
            let room = place.len.0.saturating_sub(snapshot.offset().0);
            let len = (snapshot.bytes().len() as u64).min(room) as usize;
            if len == 0 {
                bitmap += 1;
                continue;
            }
            self.stage = Stage::WriteBits { page, bitmap };
            on.durability.note_change();
            on.statistics.bitmap_writes += 1;
            return Next::Operation(Action::Write {
                at: place.start + snapshot.offset(),
                buffer: Buffer::whole(snapshot.bytes()[..len].to_vec()),
            });
        }
        self.stage = Stage::SyncBits(on.durability.begin_sync());
        sync(on)
    }
}

fn sync(on: &mut Published<'_>) -> Next {
    on.statistics.syncs += 1;
    Next::Operation(Action::SyncData)
}
