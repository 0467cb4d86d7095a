//! A small world for the crash tables: a backing file of stamped sectors, a COW file over
//! it on the simulated host, a guest, a resize that goes step by step between the guest's
//! requests, and a crash at any change. What every crash image has to satisfy is in
//! [`Model::check`] and [`check_image`], and nothing here knows how a resize works.

pub(crate) mod explore;
mod given_up;
pub(crate) mod model;
pub(crate) mod rows;
pub(crate) mod taken;

use std::path::Path;

use driver::blk::{Completion, HostFailure, Request, Status, Tag};
use driver::cow::{ByteOrder, Extension, ExtensionState, Geometry, Header, JournalRecord, Version};
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::host::{Access, HostFile, HostNames};
use driver::open::{OpenOptions, Opened, create, open};
use driver::ordered::{Ordered, Step};
use driver::units::{Bytes, FileOffset, Sector, SectorCount, SectorRange};
use harness::sim::{FileContent, Injected, SimFile, SimHost};
use harness::stamp::Stamp;

use model::{Model, Shows};

pub(crate) type Device = Ordered<SimFile>;

/// The names in the world.
pub(crate) const COW: &str = "cow";
pub(crate) const BACKING: &str = "disk";

/// What kind of COW file there is at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// As ubdlab makes it, with this alignment.
    Ours(u32),
    /// V3 as stock tools make it: without an extension block.
    Stock(u32),
    /// The older ones, as stock tools made them.
    Old(Version),
}

/// One thing that the guest does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Write(u64, u64),
    WriteFua(u64, u64),
    Zeroes(u64, u64),
    Discard(u64, u64),
    Read(u64, u64),
    Flush,
}

/// A host with a device's files, all durable, and what the device has to show.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) host: SimHost,
    pub(crate) model: Model,
}

impl World {
    /// Over a backing file of `bytes` bytes. If they are no whole sectors, the last ones are
    /// [`model::TAIL`].
    pub(crate) fn new(bytes: u64, format: Format) -> World {
        let host = SimHost::default();
        let sectors = bytes / 512;
        let mut content = vec![model::TAIL; bytes as usize];
        Stamp::BACKING.fill(Sector(0), &mut content[..sectors as usize * 512]);
        host.install(BACKING, FileContent::from_bytes(&content));
        host.set_modified_seconds(BACKING, 1_060_000_000);
        make_cow(&host, Bytes(bytes), format);
        host.settle();
        let model = Model::new(bytes);
        World { host, model }.restarted()
    }

    /// This world with these requests carried out and everything durable.
    pub(crate) fn after(mut self, acts: &[Act]) -> World {
        let mut device = self.open().device;
        for act in acts {
            self.act(&mut device, *act);
        }
        self.act(&mut device, Act::Flush);
        close(device);
        self.host.settle();
        self.restarted()
    }

    /// With a COW file that ends where its last dirty sector does, as a copy that leaves out
    /// the hole at the end has it: shorter than its data area, and opened all the same.
    pub(crate) fn cut_to_data(self) -> World {
        let device = self.open().device;
        let geometry = device.geometry().unwrap();
        let whole = SectorRange::new(Sector(0), device.capacity());
        let data_end = device.map().dirty_runs(whole).last().unwrap().end();
        drop(device.close().unwrap());
        let mut content = self.host.content(COW).unwrap();
        content.set_len(geometry.place_of(data_end) - FileOffset(0));
        self.host.install(COW, content);
        self.restarted()
    }

    /// A copy whose operations count from 0, with all that was done before durable.
    pub(crate) fn restarted(&self) -> World {
        let everything = self.host.unsynced().everything();
        World {
            host: self.host.after_power_cut(&everything).unwrap(),
            model: self.model.clone(),
        }
    }

    pub(crate) fn open(&self) -> Opened<SimFile> {
        try_open(&self.host).unwrap()
    }

    /// Carries out one request and tells the model. Statuses have to be right unless the
    /// host has crashed; whether it is done.
    pub(crate) fn act(&mut self, device: &mut Device, act: Act) -> bool {
        let tag = self.submit(device, act);
        match step_to_completion(device) {
            Some(completion) => self.completed(act, tag, completion),
            None => panic!("nothing holds {act:?}"),
        }
    }

    /// Submits a request; what it writes may show from now on.
    pub(crate) fn submit(&mut self, device: &mut Device, act: Act) -> Tag {
        let request = self.model.request(act);
        let tag = request.tag;
        device.submit(request).unwrap();
        tag
    }

    /// Takes the completion of the request with this tag. Whether it is a success.
    pub(crate) fn completed(&mut self, act: Act, tag: Tag, completion: Completion) -> bool {
        assert_eq!(completion.request.tag, tag, "another request's completion");
        let good = completion.status == Status::Ok;
        if self.host.crashed() {
            return false;
        }
        if good {
            self.model.done(act, &completion);
        } else {
            let why = completion.failure.as_deref();
            let injected = self.host.injected();
            let is_excused = match why {
                Some(failure) => injected.iter().any(|one| is_of(one, failure)),
                // It was refused, for a sync has failed, or what says how large the device is.
                None => injected.iter().any(|one| one.fault.error().is_some()),
            };
            let status = completion.status;
            assert!(is_excused, "{act:?}: {status:?} {why:?}, {injected:?}");
        }
        good
    }
}

/// Whether a request has failed so by this fault: the operation is of its kind, not before its
/// place, and ended with its error.
fn is_of(injected: &Injected, failure: &HostFailure) -> bool {
    injected.call.kind == failure.kind
        && injected.call.range.start >= failure.at
        && injected.fault.error().as_ref() == Some(&failure.error)
}

