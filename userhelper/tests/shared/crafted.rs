//! COW files made of whatever bytes, field by field: the checksums of extension block and journal
//! are right and the numbers in them are not, which no flipped bit would come to. Shared by the
//! inputs that are crafted by the million (`harness/tests/it/crafted`) and the fuzz targets.

use crate::live::{SIZE, bring_up, host_with, live_with};
use driver::blk::{Request, Status, Tag};
use driver::cow::{ByteOrder, Extension, Geometry, Header, JournalRecord, Version};
use driver::driver::Driver;
use driver::host::{Access, HostFile, HostNames};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::Trust;
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, Sector, SectorCount};
use userhelper::resize::recover;

/// How far a crafted file came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was refused, and left as it was.
    Refused,
    /// It came up, took requests and was closed.
    Opened,
    /// Its reflow was finished, and it shows what it showed before.
    Recovered,
    /// Its reflow could not be finished.
    NotRecovered,
}

/// Brings up the COW file that `input` describes, uses it, and finishes its reflow.
///
/// # Panics
/// If anything but a result or an error comes of it.
pub(crate) fn exercise_crafted(input: &[u8]) -> Outcome {
    let crafted = Crafted::from(input);
    let host = crafted.host();
    let Some(opened) = bring_up(&host, crafted.trust) else {
        return Outcome::Refused;
    };
    let mut device = opened.device;
    let Some(record) = opened.interrupted else {
        live_with(device);
        return Outcome::Opened;
    };
    if record.new_size > MOST_TO_RECOVER {
        // Looking through a device of many TiB would take too long here.
        live_with(device);
        return Outcome::NotRecovered;
    }
    let before = start_of(&mut device);
    if recover(&mut device, record).is_err() {
        return Outcome::NotRecovered;
    }
    assert_eq!(device.capacity(), record.new_size.whole_sectors());
    // A size that ends within a sector has one sector fewer than the size that it becomes.
    let after = start_of(&mut device);
    assert!(after.starts_with(&before), "recovery changed the disk");
    device.close().expect("memory does not fail");
    let again = bring_up(&host, crafted.trust).expect("it came up before");
    assert_eq!(again.interrupted, None, "recovery is not final");
    live_with(again.device);
    Outcome::Recovered
}

const MOST_TO_RECOVER: Bytes = Bytes(1 << 30);

/// Sectors with data at the start, in the COW file.
const DIRTY: [u64; 5] = [1, 30, 31, 32, 63];

/// Numbers that arithmetic goes wrong at.
const NUMBERS: [u64; 38] = [
    0,
    1,
    2,
    3,
    7,
    8,
    63,
    64,
    65,
    511,
    512,
    513,
    4095,
    4096,
    8192,
    1 << 15,
    SIZE - 512,
    SIZE,
    SIZE + 512,
    2 * SIZE,
    (16 << 20) - 512,
    16 << 20,
    (16 << 20) + 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    1 << 48,
    (1 << 48) + 512,
    1 << 49,
    1 << 54,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    (1 << 63) + 512,
    u64::MAX - 511,
    u64::MAX - 1,
    u64::MAX,
];

const EXTENSION: usize = Extension::OFFSET.0 as usize;
const SLOTS: [usize; 2] = [EXTENSION + 480, EXTENSION + 992];

/// Where a journal's record has its fields, and how long they are.
const RECORD_FIELDS: [(usize, usize); 8] = [
    (0, 8),
    (8, 4),
    (16, 8),
    (24, 8),
    (32, 8),
    (40, 8),
    (48, 4),
    (52, 4),
];

/// Where the versions have fields, from the start of the file, and how long they are.
fn fields(version: Version) -> Vec<(usize, usize)> {
    let header: &[(usize, usize)] = match version {
        Version::V1 => &[(0, 4), (4, 4), (8, 8), (264, 4), (268, 8), (276, 4)],
        Version::V2 => &[(0, 4), (4, 4), (8, 8), (4104, 4), (4108, 8), (4116, 4)],
        Version::V3 => &[
            (0, 4),
            (4, 4),
            (8, 4),
            (12, 8),
            (20, 4),
            (24, 4),
            (28, 4),
            (32, 8),
        ],
        Version::V3Wide => &[
            (0, 4),
            (4, 4),
            (8, 4),
            (16, 8),
            (24, 4),
            (28, 4),
            (32, 4),
            (36, 8),
        ],
    };
    let mut fields = header.to_vec();
    if version == Version::V3 {
        fields.extend([(0, 8), (8, 4)].map(|(at, width)| (EXTENSION + at, width)));
        // What is in the block, and what may come to be in it.
        fields.extend((16..64).step_by(8).map(|at| (EXTENSION + at, 8)));
        for slot in SLOTS {
            fields.extend(RECORD_FIELDS.map(|(at, width)| (slot + at, width)));
        }
    }
    fields
}

/// The input as numbers; zeros after its end.
struct Draw<'a>(&'a [u8]);

impl Draw<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    fn number(&mut self, width: usize) -> u64 {
        (0..width).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }
}

/// A file that an input describes.
struct Crafted {
    header: Header,
    record: JournalRecord,
    start: Vec<u8>,
    len: Bytes,
    trust: Trust,
}

