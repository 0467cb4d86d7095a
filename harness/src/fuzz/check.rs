//! Looking at what a crash has left of an image.

use driver::blk::{Operation, Request, Segment, Status, Tag};
use driver::cow::JournalRecord;
use driver::driver::Driver;
use driver::units::{FileOffset, SECTOR_SIZE, Sector, SectorCount};
use driver::{any_of, exact_count};

use crate::plain_format::{CowFile, Extension, Wrong};
use crate::sim::{FileContent, SimHost};
use crate::stamp::Coverage;

use super::case::{Case, ImageTool};
use super::device::{Device, DidNotOpen, NotServed, Opening};
use super::disk_contents::DiskContents;
use super::guard::guarded;
use super::parts::{Part, Watch};
use super::paths::COW;
use super::reading;
use super::resizer::{self, Unfinished};
use super::scratch::Scratch;
use super::signature::{Act, Phase};
use super::tidy::Untidy;
use super::tools::{NotDone, use_tool};
use super::truth::{Truth, backing_is_unchanged};
use super::under_tool::UnderTool;
use super::violation::{Kind, Violation};

/// What is wrong if a device that must not be opened was, or one that must be was not.
///
/// # Errors
/// The violation.
pub fn check_opened<T>(
    opened: Result<T, DidNotOpen>,
    opening: Opening,
    when: &str,
) -> Result<Option<T>, Violation> {
    let violation = |kind, what: &str| Violation::new(kind, when, what).by(Act::Open);
    match (opened, opening.must_refuse) {
        (Err(error), _) if error.died => {
            Err(violation(Kind::Died, &error.why).with_error(error.why))
        }
        (Err(_), Some(_)) => Ok(None),
        (Err(error), None) => Err(violation(Kind::DoesNotOpen, &error.why).with_error(error.why)),
        (Ok(_), Some(why)) => {
            let what = format!("{why}, and it opens");
            Err(violation(Kind::AcceptedBadImage, &what).with_error(why))
        }
        (Ok(opened), None) => Ok(Some(opened)),
    }
}

/// Reads a whole idle device into `content`, which has its length then.
///
/// # Errors
/// A read that failed, or brought another length than it was asked for.
pub fn read_all(device: &mut Device, content: &mut Vec<u8>) -> Result<(), Violation> {
    let capacity = device.capacity();
    let longest = device.limits().max_transfer.0;
    if capacity <= longest {
        // In one piece: the buffer itself goes through the driver.
        content.resize(SectorCount(capacity).bytes().0 as usize, 0);
        *content = read(device, 0, std::mem::take(content))?;
        return Ok(());
    }
    content.clear();
    content.reserve_exact(SectorCount(capacity).bytes().0 as usize);
    let (mut piece, mut start) = (Vec::new(), 0);
    while start < capacity {
        let sectors = longest.min(capacity - start);
        piece.resize(SectorCount(sectors).bytes().0 as usize, 0);
        piece = read(device, start, piece)?;
        content.extend_from_slice(&piece);
        start += sectors;
    }
    Ok(())
}

/// Steps that one read may take on a device that has nothing else to do, beside those for each of
/// its sectors.
const MOST_STEPS: u64 = 10_000;
const STEPS_A_SECTOR: u64 = 16;

/// Fills `buffer` with what is at `start`. It returns that buffer or a new one of its length.
fn read(device: &mut Device, start: u64, mut buffer: Vec<u8>) -> Result<Vec<u8>, Violation> {
    let failed = |kind, what: String| {
        let when = "reading the whole device";
        let violation = Violation::new(kind, when, &what).by(Act::ReadAll);
        violation.of_sector(start).with_error(what)
    };
    // An image like the one before is the rule: what that left here must not pass for it.
    Coverage::Whole.poison(&mut buffer);
    let expected = buffer.len();
    let request = Request {
        tag: Tag(0),
        operation: Operation::Read,
        start: Sector(start),
        segments: vec![Segment::with_data(buffer)],
    };
    let steps = MOST_STEPS + request.range().count.0.saturating_mul(STEPS_A_SECTOR);
    let content = match device.serve_within(request, steps) {
        Ok(mut done) if done.status == Status::Ok && done.request.segments.len() == 1 => {
            done.request.segments.pop().unwrap_or_default().data
        }
        // A driver may have cut it into segments of its own.
        Ok(done) if done.status == Status::Ok => {
            let segments = done.request.segments.into_iter();
            segments.flat_map(|segment| segment.data).collect()
        }
        Ok(done) => {
            let cause = done.failure.map_or(String::new(), |f| format!(": {f}"));
            return Err(failed(Kind::WrongStatus, format!("{}{cause}", done.status)));
        }
        Err(NotServed::Stalls | NotServed::Died(_)) => {
            let what = "the read does not complete".into();
            return Err(failed(Kind::WrongCompletion, what));
        }
        Err(NotServed::DoesNotEnd) => {
            let what = "the read takes steps without end".into();
            return Err(failed(Kind::DoesNotEnd, what));
        }
    };
    if content.len() != expected {
        let what = format!(
            "found {}, expected {expected}",
            exact_count(content.len() as u64, "byte")
        );
        return Err(failed(Kind::WrongLength, what));
    }
    Ok(content)
}