pub(crate) fn try_open(host: &SimHost) -> Result<Opened<SimFile>, driver::open::OpenError> {
    let spec: DeviceSpec = format!("ubda={COW},{BACKING}").parse().unwrap();
    open(host, &spec, OpenOptions::default())
}

/// Steps the device until a request is finished; `None` when it is blocked or idle.
pub(crate) fn step_to_completion(device: &mut Device) -> Option<Completion> {
    Driver::step_to_completion(device).ok()
}

/// Closes a device that has nothing in flight, on a host that does not fail.
pub(crate) fn close(mut device: Device) {
    let idle = device.step();
    assert!(
        matches!(idle, Step::Idle),
        "something is in flight: {idle:?}"
    );
    drop(device.close().unwrap());
}

fn make_cow(host: &SimHost, size: Bytes, format: Format) {
    let (version, alignment) = match format {
        Format::Ours(alignment) => {
            let (cow, disk) = (Path::new(COW), Path::new(BACKING));
            drop(create(host, cow, disk, Some(alignment)).unwrap());
            return;
        }
        Format::Stock(alignment) => (Version::V3, alignment),
        Format::Old(version) => (version, 512),
    };
    let mut header = Header::v3(Path::new(BACKING), 1_060_000_000, size, alignment).unwrap();
    header.version = version;
    if version == Version::V1 {
        header.byte_order = ByteOrder::Little;
    }
    let geometry = Geometry::of(&header).unwrap();
    let mut content = FileContent::from_bytes(&header.encode());
    content.set_len(geometry.data_end() - FileOffset(0));
    host.install(COW, content);
}

/// What a reader finds in the COW file, before anything is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CowFileState {
    /// The size as stock tools read it.
    pub(crate) stock_size: u64,
    /// Whether our reader sees the mark of a reflow.
    pub(crate) marked: bool,
    /// The size that the header has beside the mark.
    pub(crate) size: u64,
    /// Whether there is an extension block.
    pub(crate) extension: bool,
    /// The frontier of the journal's latest record, if it has one.
    pub(crate) frontier: Option<u64>,
    /// The length of the file.
    pub(crate) len: u64,
}

/// Reads the header by itself, as stock tools do and as ours does.
pub(crate) fn found(host: &SimHost) -> Option<CowFileState> {
    let content = host.content(COW)?;
    let mut start = vec![0; content.length().0.min(8192) as usize];
    content.read_at(&mut start, FileOffset(0));
    let stock_size = u64::from_be_bytes(start[12..20].try_into().unwrap());
    let header = Header::decode(&start).unwrap();
    let at = |offset: FileOffset, len: usize| {
        let mut bytes = vec![0; len];
        content.read_at(&mut bytes, offset);
        bytes
    };
    let block: [u8; Extension::LEN] = at(Extension::OFFSET, Extension::LEN).try_into().unwrap();
    let slots = at(JournalRecord::slots_offset(), JournalRecord::SLOTS_LEN);
    let record = JournalRecord::latest(&slots.try_into().unwrap());
    Some(CowFileState {
        stock_size,
        marked: header.relocating,
        size: header.size.0,
        extension: matches!(Extension::decode(&block), ExtensionState::Valid(_)),
        frontier: record.map(|record| record.frontier.0),
        len: content.length().0,
    })
}

/// The journal's latest record.
pub(crate) fn record(host: &SimHost) -> Option<JournalRecord> {
    let slots = bytes_at(
        host,
        COW,
        JournalRecord::slots_offset(),
        JournalRecord::SLOTS_LEN,
    );
    JournalRecord::latest(&slots.try_into().unwrap())
}

/// Shows a COW file's bytes at a place: for tests that look below the device.
pub(crate) fn bytes_at(host: &SimHost, name: &str, at: FileOffset, len: usize) -> Vec<u8> {
    let file = host.open(Path::new(name), Access::ReadOnly).unwrap();
    let mut bytes = vec![0; len];
    file.read_zero_filled_at(&mut bytes, at).unwrap();
    bytes
}

/// The capacity in sectors.
pub(crate) fn capacity(device: &Device) -> u64 {
    device.capacity().0
}

pub(crate) fn sectors(count: u64) -> Bytes {
    SectorCount(count).bytes()
}

/// A request of the guest, with its stamp in every sector that it writes.
pub(crate) fn request_of(act: Act, stamp: u32) -> Request {
    let data = |start: u64, count: u64| {
        let mut data = vec![0; count as usize * 512];
        Stamp(stamp).fill(Sector(start), &mut data);
        data
    };
    let tag = Tag(u64::from(stamp));
    match act {
        Act::Write(start, count) => Request::write(tag, Sector(start), data(start, count)),
        Act::WriteFua(start, count) => Request::write_fua(tag, Sector(start), data(start, count)),
        Act::Zeroes(start, count) => Request::write_zeroes(tag, Sector(start), SectorCount(count)),
        Act::Discard(start, count) => Request::discard(tag, Sector(start), SectorCount(count)),
        Act::Read(start, count) => {
            let mut request = Request::read(tag, Sector(start), SectorCount(count));
            // What the read leaves out must not pass for zeros.
            request.segments[0].data.fill(0xa5);
            request
        }
        Act::Flush => Request::flush(tag),
    }
}

/// What the act leaves in a sector.
pub(crate) fn shown_after(act: Act, stamp: u32) -> Option<Shows> {
    match act {
        Act::Write(..) | Act::WriteFua(..) => Some(Shows::Stamp(stamp)),
        Act::Zeroes(..) | Act::Discard(..) => Some(Shows::Zeros),
        Act::Read(..) | Act::Flush => None,
    }
}
