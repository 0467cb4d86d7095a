//! Several clients, each of which writes 4 KiB, waits, flushes, waits, and so on. Flushes that come
//! while one is under way share the next, so that a flush costs less than a sync. Beside as many
//! threads that write and sync the same amount with bare system calls, each sync its own.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use driver::blk::{Operation, Request, Status, Tag};
use driver::driver::Driver;
use driver::executor::{Executor, Wait};
use driver::units::Sector;
use userhelper::real_files::RealFile;

use super::deep::{died, executor};
use super::device::{Device, SetUpError, file_error, scattered_over, sector_of};
use super::in_place::bare_file;
use super::scale::Scale;
use crate::bench::{Only, Row, Unit, median};
use crate::clock;

const CLIENTS: usize = 8;

const SYNCS: &str = "io/4 KiB overwrite and flush, 8 clients, syncs a flush";
const RATE: &str = "io/4 KiB overwrite and flush, 8 clients";

/// Measures the rows.
pub(super) fn measure(
    directory: &Path,
    only: &Only,
    scale: &Scale,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    let [syncs, rate] = [SYNCS, RATE].map(|name| only.wanted(name));
    if !syncs && !rate {
        return Ok(());
    }
    let positions = scattered_over(scale.flushed, scale.flushes, 4096);
    let mut device = Device::full_of(directory, scale.flushed)?;
    let path = directory.join("bare-flush.img");
    let mut driver: Vec<_> = ["uring", "threads"]
        .map(|name| (name, Vec::new(), Vec::new()))
        .into();
    let file = written(&path, &positions).map_err(|error| file_error(&path, error))?;
    let mut bare = Vec::new();
    for _ in 0..scale.runs {
        for (name, times, counts) in &mut driver {
            let Some(mut executor) = executor(name, CLIENTS)? else {
                continue;
            };
            let before = device.ordered.statistics().syncs;
            let time = clients(&mut device, &positions, &mut *executor)?;
            let syncs = device.ordered.statistics().syncs - before;
            times.push(time.as_secs_f64());
            counts.push(syncs as f64 / scale.flushes as f64);
        }
        let time = bare_clients(&file, &positions).map_err(|error| file_error(&path, error))?;
        bare.push(time.as_secs_f64());
    }
    driver.retain(|(_, times, _)| !times.is_empty());
    for (name, times, counts) in driver {
        let mut rows = Vec::new();
        if syncs {
            let row = Row::new(format!("{SYNCS}, {name}"), median(&counts), Unit::Count);
            rows.push(row.target(0.5));
        }
        if rate {
            let a_second = |times: &[f64]| scale.flushes as f64 / median(times);
            let row = Row::new(format!("{RATE}, {name}"), a_second(&times), Unit::PerSecond);
            rows.push(row.against("8 threads, pwrite and fdatasync", a_second(&bare)));
        }
        each(rows);
    }
    Ok(())
}

/// The time of these writes, each flushed by the client that wrote it.
fn clients(
    device: &mut Device,
    positions: &[u64],
    executor: &mut dyn Executor<RealFile>,
) -> Result<Duration, SetUpError> {
    let ordered = &mut device.ordered;
    let mut left = positions.iter();
    let started = clock::start();
    let mut next: Vec<_> = left.by_ref().take(CLIENTS).map(|&at| write(at)).collect();
    loop {
        for request in next.drain(..) {
            let submitted = ordered.submit(request);
            submitted.map_err(|_| SetUpError::Request(Status::Invalid))?;
        }
        if !ordered.is_busy() {
            return Ok(started.elapsed());
        }
        ordered.begin_on(executor);
        ordered.take_ended(executor, Wait::ForOne).map_err(died)?;
        while let Some(completion) = ordered.next_completion() {
            if completion.status != Status::Ok {
                return Err(SetUpError::Request(completion.status));
            }
            match completion.request.operation {
                Operation::Write { .. } => next.push(Request::flush(Tag(0))),
                _ => next.extend(left.next().map(|&at| write(at))),
            }
        }
    }
}

fn write(at: u64) -> Request {
    let mut request = Request::write(Tag(0), Sector(0), vec![0x5a; 4096]);
    request.start = sector_of(at);
    request
}

/// The time that as many threads take with system calls alone.
fn bare_clients(file: &File, positions: &[u64]) -> std::io::Result<Duration> {
    let started = clock::start();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let own = positions.iter().skip(client).step_by(CLIENTS);
                scope.spawn(move || {
                    for &at in own {
                        file.write_all_at(&[0x5a; 4096], at)?;
                        file.sync_data()?;
                    }
                    Ok(())
                })
            })
            .collect();
        let ended = clients.into_iter().map(|client| client.join());
        for ended in ended {
            ended.unwrap_or_else(|_| Err(std::io::Error::other("a thread has died")))?;
        }
        Ok(started.elapsed())
    })
}

/// A file that has its blocks at these positions: an overwrite allocates nothing.
fn written(path: &Path, positions: &[u64]) -> std::io::Result<File> {
    let end = positions.iter().max().map_or(0, |at| at + 4096);
    let file = bare_file(path, end)?;
    for &at in positions {
        file.write_all_at(&[0x5a; 4096], at)?;
    }
    file.sync_data()?;
    Ok(file)
}
