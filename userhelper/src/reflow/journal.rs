//! The journal: how far the frontier has come, durably. Where two records are there, the later one
//! counts.

use driver::cow::JournalRecord;
use driver::host::{FileRole, HostFile};
use driver::ordered::{Desk, Hold, Placement};
use driver::resize::ResizeError;
use driver::units::SectorRange;

use super::Reflow;
use super::undoing::Undo;

const JOURNAL: &str = "writing the journal";

impl Reflow {
    /// Writes the first record, which says that nothing was moved.
    pub(super) async fn write_first_record<F: HostFile>(
        &self,
        desk: &Desk<F>,
    ) -> Result<(), ResizeError> {
        // Records of an earlier reflow would outbid the new ones.
        let mut slots = vec![0; JournalRecord::SLOTS_LEN];
        let at = (self.record.slot_offset() - JournalRecord::slots_offset()).0 as usize;
        let record = self.record.encode();
        slots[at..at + record.len()].copy_from_slice(&record);
        desk.write(FileRole::Cow, JOURNAL, JournalRecord::slots_offset(), slots)
            .await?;
        desk.sync().await
    }

    /// Says, durably, that the frontier has come down to the start of `window`, and lets requests
    /// into it.
    pub(super) async fn record_frontier<F: HostFile>(
        &mut self,
        desk: &Desk<F>,
        window: SectorRange,
        undo: &mut Undo,
    ) -> Result<(), ResizeError> {
        let Some(record) = self.record.next(window.start) else {
            let why = "the journal's record numbers have come to their end";
            return Err(ResizeError::Refused(why.into()));
        };
        let written = async {
            let slot = record.encode().to_vec();
            desk.write(FileRole::Cow, JOURNAL, record.slot_offset(), slot)
                .await?;
            desk.sync().await
        };
        if let Err(error) = written.await {
            desk.decided().await;
            // The record may be on the disk or not. As long as nothing was moved the header
            // goes back; otherwise the slot, so that the record before counts. If that
            // fails too, no write may choose a side any more: the copy may be what counts,
            // and it may lie where clean sectors below the frontier have their old place.
            if undo.before.is_none() && erase(desk, &record).await.is_err() {
                desk.follow(|here| here.refuse_writes()).await?;
            }
            return Err(error);
        }
        self.record = record;
        undo.before = None;
        let placement = Placement::moving(&self.old, &self.new, record.frontier);
        desk.follow(move |here| {
            here.set_placement(placement);
            here.set_hold(Hold::Nothing);
        })
        .await?;
        self.progress.set_frontier(record.frontier);
        Ok(())
    }
}

/// Makes the slot of a record void, durably: the record before it counts then.
async fn erase<F: HostFile>(desk: &Desk<F>, record: &JournalRecord) -> Result<(), ResizeError> {
    let void = vec![0; JournalRecord::SLOTS_LEN / 2];
    desk.write(FileRole::Cow, JOURNAL, record.slot_offset(), void)
        .await?;
    desk.sync_to_undo().await
}