impl Crafted {
    fn from(input: &[u8]) -> Crafted {
        let mut draw = Draw(input);
        let (base, flags) = (draw.byte(), draw.byte());
        let version = match base & 3 {
            0 => Version::V3,
            1 => Version::V1,
            2 => Version::V2,
            _ => Version::V3Wide,
        };
        let alignment = match version {
            Version::V1 | Version::V2 => 512,
            _ => [4096, 512, 8192, 1 << 16][usize::from(base >> 3 & 3)],
        };
        let header = Header {
            version,
            byte_order: match version {
                Version::V1 => ByteOrder::Little,
                _ => ByteOrder::Big,
            },
            backing_path: b"/disk".to_vec(),
            backing_mtime: 0,
            size: Bytes(SIZE),
            relocating: base & 4 != 0 && version == Version::V3,
            alignment,
        };
        let record = JournalRecord {
            sequence: 3,
            frontier: Sector(32),
            old_size: Bytes(SIZE),
            old_alignment: alignment,
            new_size: Bytes(2 * SIZE),
            new_alignment: 1 << 17,
        };
        let mut crafted = Crafted {
            start: Vec::new(),
            len: Bytes(0),
            trust: match flags >> 2 & 3 {
                0 | 1 => Trust::Follow,
                2 => Trust::Confine,
                _ => Trust::Guessed,
            },
            header,
            record,
        };
        crafted.lay_out();
        let whole = crafted.len;
        crafted.len = match flags >> 4 & 7 {
            0..=4 => whole,
            5 => Bytes(whole.0.saturating_sub(draw.number(1))),
            6 => Bytes(draw.number(3)),
            _ => Bytes(1 << (draw.byte() % 63)),
        };
        crafted.change(&mut draw);
        if version == Version::V3 {
            if flags & 1 == 0 {
                seal(&mut crafted.start[EXTENSION..EXTENSION + Extension::LEN]);
            }
            for slot in SLOTS.into_iter().filter(|_| flags & 2 == 0) {
                seal(&mut crafted.start[slot..slot + 512]);
            }
        }
        crafted
    }

    /// Header, blocks and bitmap of a good file.
    fn lay_out(&mut self) {
        let geometry = self.geometry();
        let bitmap = geometry.bitmap_offset.0 as usize;
        // The slots are there also where the layout has no room for them.
        self.start = vec![0; (bitmap + 64).max(SLOTS[1] + 512)];
        self.put(0, &self.header.encode());
        if self.header.version == Version::V3 {
            self.put(EXTENSION, &Extension::new(Bytes(SIZE)).encode());
        }
        let mut end = geometry.data_end();
        if self.header.relocating {
            let earlier = JournalRecord {
                sequence: 2,
                frontier: Sector(48),
                ..self.record
            };
            for record in [earlier, self.record] {
                self.put(record.slot_offset().0 as usize, &record.encode());
            }
            end = self.new_geometry().data_end();
        }
        let mut bits = [0; 8];
        for sector in DIRTY.into_iter().filter(|&it| it < geometry.mapped().0) {
            bits[sector as usize / 8] |= 1 << (sector % 8);
        }
        self.put(bitmap, &bits);
        self.len = end - FileOffset(0);
    }

    /// Changes fields to numbers that the input chooses.
    fn change(&mut self, draw: &mut Draw<'_>) {
        let fields = fields(self.header.version);
        for _ in 0..24 {
            if draw.0.is_empty() {
                return;
            }
            let place = usize::from(draw.byte());
            let (at, width) = match place < 224 {
                true => fields[place % fields.len()],
                false => (draw.number(2) as usize % (self.start.len() - 8), 1),
            };
            let little = self.header.version == Version::V1;
            let now = number_at(&self.start[at..at + width], little);
            let value = match draw.byte() {
                chosen @ 0..128 => NUMBERS[usize::from(chosen) % NUMBERS.len()],
                near @ 128..192 => now.wrapping_add(u64::from(near)).wrapping_sub(160),
                _ => draw.number(width),
            };
            let bytes = value.to_be_bytes();
            let mut bytes = bytes[8 - width..].to_vec();
            if little {
                bytes.reverse();
            }
            self.put(at, &bytes);
        }
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.start[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The layout of the good file.
    fn geometry(&self) -> Geometry {
        Geometry::of(&self.header).expect("a small image")
    }

    fn new_geometry(&self) -> Geometry {
        self.record.new_geometry().expect("a small image")
    }

    /// The file, with data where the good one has it.
    fn host(&self) -> MemoryHost {
        let host = host_with(&self.start, self.len);
        let file = host.open("/cow".as_ref(), Access::ReadWrite);
        let file = file.expect("it was put there");
        for sector in DIRTY {
            let moved = self.header.relocating && Sector(sector) >= self.record.frontier;
            let geometry = match moved {
                true => self.new_geometry(),
                false => self.geometry(),
            };
            let at = geometry.place_of(Sector(sector));
            if at + Bytes(512) <= FileOffset(self.len.0) {
                let content = [sector as u8 | 0x80; 512];
                file.write_all_at(&content, at).expect("memory");
            }
        }
        host
    }
}

fn number_at(bytes: &[u8], little: bool) -> u64 {
    let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    match little {
        true => bytes.iter().rev().fold(0, fold),
        false => bytes.iter().fold(0, fold),
    }
}

/// Writes the checksum into its field, as `docs/format.md` has it for both kinds of blocks.
fn seal(block: &mut [u8]) {
    block[12..16].fill(0);
    let sum = crc32c::crc32c(block);
    block[12..16].copy_from_slice(&sum.to_be_bytes());
}

/// The first sectors of the device, and what became of reading each.
fn start_of(device: &mut Ordered<MemoryFile>) -> Vec<(Status, Vec<u8>)> {
    let count = device.capacity().0.min(SIZE / 512);
    let mut read = |sector| {
        let request = Request::read(Tag(sector), Sector(sector), SectorCount(1));
        let served = device.serve(request);
        let mut done = served.unwrap_or_else(|error| panic!("reading sector {sector}: {error}"));
        let data = done.request.segments.pop().unwrap_or_default().data;
        (done.status, data)
    };
    (0..count).map(&mut read).collect()
}
