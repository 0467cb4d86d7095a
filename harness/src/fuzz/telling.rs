//! What the image tools that change nothing tell of an image at rest, against what its files have
//! when they are read without any code of theirs.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use driver::cow::SectorState;
use driver::units::Bytes;
use userhelper::image::check::{Fault, check as check_image};
use userhelper::image::compare::compare;
use userhelper::image::map::mapped_runs;
use userhelper::image::open::{Format, Trust, open_cow, open_image};

use crate::plain_format::{CowFile, SECTOR, Version};
use crate::sim::{FileContent, SimHost};

use super::paths::COW;
use super::tidy::Untidy;

/// Asks the tools about the COW file and `backing`, its backing file, on a host that nobody else
/// uses. `disk` is what the device shows.
///
/// # Errors
/// What one of them tells that is not so.
pub(super) fn check(host: &SimHost, backing: &str, disk: &[u8]) -> Result<(), String> {
    let Some(file) = host.content(COW) else {
        return Ok(());
    };
    let Ok(cow) = CowFile::open(&file) else {
        return Ok(());
    };
    findings(host, &cow, Untidy::of(&file).unwrap_or_default())?;
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
    let mut told = Vec::new();
    for run in mapped_runs(&image.device) {
        let run = run.map_err(|error| format!("image map: {error}"))?;
        if run.state == SectorState::Dirty {
            told.extend(run.range.start.0..run.range.end().0);
        }
    }
    match told == cow.dirty() {
        true => Ok(()),
        false => Err("image map tells other sectors dirty than are".into()),
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
