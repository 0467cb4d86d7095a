//! A replay of random reads over a backing file that is not in the page cache, beside the device
//! alone: what comparing every sector costs, where it may not disturb what is measured.

use std::path::Path;

use driver::device_spec::DeviceSpec;
use driver::open::OpenOptions;
use driver::units::Bytes;

use super::deep::{BACKING, Cache, Content, Turns, executor};
use super::device::{SetUpError, file_error};
use super::scale::Scale;
use crate::bench::{Only, Row, Unit, median};
use crate::device::{Io, Taken};
use crate::replay::options::Options;
use crate::replay::{Report, Session};
use crate::trace::{Generator, TraceSource, Workload};

const NAME: &str = "io/cold 4 KiB read, over a backing file, depth 32, by a replay";
const DEPTH: usize = 32;
const COW: &str = "cold-replay.cow";

/// Measures the row.
pub(super) fn measure(
    directory: &Path,
    only: &Only,
    io: Io,
    scale: &Scale,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    if !only.wanted(NAME) {
        return Ok(());
    }
    // What was asked for by name and is not to be had ends it here.
    io.choose(DEPTH)?;
    let mut turns = Turns::prepare(directory, Content::Clean, io, scale)?;
    let (mut replay, mut device, mut taken) = (Vec::new(), Vec::new(), None);
    for _ in 0..scale.runs {
        turns.make(Cache::Cold)?;
        let report = replayed(directory, io, scale)
            .map_err(|error| SetUpError::Replay(error.to_string()))?;
        replay.push(report.requests_per_second);
        taken = report.io;
        turns.make(Cache::Cold)?;
        // By what the replay has taken.
        let time = match taken {
            Some(taken @ (Taken::Uring | Taken::Threads)) => {
                let Some(mut executor) = executor(taken.name(), DEPTH)? else {
                    return Ok(());
                };
                turns.device(Cache::Cold, DEPTH, &mut *executor)?
            }
            Some(Taken::Inline) | None => turns.inline(Cache::Cold)?,
        };
        device.push(scale.reads as f64 / time.as_secs_f64());
    }
    let row = Row::new(NAME, median(&replay), Unit::PerSecond);
    let row = taken.into_iter().fold(row, Row::by);
    each(vec![
        row.against("the device alone", median(&device)).target(0.9),
    ]);
    Ok(())
}

/// A replay onto a new COW file.
fn replayed(directory: &Path, io: Io, scale: &Scale) -> Result<Report, Box<dyn std::error::Error>> {
    let workload = Workload {
        requests: scale.reads,
        device: scale.cold,
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
            io,
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
    let removed = std::fs::remove_file(&cow);
    // Of two errors the replay's comes first: it may be why there is no file.
    let report = report?;
    removed.map_err(|error| file_error(&cow, error))?;
    Ok(report)
}
