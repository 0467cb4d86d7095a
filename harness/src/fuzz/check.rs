//! Building the image of a case, and looking at what a crash has left of it.

use driver::blk::{Operation, Request, Segment, Status, Tag};
use driver::cow::{ByteOrder, Extension, Geometry, Header, Version};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorCount};
use userhelper::resize::recover;

use crate::sim::{FileContent, SimHost};
use crate::stamp::Stamp;

use super::case::{Case, Image, ImageVersion, Patch};
use super::device::{BACKING, BACKING_SECONDS, COW, Device, DidNotOpen, OTHER_BACKING, Opening};
use super::history::{Held, History};
use super::parts::{Part, Watch};
use super::violation::{Kind, Violation};
use super::world::{Truth, backing_is_unchanged};

/// The stamp of what is dirty at the start.
const AT_START: Stamp = Stamp(1);

/// The host that a case starts on, what its sectors hold, and what its backing file does.
pub fn build(case: &Case) -> (SimHost, History, FileContent) {
    let image = &case.image;
    let host = SimHost::new(case.assumptions);
    let bytes = SectorCount(image.sectors).bytes();
    let mut content = vec![0; bytes.0 as usize];
    Stamp::BACKING.fill(Sector(0), &mut content);
    let backing = FileContent::from_bytes(&content);
    for path in [BACKING, OTHER_BACKING] {
        host.install(path, backing.clone());
        host.set_modified_seconds(path, BACKING_SECONDS);
    }
    if image.missing {
        let held = (0..image.sectors).map(|_| Held::Stamp(Stamp::BACKING));
        return (host, History::new(held), backing);
    }
    let (cow, dirty) = cow_file(image);
    host.install(COW, cow);
    let held = dirty.iter().map(|&dirty| match dirty {
        true => Held::Stamp(AT_START),
        false => Held::Stamp(Stamp::BACKING),
    });
    (host, History::new(held), backing)
}

fn cow_file(image: &Image) -> (FileContent, Vec<bool>) {
    let version = match image.version {
        ImageVersion::V1 => Version::V1,
        ImageVersion::V2 => Version::V2,
        ImageVersion::V3 => Version::V3,
        ImageVersion::V3Wide => Version::V3Wide,
    };
    let alignment = match version {
        Version::V1 | Version::V2 => SECTOR_SIZE as u32,
        _ => image.alignment,
    };
    let size = SectorCount(image.sectors).bytes();
    let header = Header {
        version,
        byte_order: match version {
            Version::V1 => ByteOrder::Little,
            _ => ByteOrder::Big,
        },
        backing_path: BACKING.as_bytes().to_vec(),
        backing_mtime: BACKING_SECONDS as u32,
        size,
        relocating: false,
        alignment,
    };
    let Ok(geometry) = Geometry::of(&header) else {
        // Only a case edited by hand can ask for this; its image will not open.
        return (FileContent::default(), Vec::new());
    };
    let mut cow = FileContent::default();
    cow.set_len(geometry.data_end() - FileOffset(0));
    cow.write_at(&header.encode(), FileOffset(0));
    if image.extension && version == Version::V3 && Extension::fits(&geometry) {
        let extension = Extension::new(size);
        cow.write_at(&extension.encode(), Extension::OFFSET);
    }
    let mut dirty = vec![false; image.sectors as usize];
    for &(start, count) in &image.dirty {
        let end = start.saturating_add(count).min(geometry.mapped().0);
        for sector in start.min(end)..end {
            dirty[sector as usize] = true;
            let mut content = [0; SECTOR_SIZE as usize];
            AT_START.fill(Sector(sector), &mut content);
            cow.write_at(&content, geometry.place_of(Sector(sector)));
        }
    }
    let mut bitmap = vec![0; geometry.bitmap_len.0 as usize];
    for (sector, _) in dirty.iter().enumerate().filter(|(_, dirty)| **dirty) {
        bitmap[sector / 8] |= 1 << (sector % 8);
    }
    if bitmap.iter().any(|&byte| byte != 0) {
        cow.write_at(&bitmap, geometry.bitmap_offset);
    }
    if image.ends_with_data {
        let data_end = match dirty.iter().rposition(|&dirty| dirty) {
            Some(last) => geometry.place_of(Sector(last as u64 + 1)),
            None => geometry.bitmap().end(),
        };
        cow.set_len(data_end - FileOffset(0));
    }
    if let Some(kept) = image.bitmap_cut {
        let kept = kept.min(geometry.bitmap_len.0.saturating_sub(1));
        cow.set_len(geometry.bitmap_offset - FileOffset(0) + Bytes(kept));
    }
    if let Some(patch) = image.patched {
        let (sector_size, alignment) = match version {
            Version::V1 => (276, None),
            Version::V2 => (4116, None),
            Version::V3 => (20, Some(24)),
            Version::V3Wide => (24, Some(28)),
        };
        let (at, value) = match patch {
            Patch::SectorSize(value) => (Some(sector_size), value),
            Patch::Alignment(value) => (alignment, value),
        };
        let bytes = match version {
            Version::V1 => value.to_le_bytes(),
            _ => value.to_be_bytes(),
        };
        if let Some(at) = at {
            cow.write_at(&bytes, FileOffset(at));
        }
    }
    (cow, dirty)
}

