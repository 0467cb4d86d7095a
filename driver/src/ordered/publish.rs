//! Making writes durable: sync the data, write the changed words of the bitmap as they
//! were when that sync began, sync again. A step machine of one host operation a step.
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

use crate::blk::{FileRole, HostFailure};
use crate::cow::{PageSnapshot, SectorMap};
use crate::host::HostFile;
use crate::units::FileOffset;

use super::placement::Placement;
use super::statistics::Statistics;
use super::transfer::failure;

/// What is known of the COW file's durability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Durability {
    /// Something was written since the last sync.
    pub(super) unsynced: bool,
    /// A sync has failed: the host may have dropped what it could not write, so no bit may
    /// be published and nothing be called durable until the device is opened again.
    pub(super) failed: bool,
}

/// A publication under way.
#[derive(Debug)]
pub(super) struct Publication {
    stage: Stage,
    snapshots: Vec<PageSnapshot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    SyncData,
    WriteBits { page: usize, bitmap: usize },
    SyncBits,
}

/// What a step of a publication came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublicationStep {
    Working,
    Durable,
}

impl Publication {
    pub(super) fn new() -> Publication {
        Publication {
            stage: Stage::SyncData,
            snapshots: Vec::new(),
        }
    }

    /// Does one stage, or writes one page's bits. An error ends the publication; the bits
    /// that it was about to publish then count as changed again.
    pub(super) fn step<F: HostFile>(
        &mut self,
        cow: &F,
        map: &mut SectorMap,
        placement: &Placement,
        durability: &mut Durability,
        statistics: &mut Statistics,
    ) -> Result<PublicationStep, HostFailure> {
        let result = self.do_stage(cow, map, placement, durability, statistics);
        if result.is_err() {
            for snapshot in &self.snapshots {
                map.restore_changes(snapshot);
            }
        }
        result
    }

    fn do_stage<F: HostFile>(
        &mut self,
        cow: &F,
        map: &mut SectorMap,
        placement: &Placement,
        durability: &mut Durability,
        statistics: &mut Statistics,
    ) -> Result<PublicationStep, HostFailure> {
        match self.stage {
            Stage::SyncData => {
                if let Some(bitmap) = placement.bitmaps().last() {
                    self.snapshots = map.take_changes(bitmap.len);
                }
                if durability.unsynced {
                    sync(cow, durability, statistics)?;
                }
                if self.snapshots.is_empty() {
                    return Ok(PublicationStep::Durable);
                }
                self.stage = Stage::WriteBits { page: 0, bitmap: 0 };
            }
            Stage::WriteBits { page, bitmap } => {
                durability.unsynced = true;
                statistics.bitmap_writes += 1;
                write_bits(cow, &self.snapshots[page], placement, bitmap)?;
                self.stage = if bitmap + 1 < placement.bitmaps().len() {
                    let bitmap = bitmap + 1;
                    Stage::WriteBits { page, bitmap }
                } else if page + 1 < self.snapshots.len() {
                    let page = page + 1;
                    Stage::WriteBits { page, bitmap: 0 }
                } else {
                    Stage::SyncBits
                };
            }
            Stage::SyncBits => {
                sync(cow, durability, statistics)?;
                return Ok(PublicationStep::Durable);
            }
        }
        Ok(PublicationStep::Working)
    }
}

/// Writes the part of a snapshot that the bitmap has room for: during a grow a bitmap may
/// be shorter than the map.
fn write_bits<F: HostFile>(
    cow: &F,
    snapshot: &PageSnapshot,
    placement: &Placement,
    bitmap: usize,
) -> Result<(), HostFailure> {
    let bitmap = placement.bitmaps()[bitmap];
    let room = bitmap.len.0.saturating_sub(snapshot.offset().0);
    let len = (snapshot.bytes().len() as u64).min(room) as usize;
    let at = bitmap.start + snapshot.offset();
    cow.write_all_at(&snapshot.bytes()[..len], at)
        .map_err(|error| failure(FileRole::Cow, at, error))
}

/// Syncs the COW file; a failure is remembered for good.
pub(super) fn sync<F: HostFile>(
    cow: &F,
    durability: &mut Durability,
    statistics: &mut Statistics,
) -> Result<(), HostFailure> {
    statistics.syncs += 1;
    match cow.sync_data() {
        Ok(()) => {
            durability.unsynced = false;
            Ok(())
        }
        Err(error) => {
            durability.failed = true;
            Err(failure(FileRole::Cow, FileOffset(0), error))
        }
    }
}
