//! The opening of a device, and what the kernel reads of it by itself. These rules are about what
//! the driver's surroundings do.
//!
//! 1. *The size.* Where the COW file alone is named, the kernel reads its header once more than
//!    it opens the device, to find out the device's size.
//! 2. *Two openings.* The kernel opens the device to look for partitions, and the guest opens it
//!    then. Each opening is one of the model's.
//! 3. *Partitions.* The kernel reads whole pages by itself, each with a request. Its segments are
//!    blocks of the device: of the most bytes, up to a page, that its size is a multiple of. Which
//!    pages these are is taken from the recording.
//! 4. *A header over a bitmap.* What comes in a header after the path is what the kernel's memory
//!    held. A header that is written over the bitmap of V1 or V2 (backing-switch-clobbers-v1-v2)
//!    leaves such bits. Until the device is opened again, what is read of it is not compared.
//! 5. *A raw disk.* Where the COW file alone is named, and its header cannot be read, Linux takes
//!    the file for a raw disk, which the model has none of.
//! 6. *A read of the header that fails.* Linux does not notice the error, and goes on with what its
//!    memory holds there (failed-header-read-is-success): mostly the header of the opening before.
//!    The model is given that one. What is there at the first opening, or when something else has
//!    had the memory since, is not known: where kernel and model differ before the guest has the
//!    device, the comparison ends.

use std::collections::VecDeque;

use driver::blk::{Operation, Request, Segment, Tag, split};
use driver::cow::LONGEST_HEADER;
use driver::exact_count;
use driver::host::{FileRole, OperationKind};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::fuzz::device::Device;
use crate::fuzz::paths::COW;
use crate::fuzz::recorded::{HostRecord, Witnessed};
use crate::sim::{Call, Fault, FaultPlan};

use super::asked::{Asked, is_seen};
use super::comparing::{Comparing, Phase, Stop, asks_for, differs};

/// Rule 5.
const RAW: &str = "the kernel takes the COW file for a raw disk, which the model has none of";

/// Rule 6.
pub(super) const HEADER_OF_MEMORY: &str = "the kernel could not read the header, and what its \
                                           memory held in its place is not known";

/// The bits that a short read of the bitmap has not brought are what memory held.
const HALF_A_BITMAP: &str = "a part of the bitmap is what the kernel's memory held";

/// Bytes of a page of memory.
const PAGE: u64 = 4096;

/// What the host did not do before anything was recorded.
const UNSEEN: &str = "the host has failed in something that a recording does not have";