/// What is wrong if a device that must not be opened was, or one that must be was not.
///
/// # Errors
/// The violation.
pub fn check_opened<T>(
    opened: Result<T, DidNotOpen>,
    opening: Opening,
    when: &str,
) -> Result<Option<T>, Violation> {
    match (opened, opening.must_refuse) {
        (Err(error), _) if error.died => Err(Violation::new(Kind::Died, when, error.why)),
        (Err(_), Some(_)) => Ok(None),
        (Err(error), None) => Err(Violation::new(Kind::DoesNotOpen, when, error.why)),
        (Ok(_), Some(why)) => {
            let what = format!("{why}, and it opens");
            Err(Violation::new(Kind::AcceptedBadImage, when, what))
        }
        (Ok(opened), None) => Ok(Some(opened)),
    }
}

/// Buffers that are used again for every image: what a fuzzer allocates, it does a hundred
/// thousand times a second.
#[derive(Debug, Default)]
pub struct Scratch {
    content: Vec<u8>,
    again: Vec<u8>,
}

/// Reads a whole idle device into `content`.
///
/// # Errors
/// A read that failed.
pub fn read_all(device: &mut Device, content: &mut Vec<u8>) -> Result<(), Violation> {
    let capacity = device.capacity();
    content.resize(SectorCount(capacity).bytes().0 as usize, 0);
    let longest = device.limits().max_transfer.0;
    if capacity <= longest {
        // In one piece: the buffer itself goes through the driver.
        *content = read(device, 0, std::mem::take(content))?;
        return Ok(());
    }
    let mut piece = Vec::new();
    for (start, part) in content
        .chunks_mut((longest * SECTOR_SIZE) as usize)
        .enumerate()
    {
        piece.resize(part.len(), 0);
        piece = read(device, start as u64 * longest, piece)?;
        part.copy_from_slice(&piece);
    }
    Ok(())
}

fn read(device: &mut Device, start: u64, buffer: Vec<u8>) -> Result<Vec<u8>, Violation> {
    let failed = |what: String| Violation {
        kind: Kind::WrongStatus,
        sector: Some(start),
        what,
        when: "reading the whole device".into(),
    };
    let request = Request {
        tag: Tag(0),
        operation: Operation::Read,
        start: Sector(start),
        segments: vec![Segment::with_data(buffer)],
    };
    match device.carry_out(request) {
        Some(mut done) if done.status == Status::Ok && done.request.segments.len() == 1 => {
            Ok(done.request.segments.pop().unwrap_or_default().data)
        }
        // A driver may have cut it into segments of its own.
        Some(done) if done.status == Status::Ok => Ok(done
            .request
            .segments
            .into_iter()
            .flat_map(|s| s.data)
            .collect()),
        Some(done) => {
            let cause = done.failure.map_or(String::new(), |f| format!(": {f}"));
            Err(failed(format!("{}{cause}", done.status)))
        }
        None => Err(failed("the read does not complete".into())),
    }
}

