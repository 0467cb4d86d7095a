//! What the image tools that only read make of a file in the middle of a reflow: they refuse it, or
//! they show the disk that the device shows.

use std::ops::ControlFlow;
use std::path::Path;

use driver::host::HostFile;
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, SectorCount};
use userhelper::image::ImageError;
use userhelper::image::check::{Fault, check as check_image};
use userhelper::image::convert::to_raw;
use userhelper::image::open::{Format, Trust, open_cow, open_image};

use crate::plain_format::{CowFile, MARK_BYTE, RECORD_CHECKSUMS};
use crate::sim::SimHost;

use super::case::{Case, DriverName};
use super::disk_contents::DiskContents;
use super::paths::COW;
use super::scratch::Scratch;
use super::signature::Act;
use super::telling;
use super::truth::{Truth, is_marked};
use super::violation::{Kind, Violation};

const WHEN: &str = "reading an interrupted reflow with image tools";

/// A new file for the disk, on a copy of the host.
const DISK: &str = "/disk/read";

/// One interrupted reflow in this many is read: it costs as much as judging the image.
const ONE_IN: u8 = 4;

/// Whether the image is read. That depends on what is in its file alone, so that it is read again
/// whenever a case is repeated.
pub(super) fn is_due(image: &SimHost, case: &Case, truth: &Truth) -> bool {
    let is_usual = case.driver == DriverName::Ordered
        && case.resize_model().is_none()
        && !case.image.raw
        && truth.tool.is_none()
        && truth.opening.must_refuse.is_none();
    let Some(file) = image.content(COW).filter(|_| is_usual) else {
        return false;
    };
    // Most images are told by this byte alone.
    let mut marked = [0];
    file.read_at(&mut marked, FileOffset(MARK_BYTE));
    if marked[0] & 1 << 7 == 0 || !is_marked(image) {
        return false;
    }
    let mut sum = 0u8;
    for at in RECORD_CHECKSUMS {
        let mut bytes = [0; 4];
        file.read_at(&mut bytes, FileOffset(at));
        sum = bytes.into_iter().fold(sum, u8::wrapping_add);
    }
    sum.is_multiple_of(ONE_IN)
}

/// Reads it, on a copy.
///
/// # Errors
/// A tool that fails in another way than by saying that a resize is unfinished, or that shows
/// something else than what may be there.
pub(super) fn check(
    image: &SimHost,
    truth: &Truth,
    scratch: &mut Scratch,
) -> Result<(), Violation> {
    scratch.read_by_tools += 1;
    let host = image.after_kill();
    let (path, trust) = (Path::new(COW), Trust::Follow);
    let go_on = &mut |_: Bytes, _: Bytes| ControlFlow::Continue(());
    let checked = check_image(&host, path, trust, go_on);
    let checked = checked.map_err(|error| failed("image check", &error))?;
    let mut findings = checked.findings.iter();
    if !findings.any(|one| one.fault == Fault::InterruptedResize) {
        return Err(wrong(
            "image check",
            "it does not find the interrupted resize",
        ));
    }
    let converted = open_image(&host, path, Format::Cow, trust)
        .and_then(|image| to_raw(&host, &image, Path::new(DISK), go_on));
    match converted {
        Ok(_) => {}
        Err(ImageError::Unfinished { .. }) => return Ok(()),
        Err(error) => return Err(failed("image convert", &error)),
    }
    let Some(disk) = host.content(DISK) else {
        return Err(wrong("image convert", "there is no new file"));
    };
    let whole = disk.length().0 / SECTOR_SIZE;
    if !truth.sizes.contains(&whole) {
        return Err(wrong(
            "image convert",
            "the new file has another size than the disk",
        ));
    }
    let Scratch { content, found, .. } = scratch;
    content.resize((whole * SECTOR_SIZE) as usize, 0);
    disk.read_at(content, FileOffset(0));
    let seen = DiskContents::of(content, found);
    let checked = truth.history.check_crash(SectorCount(whole), seen, WHEN);
    checked.map_err(|violation| violation.by(Act::Tool))?;
    let file = host.content(COW).unwrap_or_default();
    let plain = CowFile::open(&file).map_err(|error| wrong("image map", &error.to_string()))?;
    let cow = open_cow(&host, path, trust).map_err(|error| failed("image map", &error))?;
    let mut sector = vec![0; SECTOR_SIZE as usize];
    let runs = telling::dirty_runs(&cow.device, &plain);
    for run in runs.map_err(inconsistent)? {
        for number in 0..run.range.count.0 {
            let at = run.at + SectorCount(number).bytes();
            let start = (run.range.start + SectorCount(number)).bytes().0 as usize;
            let read = cow.device.cow().read_exact_at(&mut sector, at);
            if read.is_err() || sector != content[start..start + sector.len()] {
                let what = "it names a place that does not hold the sector";
                let violation = wrong("image map", what);
                return Err(violation.of_sector(run.range.start.0 + number));
            }
        }
    }
    Ok(())
}

