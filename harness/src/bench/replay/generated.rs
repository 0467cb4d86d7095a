//! Generated traces of any length: requests a second with stamps only, and how time and memory
//! grow with the length. Each is measured in a process of its own, because a process's peak of
//! memory is that of all that it ever did.

use driver::units::Bytes;
use serde::{Deserialize, Serialize};

use super::{Plan, ReplayBenchError, in_memory};
use crate::bench::{Growth, Order, Row, Unit, median};
use crate::figures::grouped;
use crate::stamp::Coverage;
use crate::trace::generate::Access;
use crate::trace::{Generator, TraceSource, Workload};

/// Requests a second that a long trace should reach.
const RATE_TARGET: f64 = 3_000_000.0;

/// The most memory that 100,000,000 requests may take, in MiB.
const MEMORY_TARGET: f64 = 256.0;

/// Lengths over three decades, and one more.
const LENGTHS: [u64; 5] = [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Requests on larger devices.
const ON_LARGER: u64 = 10_000_000;

/// Each length is measured so often, but for the longest.
const ROUNDS: usize = 3;

/// The device that lengths are measured on. Its model, map and stamps fit the processor's
/// caches, so that what is measured is the work and not the way to memory.
const DEVICE: Bytes = Bytes(64 << 20);

/// Larger ones, on which requests scattered over the whole device meet caches that do not hold
/// what they need.
const LARGER: [Bytes; 2] = [Bytes(256 << 20), Bytes(1 << 30)];

/// Measures the generated trace of that many requests to a device of this size in a process of
/// its own.
pub type MeasureOne = fn(u64, Bytes) -> Result<Generated, ReplayBenchError>;

/// What replaying a generated trace came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generated {
    /// How many requests it had.
    pub requests: u64,
    /// From the first request to the last completion.
    pub elapsed_ns: u64,
    /// The most memory that the process ever had, where the system tells.
    pub peak_bytes: Option<u64>,
}

/// Mostly 4 KiB, two thirds of them writes, anywhere on the device, a flush each 64 writes.
fn workload(requests: u64, device: Bytes) -> Workload {
    Workload {
        requests,
        device,
        sizes: vec![(90, Bytes(4096)), (5, Bytes(512)), (5, Bytes(16384))],
        access: Access::Random,
        ..Workload::default()
    }
}

impl Generated {
    /// Replays the trace of `requests` requests with stamps only, in this process.
    ///
    /// # Errors
    /// If the replay fails or finds a difference.
    pub fn measure(requests: u64, device: Bytes) -> Result<Generated, ReplayBenchError> {
        Generator::new(workload(requests, device))?;
        let open = || -> Result<Box<dyn TraceSource>, _> {
            let generator = Generator::new(workload(requests, device));
            Ok(Box::new(generator.expect("it was one just now")))
        };
        let report = in_memory("generated", &open, Coverage::Front)?;
        Ok(Generated {
            requests,
            elapsed_ns: report.elapsed_ns,
            peak_bytes: peak_bytes(),
        })
    }

    fn rate(&self) -> f64 {
        self.requests as f64 / (self.elapsed_ns.max(1) as f64 / 1e9)
    }
}

/// The most memory that this process ever had, as Linux tells it.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Measures the rows.
pub(super) fn measure(
    plan: &Plan<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), ReplayBenchError> {
    let lengths = match plan.long {
        true => &LENGTHS[..],
        false => &LENGTHS[..4],
    };
    let longest = lengths[lengths.len() - 1];
    let rate_name = format!(
        "replay/generated, {} requests, stamps only",
        grouped(longest)
    );
    let memory_name = format!(
        "replay/generated, {} requests, peak memory",
        grouped(longest)
    );
    let mut time = Growth::new("replay/growth/time", Unit::Milliseconds);
    let mut memory = Growth::new("replay/growth/peak memory", Unit::Mebibytes);
    let growth = plan.only.wanted("replay/growth");
    let names = [&rate_name, &memory_name];
    let longest_wanted = names.iter().any(|name| plan.only.wanted(name));
    for &requests in lengths {
        if !growth && (requests < longest || !longest_wanted) {
            continue;
        }
        let rounds = match requests {
            100_000_000.. => 1,
            _ => ROUNDS,
        };
        let runs = (0..rounds).map(|_| (plan.measure_one)(requests, DEVICE));
        let runs: Vec<Generated> = runs.collect::<Result<_, _>>()?;
        let of = |figure: &dyn Fn(&Generated) -> f64| {
            median(&runs.iter().map(figure).collect::<Vec<_>>())
        };
        time.point(
            grouped(requests),
            requests as f64,
            of(&|run| run.elapsed_ns as f64 / 1e6),
        );
        let peaks: Vec<_> = runs.iter().filter_map(|run| run.peak_bytes).collect();
        let peak = peaks
            .into_iter()
            .max()
            .map(|bytes| bytes as f64 / f64::from(1 << 20));
        if let Some(peak) = peak {
            memory.point(grouped(requests), requests as f64, peak);
        }
        if requests == longest {
            let rate = Row::new(&rate_name, of(&Generated::rate), Unit::PerSecond);
            let mut rows = vec![rate.target(RATE_TARGET)];
            rows.extend(
                peak.map(|peak| {
                    Row::new(&memory_name, peak, Unit::Mebibytes).target(MEMORY_TARGET)
                }),
            );
            rows.retain(|row| plan.only.wanted(&row.name));
            each(rows);
        }
    }
    for device in LARGER {
        let name = format!(
            "replay/generated, {} requests on {device}, stamps only",
            grouped(ON_LARGER)
        );
        if plan.only.wanted(&name) {
            let rate = (plan.measure_one)(ON_LARGER, device)?.rate();
            each(vec![
                Row::new(name, rate, Unit::PerSecond).target(RATE_TARGET),
            ]);
        }
    }
    if growth {
        each(time.rows(Order::Linear));
        each(memory.rows(Order::Constant));
    }
    Ok(())
}
