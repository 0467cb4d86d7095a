//! Looking at what a crash has left of an image.

use driver::blk::{Operation, Request, Segment, Status, Tag};
use driver::units::{SECTOR_SIZE, Sector, SectorCount};
use userhelper::resize::recover;

use crate::plain_format::{CowFile, Extension, Wrong};
use crate::sim::{FileContent, SimHost};

use super::case::Case;
use super::device::{BACKING, COW, Device, DidNotOpen, OTHER_BACKING, Opening};
use super::parts::{Part, Watch};
use super::violation::{Kind, Violation};
use super::world::{Truth, backing_is_unchanged};

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
    consistent(&recovered, image, case, truth, content)
        .map_err(|wrong| violation(Kind::Inconsistent, wrong.to_string()))?;
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

/// A look at a COW file with nothing of the driver's code: read as the format's page says, it has
/// to show what the device showed, and to be as whole as a file is that no resize is under way in.
/// One that was shorter than its data area may be so still, if it holds what is dirty.
fn consistent(
    cow: &FileContent,
    host: &SimHost,
    case: &Case,
    truth: &Truth,
    shown: &[u8],
) -> Result<(), Wrong> {
    let cow = CowFile::open(cow)?;
    let wrong = |at, what, found: String| Err(Wrong { at, what, found });
    let (header, fields) = (&cow.header, cow.header.version.fields());
    if header.marked {
        let found = "a reflow is still under way".into();
        return wrong(fields.size, "mark", found);
    }
    let (len, end) = (cow.file_len(), cow.layout.end);
    if len < end && !case.image.ends_with_data {
        let found = format!("the file ends here, its data at byte {end}");
        return wrong(len, "length", found);
    }
    let mut backing_files = [BACKING, OTHER_BACKING].into_iter();
    let Some(backing) = backing_files.find(|path| path.as_bytes() == header.path) else {
        let path = String::from_utf8_lossy(&header.path);
        let found = format!("found {path:?}, expected {BACKING:?} or {OTHER_BACKING:?}");
        return wrong(fields.path, "path", found);
    };
    let time = host.modified_seconds(backing).map(|seconds| seconds as u32);
    if time != Some(header.time) {
        let found = format!(
            "found {}, expected that of {backing}: {time:?}",
            header.time
        );
        return wrong(fields.time, "time", found);
    }
    if cow.extension.is_some_and(|extension| extension.changing) {
        let found = "the backing file is still being changed".into();
        return wrong(Extension::AT, "flags of the extension block", found);
    }
    let size = truth.backing.length().0;
    let recorded = cow
        .extension
        .map_or(header.size, |extension| extension.backing_size);
    if size != recorded && size != header.size {
        let found = format!("found {size} bytes, the COW file says {recorded}");
        return wrong(Extension::AT, "size of the backing file", found);
    }
    cow.check_shown(&truth.backing, shown)
}