/// Looks at what a crash left: it has to open, to recover, to have an allowed size and
/// allowed content, to be consistent, and to be so when opened again.
///
/// # Errors
/// What is wrong first.
pub fn check_image(
    image: &SimHost,
    case: &Case,
    truth: &Truth,
    when: &str,
    scratch: &mut Scratch,
    watch: &mut dyn Watch,
) -> Result<(), Violation> {
    watch.enter(Part::Recover);
    let violation = |kind, what: String| Violation::new(kind, when, what);
    let opened = Device::open(image, case, truth.opening);
    let Some((mut device, interrupted)) = check_opened(opened, truth.opening, when)? else {
        return Ok(());
    };
    if let (Some(record), Some(resizable)) = (interrupted, device.resizable()) {
        recover(resizable, record)
            .map_err(|error| violation(Kind::DoesNotRecover, error.to_string()))?;
    }
    let capacity = device.capacity();
    if !truth.sizes.contains(&capacity) {
        let what = format!("found {capacity} sectors, expected {:?}", truth.sizes);
        return Err(violation(Kind::WrongSize, what));
    }
    watch.enter(Part::Compare);
    let Scratch { content, again } = scratch;
    read_all(&mut device, content).map_err(|error| Violation {
        when: when.to_string(),
        ..error
    })?;
    truth.history.check_crash(Sector(0), content, when)?;
    drop(device);
    if !backing_is_unchanged(image, truth) {
        let what = "the backing file is not what it was".into();
        return Err(violation(Kind::BackingChanged, what));
    }
    let Some(recovered) = image.content(COW) else {
        return Err(violation(Kind::Inconsistent, "the COW file is gone".into()));
    };
    consistent(&recovered, content, case.image.ends_with_data)
        .map_err(|what| violation(Kind::Inconsistent, what))?;
    if interrupted.is_some() {
        // Once more: nothing is left to do, and nothing is done.
        let (mut device, interrupted) = Device::open(image, case, truth.opening)
            .map_err(|error| violation(Kind::DoesNotOpen, error.why))?;
        let same = read_all(&mut device, again).is_ok() && again == content;
        drop(device);
        if interrupted.is_some() || !same || image.content(COW).as_ref() != Some(&recovered) {
            let what = "opening it again changes it".into();
            return Err(violation(Kind::RecoveryNotFinal, what));
        }
    }
    Ok(())
}

/// An independent look at a COW file: read naively, as a stock reader would after the resize,
/// it has to show what the device showed where it is dirty. A file that `may_be_short` has to
/// hold what is dirty, and otherwise its whole data area.
fn consistent(cow: &FileContent, shown: &[u8], may_be_short: bool) -> Result<(), String> {
    let mut start = [0; 4136];
    cow.read_at(&mut start, FileOffset(0));
    let header = Header::decode(&start).map_err(|error| error.to_string())?;
    if header.relocating {
        return Err("the header still says that a reflow is under way".into());
    }
    let geometry = Geometry::of(&header).map_err(|error| error.to_string())?;
    let end = geometry.data_end() - FileOffset(0);
    if cow.length() < end && !may_be_short {
        let found = cow.length();
        return Err(format!(
            "the file has {} bytes, its data ends at {}",
            found.0, end.0
        ));
    }
    let mut bitmap = vec![0; geometry.bitmap_len.0 as usize];
    cow.read_at(&mut bitmap, geometry.bitmap_offset);
    let mut content = [0; SECTOR_SIZE as usize];
    for sector in 0..geometry.mapped().0 {
        if bitmap[(sector / 8) as usize] >> (sector % 8) & 1 == 0 {
            continue;
        }
        let place = geometry.place_of(Sector(sector));
        if FileOffset(0) + cow.length() < place + Bytes(SECTOR_SIZE) {
            return Err(format!("the file ends before the data of sector {sector}"));
        }
        cow.read_at(&mut content, place);
        let at = (sector * SECTOR_SIZE) as usize;
        if shown.get(at..at + content.len()) != Some(&content[..]) {
            return Err(format!(
                "sector {sector} as the file has it is not as the device shows it"
            ));
        }
    }
    Ok(())
}
