//! The driver stepped in place, beside pread and pwrite.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use driver::blk::{Request, Status, Tag};
use driver::host::HostFile;
use driver::ordered::Ordered;
use driver::units::Sector;

use super::device::{Device, SIZE, SetUpError, file_error, scattered, sector_of, served};
use crate::bench::rounds::rounds;
use crate::bench::{Only, Row, Unit};
use crate::clock;

/// What is done to the device again and again.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Read,
    Write,
}

struct Case {
    name: &'static str,
    kind: Kind,
    len: u64,
    sequential: bool,
    /// The least share of the bare system call's speed.
    target: f64,
}

const CASES: [Case; 5] = [
    case("io/4 KiB random read", Kind::Read, 4096, false, 0.95),
    case("io/4 KiB random overwrite", Kind::Write, 4096, false, 0.95),
    case("io/1 MiB sequential read", Kind::Read, 1 << 20, true, 0.98),
    case(
        "io/1 MiB sequential write",
        Kind::Write,
        1 << 20,
        true,
        0.98,
    ),
    case("io/512 B random read", Kind::Read, 512, false, 0.90),
];

const fn case(name: &'static str, kind: Kind, len: u64, sequential: bool, target: f64) -> Case {
    Case {
        name,
        kind,
        len,
        sequential,
        target,
    }
}

/// Bytes that one pass moves at most.
const PASS: u64 = 16 << 20;

/// Requests of one pass at most: few, so that most passes are over before the machine does
/// something else.
const REQUESTS: u64 = 512;

/// First writes of one pass; more, for each pass needs new files.
const FIRST_WRITES: usize = 4096;

/// Measures the rows.
pub(super) fn measure(
    directory: &Path,
    only: &Only,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    if CASES.iter().any(|case| only.wanted(case.name)) {
        let mut device = Device::full(directory)?;
        for case in CASES.iter().filter(|case| only.wanted(case.name)) {
            each(vec![case.measure(&mut device)?]);
        }
    }
    if only.wanted(FIRST_WRITE) {
        each(vec![first_write(directory)?]);
    }
    Ok(())
}

impl Case {
    fn measure(&self, device: &mut Device) -> Result<Row, SetUpError> {
        let count = (PASS / self.len).min(REQUESTS);
        let positions = match self.sequential {
            true => (0..count).map(|index| index * self.len % SIZE.0).collect(),
            false => scattered(count as usize, self.len),
        };
        let request = Cell::new(Some(match self.kind {
            Kind::Read => Request::read(Tag(0), Sector(0), sector_of(self.len) - Sector(0)),
            Kind::Write => Request::write(Tag(0), Sector(0), vec![0x5a; self.len as usize]),
        }));
        let mut failure = None;
        let (ordered, bare, start) = (&mut device.ordered, &device.bare, device.data.0);
        let times = rounds(&mut [
            Box::new(|| {
                let Some(taken) = request.take() else {
                    return Duration::ZERO;
                };
                let started = clock::start();
                let passed = pass(ordered, taken, &positions);
                let time = started.elapsed();
                match passed {
                    Ok(done) => request.set(Some(done)),
                    Err(status) => failure = Some(SetUpError::Request(status)),
                }
                time
            }),
            // Into or out of the driver's buffer: how it lies in memory makes a fifth of the time
            // of 1 MiB.
            Box::new(|| {
                let Some(mut taken) = request.take() else {
                    return Duration::ZERO;
                };
                let buffer = &mut taken.segments[0].data;
                let time = bare_pass(bare, self.kind, &positions, start, buffer);
                request.set(Some(taken));
                time
            }),
        ]);
        failure.map_or(Ok(()), Err)?;
        let each = |time: f64| time / count as f64;
        let row = Row::new(self.name, each(times[0]), Unit::Nanoseconds);
        let name = match self.kind {
            Kind::Read => "pread",
            Kind::Write => "pwrite",
        };
        Ok(row.against(name, each(times[1])).target(self.target))
    }
}

/// The request at one position after another.
pub(super) fn pass<F: HostFile>(
    device: &mut Ordered<F>,
    mut request: Request,
    positions: &[u64],
) -> Result<Request, Status> {
    for &at in positions {
        request.start = sector_of(at);
        request = served(device, request)?;
    }
    Ok(request)
}

pub(super) fn bare_pass(
    file: &File,
    kind: Kind,
    positions: &[u64],
    start: u64,
    buffer: &mut [u8],
) -> Duration {
    let started = clock::start();
    for &at in positions {
        let done = match kind {
            Kind::Read => file.read_exact_at(buffer, start + at),
            Kind::Write => file.write_all_at(buffer, start + at),
        };
        // The device does the same on the same file, and there it would be reported.
        if done.is_err() {
            break;
        }
    }
    started.elapsed()
}

const FIRST_WRITE: &str = "io/4 KiB first write";

/// Each pass on a new device, and beside it on a new file of the same layout.
fn first_write(directory: &Path) -> Result<Row, SetUpError> {
    let positions = scattered(FIRST_WRITES, 4096);
    let mut failure = None;
    let fresh_bare = directory.join("bare.img");
    let data = Device::fresh(directory)?.data.0;
    let times = rounds(&mut [
        Box::new(|| match first_writes(directory, &positions) {
            Ok(time) => time,
            Err(error) => {
                failure = Some(error);
                Duration::ZERO
            }
        }),
        Box::new(|| {
            let _ = std::fs::remove_file(&fresh_bare);
            let Ok(file) = bare_file(&fresh_bare, data + SIZE.0) else {
                return Duration::ZERO;
            };
            bare_pass(&file, Kind::Write, &positions, data, &mut [0x5a; 4096])
        }),
    ]);
    failure.map_or(Ok(()), Err)?;
    std::fs::remove_file(&fresh_bare).map_err(|error| file_error(&fresh_bare, error))?;
    let each = |time: f64| time / positions.len() as f64;
    let row = Row::new(FIRST_WRITE, each(times[0]), Unit::Nanoseconds);
    Ok(row.against("pwrite", each(times[1])).target(0.90))
}

/// A new file of this length, which is one hole: durable, as a device leaves its own.
pub(super) fn bare_file(path: &Path, len: u64) -> std::io::Result<File> {
    let file = File::create_new(path)?;
    file.set_len(len)?;
    file.sync_all()?;
    Ok(file)
}

fn first_writes(directory: &Path, positions: &[u64]) -> Result<Duration, SetUpError> {
    let mut device = Device::fresh(directory)?;
    let request = Request::write(Tag(0), Sector(0), vec![0x5a; 4096]);
    let started = clock::start();
    pass(&mut device.ordered, request, positions).map_err(SetUpError::Request)?;
    Ok(started.elapsed())
}
