//! What a reader noticed on the way: what it left out, rounded, or had to choose between.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Event;
use super::Nanoseconds;
use super::device::Device;
use super::record::Record;
use super::served::ServedCounts;

/// What was noticed in the part of a trace that has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The event that is taken; `None` if the format has no such choice, or as long as none
    /// was seen.
    pub event: Option<Event>,
    /// How often each event was seen, in the order of [`Event::ALL`].
    pub events: [u64; 3],
    /// Lines or records that were wrong and skipped, as asked for.
    pub skipped: u64,
    /// The first of them, as the error it would have been.
    pub first_skipped: Option<String>,
    /// Lines or records that are no request: comments, and events of other kinds.
    pub others: u64,
    /// Requests of no bytes, which are passed over.
    pub empty: u64,
    /// Requests whose offset or end was not a multiple of 512 bytes, and was rounded outward.
    pub rounded: u64,
    /// Requests with a time before that of the request that they follow.
    pub earlier: u64,
    /// By how much at most.
    pub earlier_by_at_most: Nanoseconds,
    /// Places where the recorder says that it lost events.
    pub lost: u64,
    /// The devices that requests went to, those that were not chosen among them.
    pub devices: BTreeMap<Device, DeviceCounts>,
    /// Requests to devices past the number of those that are listed.
    pub requests_to_other_devices: u64,
    /// Who asked, and how requests ended, where the trace tells.
    pub served: ServedCounts,
}

/// What went to one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceCounts {
    /// Requests.
    pub requests: u64,
    /// Sectors of all of them.
    pub sectors: u64,
    /// The first sector past everything that was touched.
    pub max_end_sector: u64,
}

impl Notes {
    /// Whether this event was seen.
    pub fn has(&self, event: Event) -> bool {
        self.events[event.index()] > 0
    }

    /// Counts a request to `device`, of which `most` are listed; there is no record if the request
    /// is wrong.
    pub(super) fn count_device(&mut self, device: &Device, most: usize, record: Option<&Record>) {
        if self.devices.len() == most && !self.devices.contains_key(device) {
            self.requests_to_other_devices += 1;
            return;
        }
        // Most requests go to a device that is there already: no copy of its name for those.
        let counts = match self.devices.get_mut(device) {
            Some(counts) => counts,
            None => self.devices.entry(device.clone()).or_default(),
        };
        counts.requests += 1;
        if let Some(record) = record {
            counts.sectors = counts.sectors.saturating_add(record.count.0);
            counts.max_end_sector = counts.max_end_sector.max(record.end().0);
        }
    }

    /// Counts a request at `time` that follows one at `before`, if it is the earlier one.
    pub(super) fn count_time(&mut self, time: Nanoseconds, before: Nanoseconds) {
        if let Some(by) = before.0.checked_sub(time.0).filter(|by| *by > 0) {
            self.earlier += 1;
            self.earlier_by_at_most = self.earlier_by_at_most.max(Nanoseconds(by));
        }
    }

    pub(super) fn count_skipped(&mut self, error: &impl ToString) {
        self.skipped += 1;
        self.first_skipped.get_or_insert_with(|| error.to_string());
    }
}
