//! A flush after many scattered first writes: two syncs, and a write for each page of the bitmap
//! that they touched. Beside it the bare system calls on a file with as much data in it; and its
//! growth with the number of pages.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use driver::blk::{Request, Tag};
use driver::cow::{PAGE_BYTES, SECTORS_PER_PAGE};
use driver::host::OperationKind;
use driver::units::{Bytes, Sector};

use super::counting::Counting;
use super::device::{Device, SIZE, SetUpError, file_error, fresh_on, scattered, served};
use super::in_place::{Kind, bare_file, bare_pass, pass};
use crate::bench::rounds::rounds;
use crate::bench::{Growth, Only, Order, Row, Unit, median};
use crate::clock;

const WRITES: usize = 10_000;

/// How often their flush is measured.
const RUNS: usize = 5;

const SYNCS: &str = "io/flush after 10,000 scattered first writes, syncs";
const BITMAP_WRITES: &str = "io/flush after 10,000 scattered first writes, bitmap writes";
const TIME: &str = "io/flush after 10,000 scattered first writes";
const GROWTH: &str = "io/growth/flush against pages of bitmap";

/// Pages of bitmap that a flush has to write, each for one first write.
const PAGES: [u64; 4] = [1, 10, 100, 1000];

/// The device on a page of bitmap.
const PER_PAGE: Bytes = SECTORS_PER_PAGE.bytes();

/// Measures the rows.
pub(super) fn measure(
    directory: &Path,
    only: &Only,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    let positions = scattered(WRITES, 4096);
    let mut pages: Vec<_> = positions.iter().map(|at| at / PER_PAGE.0).collect();
    pages.sort_unstable();
    pages.dedup();
    let counted = [SYNCS, BITMAP_WRITES].map(|name| only.wanted(name));
    if counted.contains(&true) {
        let [syncs, bitmap_writes] = count(directory, &positions)?;
        let syncs = Row::new(SYNCS, syncs as f64, Unit::Count).target(2.0);
        let bitmap_writes = Row::new(BITMAP_WRITES, bitmap_writes as f64, Unit::Count);
        let rows = [syncs, bitmap_writes.target(pages.len() as f64)];
        let asked = rows.into_iter().zip(counted);
        each(
            asked
                .filter_map(|(row, asked)| asked.then_some(row))
                .collect(),
        );
    }
    if only.wanted(TIME) {
        each(vec![time(directory, &positions, &pages)?]);
    }
    if only.wanted(GROWTH) {
        let mut growth = Growth::new(GROWTH, Unit::Milliseconds);
        for pages in PAGES {
            growth.point(
                format!("{pages} pages"),
                pages as f64,
                cost(directory, pages)?,
            );
        }
        each(growth.rows(Order::Linear));
    }
    Ok(())
}

/// The syncs and the writes that a flush after first writes at these positions takes.
fn count(directory: &Path, positions: &[u64]) -> Result<[u64; 2], SetUpError> {
    let host = Counting::default();
    let backing = backing(directory)?;
    let mut device = fresh_on(&host, &own_directory(directory, "counted")?, &backing)?;
    let request = Request::write(Tag(0), Sector(0), vec![0x5a; 4096]);
    pass(&mut device, request, positions).map_err(SetUpError::Request)?;
    host.begin();
    served(&mut device, Request::flush(Tag(0))).map_err(SetUpError::Request)?;
    Ok([OperationKind::SyncData, OperationKind::Write].map(|kind| host.count(kind)))
}

/// Each time on a new file, for both sides, and none is removed before the end. Some disks take
/// longer than all of this to discard the blocks of a file in many pieces.
fn time(directory: &Path, positions: &[u64], pages: &[u64]) -> Result<Row, SetUpError> {
    let backing = backing(directory)?;
    let (mut driver, mut bare) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let own = own_directory(directory, &format!("flush-{run}"))?;
        let mut device = Device::over(&own, &backing)?;
        driver.push(flush(&mut device, positions)?.as_secs_f64() * 1e3);
        let bitmap = device.ordered.image();
        let bitmap = bitmap.map_or(0, |image| image.geometry.bitmap_offset.0);
        let path = own.join("bare.img");
        let time = bare_flush(&path, positions, device.data.0, pages, bitmap);
        let time = time.map_err(|error| file_error(&path, error))?;
        bare.push(time.as_secs_f64() * 1e3);
    }
    let baseline = format!("2 fdatasyncs and {} pwrites", pages.len());
    let row = Row::new(TIME, median(&driver), Unit::Milliseconds);
    Ok(row.against(baseline, median(&bare)))
}

/// A backing file without holes.
fn backing(directory: &Path) -> Result<PathBuf, SetUpError> {
    drop(Device::fresh(directory)?);
    Ok(directory.join("backing.img"))
}

fn own_directory(directory: &Path, name: &str) -> Result<PathBuf, SetUpError> {
    let own = directory.join(name);
    std::fs::create_dir_all(&own).map_err(|error| file_error(&own, error))?;
    Ok(own)
}

/// The time of a flush after first writes at these positions.
fn flush(device: &mut Device, positions: &[u64]) -> Result<Duration, SetUpError> {
    let request = Request::write(Tag(0), Sector(0), vec![0x5a; 4096]);
    pass(&mut device.ordered, request, positions).map_err(SetUpError::Request)?;
    let started = clock::start();
    served(&mut device.ordered, Request::flush(Tag(0))).map_err(SetUpError::Request)?;
    Ok(started.elapsed())
}

/// The time of these writes and the two syncs without a driver, in a new file of that layout.
fn bare_flush(
    path: &Path,
    positions: &[u64],
    data: u64,
    pages: &[u64],
    bitmap: u64,
) -> std::io::Result<Duration> {
    let file = bare_file(path, data + SIZE.0)?;
    bare_pass(&file, Kind::Write, positions, data, &mut [0x5a; 4096]);
    let started = clock::start();
    file.sync_data()?;
    for page in pages {
        let at = bitmap + page * PAGE_BYTES as u64;
        file.write_all_at(&[0x5a; PAGE_BYTES], at)?;
    }
    file.sync_data()?;
    Ok(started.elapsed())
}

/// The milliseconds of a flush after one first write in each of `pages` pages of bitmap.
fn cost(directory: &Path, pages: u64) -> Result<f64, SetUpError> {
    let most = PAGES[PAGES.len() - 1];
    let positions: Vec<_> = (0..pages).map(|page| page * PER_PAGE.0).collect();
    let mut failure = None;
    let times = rounds(&mut [Box::new(|| {
        let device = Device::sparse(directory, Bytes(most * PER_PAGE.0));
        match device.and_then(|mut device| flush(&mut device, &positions)) {
            Ok(time) => time,
            Err(error) => {
                failure = Some(error);
                Duration::ZERO
            }
        }
    })]);
    failure.map_or(Ok(()), Err)?;
    Ok(times[0] / 1e6)
}