fn wrong(tool: &str, what: &str) -> Violation {
    inconsistent(format!("{tool}: {what}"))
}

fn inconsistent(what: String) -> Violation {
    let violation = Violation::new(Kind::Inconsistent, WHEN, &what);
    violation.by(Act::Tool).with_error(what)
}

fn failed(tool: &str, error: &ImageError) -> Violation {
    let what = format!("{tool}: {error}");
    let violation = Violation::new(Kind::DoesNotOpen, WHEN, &what);
    violation.by(Act::Tool).with_error(what)
}

#[cfg(test)]
mod tests {
    use driver::resize::ResizeStep;
    use userhelper::at_once::AtOnce;

    use super::super::budget::Budget;
    use super::super::build::{Built, build};
    use super::super::case::{Image, ImageVersion, ResizeStrategy};
    use super::super::device::{Device, Opening};
    use super::super::generate::{Subject, generate};
    use super::super::history::{Held, History};
    use super::super::resizer::{Asked, begin};
    use super::*;

    /// Every state of a reflow that has not come to its end: the host, and what has to be true.
    fn interrupted() -> Vec<(SimHost, Truth)> {
        let mut case = generate(1, &Subject::healthy(DriverName::Ordered));
        case.image = Image {
            dirty: vec![(0, 4), (30, 9)],
            extension: true,
            ..Image::sound(64, ImageVersion::V3, 4096)
        };
        let Built {
            host,
            history,
            backing,
        } = build(&case);
        let truth = Truth {
            history,
            sizes: vec![64],
            backing,
            tool: None,
            done: None,
            opening: Opening::default(),
            budget: Budget::of(&case.image),
        };
        let (mut device, _) = Device::open(&host, &case, truth.opening).unwrap();
        let asked = Asked {
            sectors: 70,
            bytes: SectorCount(70).bytes(),
            strategy: ResizeStrategy::Reflow,
            window: 4,
            alignment: 16_384,
            at_once: AtOnce::default(),
        };
        let begun = begin(&host, device.resizable().unwrap(), asked, &case);
        assert!(begun.is_ok());
        let mut states = Vec::new();
        while device.step_resize() == ResizeStep::Working {
            if is_marked(&host) {
                states.push((host.after_kill(), truth.clone()));
            }
        }
        states
    }

    #[test]
    fn every_state_of_a_reflow_shows_the_disk_and_another_disk_is_seen() {
        let states = interrupted();
        assert!(states.len() > 8, "{}", states.len());
        for (host, mut truth) in states {
            let scratch = &mut Scratch::default();
            assert_eq!(check(&host, &truth, scratch), Ok(()));
            assert_eq!(scratch.read_by_tools, 1);
            truth.history = History::new((0..64).map(|_| Held::Zeros));
            assert!(check(&host, &truth, scratch).is_err());
        }
    }
}