impl Comparing<'_> {
    /// Whether this is the first thing that is asked when a device is opened.
    pub(super) fn begins_opening(&self, record: &HostRecord) -> bool {
        is_header_read(record) || record.kind == OperationKind::CreateNew.name()
    }

    /// Lets the model open the device, and holds all that it asks against the recording.
    pub(super) fn open(&mut self) -> Result<(), Stop> {
        self.pass_size();
        let records: VecDeque<HostRecord> = self.records().cloned().collect();
        self.device = None;
        self.bitmap = 0..0;
        self.is_clobbered = false;
        let is_unread = |record: &HostRecord| is_header_read(record) && record.errno.is_some();
        self.is_header_unread = records.front().is_some_and(is_unread);
        self.files.clear();
        self.host.take_log();
        let mut expected = records.clone();
        let faults = FaultPlan::default().and(move |call| fault_of(&mut expected, call));
        self.host.set_faults(faults);
        let remembered = self.remembered.take();
        let kept = remembered.clone().filter(|_| self.is_header_unread);
        let opened = Device::open_remembering(&self.host, self.case, self.opening, remembered);
        self.host.set_faults(FaultPlan::default());
        self.remembered = match &opened {
            Ok(_) => self.header(),
            Err(_) => kept,
        };
        let log = self.host.take_log();
        let (mut is_short, mut header) = (false, 0);
        for logged in log.iter().filter(|it| is_seen(it.call.kind)) {
            let asked = Asked::called(&logged.call);
            let Some(Witnessed::Host(record)) = self.recording.witnessed.get(self.at) else {
                return Err(differs("has opened the device".into(), asks_for(asked)));
            };
            let recorded = Asked::recorded(record).map_err(Stop::Wrong)?;
            if let Some((kernel, model)) = recorded.differs(&asked, u64::MAX) {
                return Err(Stop::Differs(asks_for(kernel), asks_for(model)));
            }
            self.compare_written(record)?;
            let is_bitmap = record.kind == OperationKind::Read.name() && record.at != 0;
            if record.kind == OperationKind::Write.name() && record.at == 0 {
                header = record.len;
            }
            if is_bitmap {
                self.is_clobbered = record.at < header;
                self.bitmap = record.at..record.at + record.len;
            }
            is_short |= is_bitmap && record.errno.is_none() && record.done < record.len;
            self.compared.host_operations += 1;
            self.at += 1;
        }
        self.is_opened_anew = true;
        self.refused = None;
        match opened {
            Ok((Device::Linux(device), _)) => self.device = Some(*device),
            Ok(_) => self.refused = Some("it is not a model of a kernel".into()),
            Err(refused) => {
                let has_failed = records.iter().any(HostRecord::has_failed);
                let is_alone = self.case.kernel.cow_alone && !self.case.image.missing;
                if has_failed && is_alone && !self.opening.switched {
                    return Err(Stop::CutShort(RAW));
                }
                self.refused = Some(refused.why);
            }
        }
        match is_short && self.device.is_some() {
            true => Err(Stop::CutShort(HALF_A_BITMAP)),
            false => Ok(()),
        }
    }

    /// Rule 1.
    fn pass_size(&mut self) {
        let headers = self
            .records()
            .take(2)
            .filter(|record| is_header_read(record));
        if headers.count() == 2 && self.at == 0 && self.case.kernel.cow_alone {
            let first = self.records().next();
            let read = first.filter(|record| record.errno.is_none());
            let read = read.map(|record| record.done as usize);
            self.remembered = self.header().filter(|header| read == Some(header.len()));
            self.at += 1;
        }
    }

    /// The header of the COW file as it is now, as far as that goes, whatever it is.
    fn header(&self) -> Option<Vec<u8>> {
        let file = self.host.content(COW)?;
        let mut header = vec![0; file.length().0.min(LONGEST_HEADER.0) as usize];
        file.read_at(&mut header, FileOffset(0));
        Some(header)
    }

    /// What the recording has next of operations, up to the next word.
    fn records(&self) -> impl Iterator<Item = &HostRecord> {
        let rest = self.recording.witnessed.get(self.at..).unwrap_or_default();
        rest.iter().map_while(|witnessed| match witnessed {
            Witnessed::Host(record) => Some(record),
            Witnessed::Guest(_) => None,
        })
    }

    /// Whether the model has written what the kernel has.
    fn compare_written(&self, record: &HostRecord) -> Result<(), Stop> {
        if record.kind != OperationKind::Write.name() {
            return Ok(());
        }
        let kernel = record.data().map_err(Stop::Wrong)?;
        let mut model = vec![0; kernel.len()];
        if let Some(content) = self.host.content(&record.path) {
            content.read_at(&mut model, FileOffset(record.at));
        }
        let Some(at) = kernel.iter().zip(&model).position(|(a, b)| a != b) else {
            return Ok(());
        };
        let writes = |content: &[u8]| {
            let (kind, path, begin) = (&record.kind, &record.path, record.at);
            let byte = content[at];
            format!(
                "asks for {kind} {path} {begin}+{}, with {byte:02x} at byte {at} of it",
                record.len
            )
        };
        Err(Stop::Differs(writes(&kernel), writes(&model)))
    }

    /// Rule 3.
    pub(super) fn read_by_itself(&mut self, record: &HostRecord) -> Result<(), Stop> {
        self.is_opened_anew = false;
        let recorded = Asked::recorded(record).map_err(Stop::Wrong)?;
        let Some(device) = &self.device else {
            return Err(self.refuses(asks_for(recorded)));
        };
        let role = match record.path == COW {
            true => FileRole::Cow,
            false => FileRole::Backing,
        };
        let end = Sector(0) + device.capacity();
        let mut rest = SectorRange::between(Sector(0)..end);
        while !rest.is_empty() {
            let place = device.read_place(rest);
            let within = record.at.checked_sub(place.at.0).map(|it| it / SECTOR_SIZE);
            if let Some(within) = within
                && place.role == role
                && within < place.sectors.count.0
                && record.kind == OperationKind::Read.name()
            {
                let start = rest.start + SectorCount(within);
                return self.submit_own(page_read(start, end));
            }
            rest = SectorRange::between(place.sectors.end()..end);
        }
        let model = "has no sector that is read there".to_owned();
        Err(Stop::Differs(asks_for(recorded), model))
    }

    /// The guest has opened the device.
    pub(super) fn opened(&mut self, sectors: u64) -> Result<(), Stop> {
        let opens = |sectors| {
            let sectors = exact_count(sectors, "sector");
            format!("opens a device of {sectors}")
        };
        let Some(device) = &self.device else {
            return Err(self.refuses(opens(sectors)));
        };
        let capacity = device.capacity().0;
        if capacity != sectors {
            return Err(Stop::Differs(opens(sectors), opens(capacity)));
        }
        self.phase = Phase::Serving;
        Ok(())
    }

    /// The model does not open the device, and the kernel does this.
    fn refuses(&self, kernel: String) -> Stop {
        let why = self.refused.as_deref().unwrap_or("nothing was opened");
        Stop::Differs(kernel, format!("does not open the device: {why}"))
    }

    /// The guest cannot open the device.
    pub(super) fn not_opened(&mut self, errno: i32) -> Result<(), Stop> {
        if !self.is_opened_anew {
            let faults = self.case.lives.first().map(|life| &life.faults);
            if faults.is_some_and(|faults| !faults.is_empty()) {
                return Err(Stop::CutShort(UNSEEN));
            }
        }
        if self.device.take().is_some() {
            return Err(Stop::Differs(
                format!("does not open the device (error {errno})"),
                "opens it".to_owned(),
            ));
        }
        self.phase = Phase::Over;
        Ok(())
    }
}

fn is_header_read(record: &HostRecord) -> bool {
    record.kind == OperationKind::Read.name() && record.path == COW && record.at == 0
}

/// A read of the page that begins with a sector, as far as the device, which ends at `end`, has it.
fn page_read(start: Sector, end: Sector) -> Request {
    let size = (end - Sector(0)).bytes().0;
    let largest = size & size.wrapping_neg();
    let block = Bytes(largest.min(PAGE)).whole_sectors();
    let page = SectorRange::between(start..end.min(start + Bytes(PAGE).whole_sectors()));
    let segments = split(page, block);
    let segments = segments.map(|it| Segment::with_data(vec![0; it.count.bytes().0 as usize]));
    Request {
        tag: Tag(0),
        operation: Operation::Read,
        start,
        segments: segments.collect(),
    }
}

/// What the simulated host does in place of an operation, so that the model hears what the kernel
/// has heard.
fn fault_of(expected: &mut VecDeque<HostRecord>, call: &Call) -> Option<Fault> {
    if !is_seen(call.kind) {
        return None;
    }
    let record = expected.pop_front()?;
    let is_it = record.kind == call.kind.name() && record.at == call.range.start.0;
    if !is_it || !record.has_failed() {
        return None;
    }
    record.fault(call.kind)
}
