//! One read across sectors that lie in the two files by turns. It takes a system call for each
//! run of them and nothing more, and is measured beside those system calls bare. So is its
//! growth.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use driver::blk::{Request, Tag};
use driver::host::HostFile;
use driver::ordered::Ordered;
use driver::units::Sector;

use super::counting::Counting;
use super::device::{Device, SetUpError, file_error, fresh_on, sector_of, served};
use super::in_place::pass;
use crate::bench::rounds::rounds;
use crate::bench::{Growth, Only, Order, Row, Unit};
use crate::clock;

/// Runs in a request. The longest request has room for 1024 of 4 KiB.
const RUNS: [u64; 4] = [1, 10, 100, 1000];

/// The length of each, in bytes. The first one is dirty, the next one is clean, and so on.
const RUN: u64 = 4096;

/// Runs read in one pass, in however many requests.
const PASS: u64 = 1000;

const GROWTH: &str = "io/growth/read against its runs";

/// Measures the rows.
pub(super) fn measure(
    directory: &Path,
    only: &Only,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    let name = |runs: u64| format!("io/read of {runs} runs");
    let some = RUNS.map(|runs| only.wanted(&name(runs)) || only.wanted(&calls_name(runs)));
    let growing = only.wanted(GROWTH);
    if !growing && !some.contains(&true) {
        return Ok(());
    }
    let mut growth = Growth::new(GROWTH, Unit::Nanoseconds);
    // For the backing file that it leaves.
    drop(Device::fresh(directory)?);
    let counted = RUNS.map(|runs| count(directory, runs));
    let (mut device, backing) = striped(directory)?;
    for ((runs, asked), counted) in RUNS.into_iter().zip(some).zip(counted) {
        let (own, bare) = time(&mut device, &backing, runs)?;
        growth.point(format!("{runs} runs"), runs as f64, own);
        if asked {
            let row = Row::new(name(runs), own, Unit::Nanoseconds);
            each(vec![
                Row::new(calls_name(runs), counted? as f64, Unit::Count).target(runs as f64),
                row.against("as many preads", bare).target(0.95),
            ]);
        }
    }
    if growing {
        each(growth.rows(Order::Linear));
    }
    Ok(())
}

fn calls_name(runs: u64) -> String {
    format!("io/read of {runs} runs, system calls")
}

/// A device of which every second run at the start is dirty, and its backing file.
fn striped(directory: &Path) -> Result<(Device, File), SetUpError> {
    let mut device = Device::fresh(directory)?;
    stripe(&mut device.ordered)?;
    let backing = directory.join("backing.img");
    let opened = File::open(&backing);
    Ok((device, opened.map_err(|error| file_error(&backing, error))?))
}

fn stripe<F: HostFile>(device: &mut Ordered<F>) -> Result<(), SetUpError> {
    let mut request = Request::write(Tag(0), Sector(0), vec![0x5a; RUN as usize]);
    for run in (0..PASS).step_by(2) {
        request.start = sector_of(run * RUN);
        request = served(device, request).map_err(SetUpError::Request)?;
    }
    Ok(())
}

fn read(runs: u64) -> Request {
    Request::read(Tag(0), Sector(0), sector_of(runs * RUN) - Sector(0))
}

/// The system calls that a read of `runs` runs takes.
fn count(directory: &Path, runs: u64) -> Result<u64, SetUpError> {
    let host = Counting::default();
    let mut device = fresh_on(&host, directory, &directory.join("backing.img"))?;
    stripe(&mut device)?;
    host.begin();
    served(&mut device, read(runs)).map_err(SetUpError::Request)?;
    Ok(host.transfers_and_syncs())
}

/// The nanoseconds of a read of `runs` runs, by the driver and by bare system calls into the same
/// buffer.
fn time(device: &mut Device, backing: &File, runs: u64) -> Result<(f64, f64), SetUpError> {
    let mut failure = None;
    let request = Cell::new(Some(read(runs)));
    let (ordered, bare, data) = (&mut device.ordered, &device.bare, device.data.0);
    let positions = vec![0; (PASS / runs) as usize];
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
        Box::new(|| {
            let Some(mut taken) = request.take() else {
                return Duration::ZERO;
            };
            let buffer = &mut taken.segments[0].data;
            let started = clock::start();
            for _ in &positions {
                for (run, part) in buffer.chunks_exact_mut(RUN as usize).enumerate() {
                    let at = run as u64 * RUN;
                    // The device does the same, and there a failure would be reported.
                    let _ = match run % 2 {
                        0 => bare.read_exact_at(part, data + at),
                        _ => backing.read_exact_at(part, at),
                    };
                }
            }
            let time = started.elapsed();
            request.set(Some(taken));
            time
        }),
    ]);
    failure.map_or(Ok(()), Err)?;
    let each_one = |time: f64| time / positions.len() as f64;
    Ok((each_one(times[0]), each_one(times[1])))
}
