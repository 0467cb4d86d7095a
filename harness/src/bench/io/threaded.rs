//! The driver on its I/O thread, beside the same driver stepped in place: what the hop to
//! another thread and back costs, one request at a time and 32 of them.

use std::path::Path;
use std::time::Duration;

use driver::blk::{Request, Status, Tag};
use driver::ordered::Ordered;
use driver::units::{Sector, SectorCount};
use userhelper::real_files::RealFile;

use super::device::{Device, SetUpError, scattered, sector_of, served};
use crate::bench::rounds::rounds;
use crate::bench::{Only, Row, Unit};
use crate::clock;
use crate::device::{DeviceError, Live, Running};

const DEPTHS: [usize; 3] = [1, 8, 32];
const REQUESTS: usize = 4096;

/// At this depth the hop is to cost less than 15 %.
const BATCHED: usize = 32;

fn name(depth: usize) -> String {
    format!("io/4 KiB random read, I/O thread, depth {depth}")
}

/// Measures the rows.
pub(super) fn measure(
    directory: &Path,
    only: &Only,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    if !DEPTHS.iter().any(|&depth| only.wanted(&name(depth))) {
        return Ok(());
    }
    let positions = scattered(REQUESTS, 4096);
    let mut here = Device::full(directory)?;
    let elsewhere = directory.join("threaded");
    std::fs::create_dir_all(&elsewhere)
        .map_err(|error| super::device::file_error(&elsewhere, error))?;
    let there = Device::full(&elsewhere)?;
    let mut live =
        Live::start(there.ordered).map_err(|error| SetUpError::Thread(error.to_string()))?;
    let like = Request::read(Tag(0), Sector(0), SectorCount(8));
    let mut request = Some(like.clone());
    for depth in DEPTHS {
        if !only.wanted(&name(depth)) {
            continue;
        }
        let mut failure = None;
        let times = rounds(&mut [
            Box::new(
                || match threaded_pass(&mut live, &positions, depth, &like) {
                    Ok(time) => time,
                    Err(error) => {
                        failure = Some(error);
                        Duration::ZERO
                    }
                },
            ),
            Box::new(|| {
                let started = clock::start();
                for &at in &positions {
                    let Some(mut next) = request.take() else {
                        break;
                    };
                    next.start = sector_of(at);
                    request = served(&mut here.ordered, next).ok();
                }
                started.elapsed()
            }),
        ]);
        failure.map_or(Ok(()), Err)?;
        let each_one = |time: f64| time / positions.len() as f64;
        let row = Row::new(name(depth), each_one(times[0]), Unit::Nanoseconds)
            .against("without the thread", each_one(times[1]));
        each(vec![match depth {
            BATCHED => row.target(1.0 / 1.15),
            _ => row,
        }]);
    }
    live.close()
        .map_err(|error| SetUpError::Thread(error.to_string()))?;
    Ok(())
}

/// Keeps `depth` requests such as `like` in flight until there was one at each position.
pub(super) fn threaded_pass(
    live: &mut Live<Ordered<RealFile>>,
    positions: &[u64],
    depth: usize,
    like: &Request,
) -> Result<Duration, SetUpError> {
    let died = |error: DeviceError| SetUpError::Thread(error.to_string());
    let at = |&at: &u64| Request {
        start: sector_of(at),
        ..like.clone()
    };
    let requests: Vec<_> = positions.iter().take(depth).map(at).collect();
    let mut next = positions.iter().skip(depth);
    let started = clock::start();
    let mut in_flight = requests.len();
    let live = live.handle();
    live.submit_all(requests).map_err(died)?;
    while in_flight > 0 {
        let mut more = Vec::new();
        for completion in live.complete_all().map_err(died)? {
            in_flight -= 1;
            if completion.status != Status::Ok {
                return Err(SetUpError::Request(completion.status));
            }
            let mut request = completion.request;
            if let Some(&at) = next.next() {
                request.start = sector_of(at);
                more.push(request);
            }
        }
        in_flight += more.len();
        live.submit_all(more).map_err(died)?;
    }
    Ok(started.elapsed())
}
