//! What the image tools that change nothing tell of an image at rest, against what its files have
//! when they are read without any code of theirs.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use driver::cow::SectorState;
use driver::ordered::Ordered;
use driver::units::Bytes;
use userhelper::image::check::{Fault, check as check_image};
use userhelper::image::compare::compare;
use userhelper::image::map::{MappedRun, mapped_runs};
use userhelper::image::open::{Format, Trust, open_cow, open_image};

use crate::plain_format::{CowFile, SECTOR, Version};
use crate::sim::{FileContent, SimFile, SimHost};

use super::paths::COW;
use super::tidy::Untidy;

/// Asks the tools about the COW file and `backing`, its backing file, on a host that nobody else
/// uses. `disk` is what the device shows.
///
/// # Errors
/// What one of them tells that is not so.
pub(super) fn check(host: &SimHost, backing: &str, disk: &[u8]) -> Result<(), String> {
    let file = host.content(COW).ok_or("there is no COW file")?;
    let cow = CowFile::open(&file).map_err(|wrong| wrong.to_string())?;
    let untidy = Untidy::of(&file).map_err(|wrong| wrong.to_string())?;
    findings(host, &cow, untidy)?;
    if cow.header.marked {
        return Ok(());
    }
    mapped(host, &cow)?;
    compared(host, backing, disk)
}

/// What `image check` finds.
fn findings(host: &SimHost, cow: &CowFile<&FileContent>, untidy: Untidy) -> Result<(), String> {
    let go_on = &mut |_: Bytes, _: Bytes| ControlFlow::Continue(());
    let checked = check_image(host, Path::new(COW), Trust::Follow, go_on);
    let checked = checked.map_err(|error| format!("image check: {error}"))?;
    let found: BTreeSet<Fault> = checked.findings.iter().map(|one| one.fault).collect();
    let (len, marked) = (cow.file_len(), cow.header.marked);
    // In the middle of a reflow nothing is at rest.
    let is_v3 = cow.header.version == Version::V3 && !marked;
    let expected = [
        (Fault::InterruptedResize, marked, true),
        (Fault::BitsPastEnd, untidy.bit.is_some(), is_v3),
        (Fault::FileShort, len < cow.layout.end, !marked),
        (Fault::BackingChanged, false, true),
        (Fault::BackingMissing, false, true),
        (Fault::InterruptedBackingChange, false, true),
        (Fault::DamagedExtension, false, true),
        (Fault::LostExtension, false, true),
        (Fault::DataCutShort, false, true),
        (Fault::BadJournal, false, true),
    ];
    for (fault, is_there, is_known) in expected {
        if is_known && is_there != found.contains(&fault) {
            let says = if is_there { "does not find" } else { "finds" };
            return Err(format!("image check {says} {}", fault.name()));
        }
    }
    let is_longer = [Fault::TrailingData, Fault::TrailingHole];
    let says_longer = is_longer.iter().any(|fault| found.contains(fault));
    match says_longer == untidy.too_long.is_some() || marked {
        true => Ok(()),
        false => Err("image check is wrong about the length of the file".into()),
    }
}

/// What `image map` tells of which file has which sector.
fn mapped(host: &SimHost, cow: &CowFile<&FileContent>) -> Result<(), String> {
    let image = open_cow(host, Path::new(COW), Trust::Follow);
    let image = image.map_err(|error| format!("image map: {error}"))?;
    dirty_runs(&image.device, cow).map(drop)
}

/// The runs of dirty sectors that `image map` tells of a device.
///
/// # Errors
/// If others are dirty in its file.
pub(super) fn dirty_runs(
    device: &Ordered<SimFile>,
    cow: &CowFile<&FileContent>,
) -> Result<Vec<MappedRun>, String> {
    let runs: Result<Vec<MappedRun>, _> = mapped_runs(device).collect();
    let mut runs = runs.map_err(|error| format!("image map: {error}"))?;
    runs.retain(|run| run.state == SectorState::Dirty);
    let told = runs.iter();
    let told = told.flat_map(|run| run.range.start.0..run.range.end().0);
    match told.eq(cow.dirty()) {
        true => Ok(runs),
        false => Err("image map: it tells other sectors dirty than are".into()),
    }
}