/// Finishes an interrupted resize, if there is one, in as many steps as a life may take.
///
/// # Errors
/// Why it is not finished.
pub fn finish(
    device: &mut Device,
    interrupted: Option<JournalRecord>,
    truth: &Truth,
) -> Result<(), Unfinished> {
    let (at_once, steps) = (truth.opening.at_once, truth.budget.steps());
    match (interrupted, device.resizable()) {
        (Some(record), Some(device)) => resizer::finish(device, record, at_once, steps),
        _ => Ok(()),
    }
}

/// What is wrong if an interrupted resize could not be finished.
pub fn unfinished(error: Unfinished, when: &str) -> Violation {
    match error {
        Unfinished::Failed(error) => {
            let error = error.to_string();
            let violation = Violation::new(Kind::DoesNotRecover, when, &error);
            violation.by(Act::Recover).with_error(error)
        }
        Unfinished::DoesNotEnd => {
            let what = "finishing the resize takes steps without end";
            Violation::new(Kind::DoesNotEnd, when, what).by(Act::Recover)
        }
    }
}

/// Looks at what a crash left, which came while `phase` was going on: it has to open, to recover,
/// to have an allowed size and allowed content, to be consistent, and to be so when opened again.
///
/// # Errors
/// What is wrong first.
pub fn check_image(
    image: &SimHost,
    case: &Case,
    truth: &Truth,
    phase: Phase,
    scratch: &mut Scratch,
    watch: &mut dyn Watch,
) -> Result<(), Violation> {
    let checked = guarded(AFTER_A_CRASH, || {
        check_unguarded(image, case, truth, scratch, watch)
    });
    checked.map_err(|violation| violation.in_phase(phase))
}

const AFTER_A_CRASH: &str = "after a crash";

fn check_unguarded(
    image: &SimHost,
    case: &Case,
    truth: &Truth,
    scratch: &mut Scratch,
    watch: &mut dyn Watch,
) -> Result<(), Violation> {
    watch.enter(Part::Recover);
    let when = AFTER_A_CRASH;
    let violation = |kind, what: String| Violation::new(kind, when, what);
    if let Some(done) = &truth.done {
        let lasting = done.check_lasting(image);
        lasting.map_err(Violation::of_file(Kind::LostWrite, when, Act::Tool))?;
    }
    if reading::is_due(image, case, truth) {
        watch.enter(Part::Compare);
        reading::check(image, truth, scratch)?;
        watch.enter(Part::Recover);
    }
    let mut opened = Device::open(image, case, truth.opening);
    let under = truth.tool.as_ref();
    if opened.is_err() && under.is_some_and(|under| under.may_refuse(case)) {
        let recovered = use_tool(image, ImageTool::Recover, truth.opening.at_once);
        recovered.map_err(|error| not_recovered(error, when))?;
        opened = Device::open(image, case, truth.opening);
    }
    let Some((mut device, interrupted)) = check_opened(opened, truth.opening, when)? else {
        return Ok(());
    };
    finish(&mut device, interrupted, truth).map_err(|error| unfinished(error, when))?;
    let capacity = device.capacity();
    if !truth.sizes.contains(&capacity) {
        let what = format!(
            "found {}, expected {}",
            exact_count(capacity, "sector"),
            any_of(&truth.sizes)
        );
        return Err(violation(Kind::WrongSize, what));
    }
    watch.enter(Part::Compare);
    let Scratch {
        content,
        found,
        again,
        ..
    } = scratch;
    read_all(&mut device, content).map_err(|error| error.seen(when))?;
    let (size, seen) = (SectorCount(capacity), DiskContents::of(content, found));
    truth.history.check_crash(size, seen, when)?;
    drop(device);
    if !backing_is_unchanged(image, truth) {
        let what = "the backing file is not what it was".into();
        return Err(violation(Kind::BackingChanged, what));
    }
    if let Some(under) = under {
        check_tool(image, under, truth.opening)?;
        if !shows_again(image, case, truth, (content, again), AFTER_A_RECOVERY)? {
            let what = "the recovery of an image tool changes the disk".into();
            return Err(violation(Kind::RecoveryNotFinal, what));
        }
    }
    let Some(recovered) = image.content(COW) else {
        let what = "the COW file is gone";
        return Err(violation(Kind::Inconsistent, what.into()).with_error(what));
    };
    let looked_at = match case.image.raw {
        true => raw_is_whole(&recovered, seen.bytes()).map(|()| None),
        false => consistent(&recovered, image, case, truth, seen).map(Some),
    };
    let cow = looked_at.map_err(Violation::of_file(Kind::Inconsistent, when, Act::Look))?;
    if let (Some(under), Some(cow)) = (under, &cow) {
        let settled = under.check_recovered(cow, &recovered);
        settled.map_err(Violation::of_file(Kind::Inconsistent, when, Act::Tool))?;
    }
    if interrupted.is_some() {
        // What was not given back when the move was interrupted is a documented leak.
        let untidy = cow.map(|cow| Untidy::but_leaks_in(&cow, &recovered));
        let tidied = untidy.unwrap_or_default().no_more_than(Untidy::default());
        tidied.map_err(Violation::of_file(Kind::Inconsistent, when, Act::Recover))?;
        // Once more: nothing is left to do, and nothing is done.
        let is_same = shows_again(image, case, truth, (content, again), when)?;
        if !is_same || image.content(COW).as_ref() != Some(&recovered) {
            let what = "opening it again changes it".into();
            return Err(violation(Kind::RecoveryNotFinal, what));
        }
    }
    Ok(())
}

