//! What a request of 4 KiB costs against the size of the device, which is to be the same for
//! all sizes. The files are holes but for what is written here.

use std::path::Path;
use std::time::Duration;

use driver::blk::{Request, Tag};
use driver::units::{Bytes, Sector, SectorCount};

use super::device::{Device, SetUpError, scattered_over};
use super::in_place::pass;
use crate::bench::rounds::rounds;
use crate::bench::{Growth, Only, Order, Row, Unit};
use crate::clock;

const SIZES: [Bytes; 4] = [
    Bytes(256 << 20),
    Bytes(2560 << 20),
    Bytes(25 << 30),
    Bytes(256 << 30),
];

/// Requests of one pass: few enough that what they touch stays in the processor's caches, of
/// which a larger device has no more than a small one.
const REQUESTS: usize = 512;

const READ: &str = "io/growth/4 KiB read against device";
const FIRST_WRITE: &str = "io/growth/4 KiB first write against device";

/// Measures the rows.
pub(super) fn measure(
    directory: &Path,
    only: &Only,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    for name in [READ, FIRST_WRITE] {
        if !only.wanted(name) {
            continue;
        }
        let mut growth = Growth::new(name, Unit::Nanoseconds);
        for size in SIZES {
            let nanoseconds = match name {
                READ => read(directory, size)?,
                _ => first_write(directory, size)?,
            };
            growth.point(size.to_string(), size.0 as f64, nanoseconds);
        }
        each(growth.rows(Order::Constant));
    }
    Ok(())
}

/// The nanoseconds of a read of sectors that were written, all over a device of this size.
fn read(directory: &Path, size: Bytes) -> Result<f64, SetUpError> {
    let positions = scattered_over(size, REQUESTS, 4096);
    let mut device = Device::sparse(directory, size)?.ordered;
    pass(&mut device, write(), &positions).map_err(SetUpError::Request)?;
    let mut request = Some(Request::read(Tag(0), Sector(0), SectorCount(8)));
    let mut failure = None;
    let times = rounds(&mut [Box::new(|| {
        let Some(taken) = request.take() else {
            return Duration::ZERO;
        };
        let started = clock::start();
        let passed = pass(&mut device, taken, &positions);
        let time = started.elapsed();
        match passed {
            Ok(done) => request = Some(done),
            Err(status) => failure = Some(SetUpError::Request(status)),
        }
        time
    })]);
    failure.map_or(Ok(times[0] / REQUESTS as f64), Err)
}

/// The nanoseconds of a first write, each pass on a new device.
fn first_write(directory: &Path, size: Bytes) -> Result<f64, SetUpError> {
    let positions = scattered_over(size, REQUESTS, 4096);
    let mut failure = None;
    let times = rounds(&mut [Box::new(|| {
        let passed = Device::sparse(directory, size).and_then(|mut device| {
            let started = clock::start();
            let passed = pass(&mut device.ordered, write(), &positions);
            let time = started.elapsed();
            passed.map(|_| time).map_err(SetUpError::Request)
        });
        passed.unwrap_or_else(|error| {
            failure = Some(error);
            Duration::ZERO
        })
    })]);
    failure.map_or(Ok(times[0] / REQUESTS as f64), Err)
}

fn write() -> Request {
    Request::write(Tag(0), Sector(0), vec![0x5a; 4096])
}