/// What `image compare` tells of the disk and its backing file.
fn compared(host: &SimHost, backing: &str, disk: &[u8]) -> Result<(), String> {
    let go_on = &mut |_: Bytes, _: Bytes| ControlFlow::Continue(());
    let failed = |error| format!("image compare: {error}");
    let image = open_image(host, Path::new(COW), Format::Cow, Trust::Follow).map_err(failed)?;
    let below = open_image(host, Path::new(backing), Format::Raw, Trust::Follow).map_err(failed)?;
    let told = compare(host, &image, &below, go_on).map_err(failed)?;
    let below = host.content(backing).unwrap_or_default().to_bytes();
    let byte = |disk: &[u8], at: usize| disk.get(at).copied().unwrap_or(0);
    let len = disk.len().max(below.len());
    let differing: Vec<usize> = (0..len)
        .filter(|&at| byte(disk, at) != byte(&below, at))
        .collect();
    let sectors: BTreeSet<usize> = (differing.iter()).map(|at| at / SECTOR as usize).collect();
    let first = told.first.map(|at| at.0 as usize);
    match first == differing.first().copied() && told.sectors.0 == sectors.len() as u64 {
        true => Ok(()),
        false => Err(format!(
            "image compare tells of {} sectors from byte {first:?} on, there are {} from {:?} on",
            told.sectors.0,
            sectors.len(),
            differing.first()
        )),
    }
}

#[cfg(test)]
mod tests {
    use driver::units::FileOffset;

    use super::super::build::{Built, build};
    use super::super::case::{DriverName, Image, ImageVersion};
    use super::super::generate::{Subject, generate};
    use super::super::paths::BACKING;
    use super::*;

    /// An image of 61 sectors at rest, with room past the last one's bit.
    fn at_rest() -> (SimHost, FileContent, Vec<u8>) {
        let mut case = generate(1, &Subject::healthy(DriverName::Ordered));
        case.image = Image {
            dirty: vec![(0, 4), (30, 9)],
            extension: true,
            ..Image::sound(61, ImageVersion::V3, 4096)
        };
        let Built { host, .. } = build(&case);
        let file = host.content(COW).unwrap();
        let below = host.content(BACKING).unwrap();
        let disk = CowFile::open(&file).unwrap().disk(&below);
        (host, file, disk)
    }

    /// What is told of another file than the one that was read is not so.
    fn told_of(changed: &FileContent) -> (Result<(), String>, Result<(), String>) {
        let (host, file, _) = at_rest();
        let (cow, untidy) = (CowFile::open(&file).unwrap(), Untidy::of(&file).unwrap());
        host.install(COW, changed.clone());
        (findings(&host, &cow, untidy), mapped(&host, &cow))
    }

    #[test]
    fn what_the_tools_tell_of_an_image_is_so() {
        let (host, file, disk) = at_rest();
        assert_eq!(check(&host, BACKING, &disk), Ok(()));
        assert_eq!(told_of(&file), (Ok(()), Ok(())));
    }

    #[test]
    fn what_is_told_and_is_not_so_is_seen() {
        let (host, file, mut disk) = at_rest();
        let layout = CowFile::open(&file).unwrap().layout;
        let with_bits = |byte: u64, bits: u8| {
            let (mut changed, at) = (file.clone(), FileOffset(layout.bitmap + byte));
            changed.write_at(&[bits], at);
            changed
        };
        // Sectors 56 to 60 have their bits in this byte, and three bits are past them.
        let (findings, mapped) = told_of(&with_bits(7, 1 << 7));
        assert!(findings.is_err() && mapped.is_ok(), "{findings:?}");
        let (_, mapped) = told_of(&with_bits(1, 1));
        assert!(mapped.is_err());
        let mut longer = file.clone();
        longer.write_at(&[1; 512], FileOffset(layout.end));
        assert!(told_of(&longer).0.is_err());
        disk[5 * SECTOR as usize] ^= 1;
        assert!(compared(&host, BACKING, &disk).is_err());
        host.install(COW, FileContent::from_bytes(&[0; 512]));
        assert!(check(&host, BACKING, &disk).is_err());
    }
}