/// Whether a device that is opened once more has nothing to recover, and shows the same content. It
/// is read into `again`.
fn shows_again(
    image: &SimHost,
    case: &Case,
    truth: &Truth,
    (content, again): (&[u8], &mut Vec<u8>),
    when: &str,
) -> Result<bool, Violation> {
    let opened = Device::open(image, case, truth.opening);
    let opened = check_opened(opened, truth.opening, when)?;
    Ok(opened.is_some_and(|(mut device, interrupted)| {
        interrupted.is_none() && read_all(&mut device, again).is_ok() && again[..] == *content
    }))
}

const AFTER_A_RECOVERY: &str = "after the recovery of an image tool";

/// What an image tool has left that a crash has cut off: a new file is whole or not there, and
/// what is done to the image can be ended.
fn check_tool(image: &SimHost, under: &UnderTool, opening: Opening) -> Result<(), Violation> {
    under.check_output(image).map_err(|what| {
        let violation = Violation::new(Kind::Inconsistent, AFTER_A_CRASH, &what);
        violation.by(Act::Tool).with_error(what)
    })?;
    let recovered = use_tool(image, ImageTool::Recover, opening.at_once);
    recovered.map_err(|error| not_recovered(error, AFTER_A_RECOVERY))
}

fn not_recovered(error: NotDone, when: &str) -> Violation {
    let what = match error {
        NotDone::Refused => "the recovery refuses it".into(),
        NotDone::Failed(error) => error.to_string(),
    };
    let violation = Violation::new(Kind::DoesNotRecover, when, &what);
    violation.by(Act::Tool).with_error(what)
}

/// A raw disk is what the device shows, and a partial last sector.
fn raw_is_whole(disk: &FileContent, shown: &[u8]) -> Result<(), Wrong> {
    let wrong = |at, what, found| Err(Wrong { at, what, found });
    let (len, expected) = (disk.length().0, shown.len() as u64);
    if len / SECTOR_SIZE * SECTOR_SIZE != expected {
        let found = format!(
            "found {}, the device showed {expected}",
            exact_count(len, "byte")
        );
        return wrong(len, "length", found);
    }
    match disk.holds(shown, FileOffset(0)) {
        true => Ok(()),
        false => wrong(
            0,
            "raw disk",
            "it does not hold what the device showed".into(),
        ),
    }
}

/// Looks at a COW file with nothing of the driver's code. Read as the format's page says, the file
/// has to show what the device showed, and to be whole as a file is in which no resize is under
/// way. A file that was shorter than its data area may still be shorter, if it holds all dirty
/// data. The file, as it was read.
fn consistent<'a>(
    cow: &'a FileContent,
    host: &SimHost,
    case: &Case,
    truth: &Truth,
    shown: DiskContents,
) -> Result<CowFile<&'a FileContent>, Wrong> {
    let cow = CowFile::open(cow)?;
    let wrong = |at, what, found: String| Err(Wrong { at, what, found });
    let (header, fields) = (&cow.header, cow.header.version.fields());
    if header.marked {
        let found = "a reflow is still under way".into();
        return wrong(fields.size, "mark", found);
    }
    // A grow cuts off what lies in the place of a partial last sector before it makes a whole one.
    let end = match truth.history.partial() {
        Some(partial) => cow.layout.end.min(cow.layout.place(partial)),
        None => cow.layout.end,
    };
    let len = cow.file_len();
    if len < end && !case.image.ends_with_data {
        let found = format!("the file ends here, its data at byte {end}");
        return wrong(len, "length", found);
    }
    let mut backing_files = truth.backing.iter();
    let Some((&backing, below)) = backing_files.find(|(path, _)| path.as_bytes() == header.path)
    else {
        let path = String::from_utf8_lossy(&header.path);
        let expected: Vec<_> = truth.backing.keys().collect();
        let found = format!("found {path:?}, expected one of {expected:?}");
        return wrong(fields.path, "path", found);
    };
    let merging = truth.tool.as_ref().and_then(|under| under.merges_into);
    // What a merge has written there is dirty in the COW file too.
    let now = (merging == Some(backing)).then(|| host.content(backing));
    let below = now.as_ref().and_then(Option::as_ref).unwrap_or(below);
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
    let size = below.length().0;
    let recorded = cow
        .extension
        .map_or(header.size, |extension| extension.backing_size);
    if size != recorded && size != header.size {
        let found = format!(
            "found {}, the COW file says {recorded}",
            exact_count(size, "byte")
        );
        return wrong(Extension::AT, "size of the backing file", found);
    }
    cow.check_shown(below, &shown)?;
    Ok(cow)
}
