//! A replay of random reads over a backing file that is not in the page cache, beside the device
//! alone: what comparing every sector costs, where it may not disturb what is measured.

use std::path::Path;

use driver::device_spec::DeviceSpec;
use driver::open::OpenOptions;
use driver::units::Bytes;

use super::deep::{BACKING, Cache, Content, REQUESTS, RUNS, SIZE, Turns, executor};
use super::device::{SetUpError, file_error};
use super::{Only, wanted};
use crate::bench::{Row, Unit, median};
use crate::replay::Session;
use crate::replay::options::Options;
use crate::trace::{Generator, TraceSource, Workload};

const NAME: &str = "io/cold 4 KiB read, over a backing file, depth 32, by a replay";
const DEPTH: usize = 32;
const COW: &str = "cold-replay.cow";

/// Measures the row.
pub(super) fn measure(
    directory: &Path,
    only: Only<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    if !wanted(only, NAME) {
        return Ok(());
    }
    let mut turns = Turns::prepare(directory, Content::Clean)?;
    let (mut replay, mut device) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        turns.make(Cache::Cold)?;
        let rate = replayed(directory).map_err(|error| SetUpError::Replay(error.to_string()))?;
        replay.push(rate);
        turns.make(Cache::Cold)?;
        // What a replay takes too, where it can be had.
        let ring = executor("uring", DEPTH)?;
        let Some(mut executor) =
            ring.map_or_else(|| executor("threads", DEPTH), |ring| Ok(Some(ring)))?
        else {
            return Ok(());
        };
        let time = turns.device(Cache::Cold, DEPTH, &mut *executor)?;
        device.push(REQUESTS as f64 / time.as_secs_f64());
    }
    let row = Row::new(NAME, median(&replay), Unit::PerSecond);
    each(vec![
        row.against("the device alone", median(&device)).target(0.9),
    ]);
    Ok(())
}

/// Requests a second of a replay onto a new COW file.
fn replayed(directory: &Path) -> Result<f64, Box<dyn std::error::Error>> {
    let workload = Workload {
        requests: REQUESTS,
        device: SIZE,
        reads: 1,
        writes: 0,
        sizes: vec![(1, Bytes(4096))],
        writes_per_flush: 0,
        ..Workload::default()
    };
    workload.check()?;
    let open = || -> Result<Box<dyn TraceSource>, _> {
        let generator = Generator::new(workload.clone());
        Ok(Box::new(generator.expect("it was checked")))
    };
    let session = Session {
        trace: &open,
        options: Options {
            open: OpenOptions {
                create: true,
                ..OpenOptions::default()
            },
            ..Options::as_fast(DEPTH)
        },
        progress: &|_| {},
    };
    let cow = directory.join(COW);
    let spec = DeviceSpec {
        backing: Some(directory.join(BACKING)),
        ..DeviceSpec::of(&cow)
    };
    let report = session.on_device(&spec);
    std::fs::remove_file(&cow).map_err(|error| file_error(&cow, error))?;
    Ok(report?.requests_per_second)
}
