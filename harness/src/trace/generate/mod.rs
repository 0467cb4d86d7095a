//! Traces made from a description: any length, in constant memory, and from one seed the same
//! records on every machine.
//!
//! Nothing here depends on how a machine rounds: what is random comes from ChaCha as whole
//! numbers, and the only floating point, in `zipf`, is of the operations that IEEE 754 fixes
//! to the last bit.

mod places;
mod zipf;

use driver::units::{Bytes, SECTOR_SIZE, Sector, SectorCount};

use crate::streams::{Stream, below, stream, weighted};

use super::{
    Description, Nanoseconds, Notes, Record, TraceError, TraceOperation, TraceSource, Units,
};

use places::Places;

/// Where requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One after the other, and again from the start; reads and writes each for themselves.
    Sequential,
    /// Anywhere, each place as likely as any other.
    Random,
    /// By Zipf's law over at most 65,536 equal regions of the device, of which the n-th most
    /// likely is asked for in proportion to 1 / n^theta. They lie in random order.
    Zipf {
        /// The exponent, in 64ths: 64 is the law's own 1. From 0 to 256.
        theta_64ths: u32,
    },
    /// A part of the device takes a part of the requests; both in percent, from 1 to 99.
    HotSpot {
        /// How much of the device is hot; it begins at a random place.
        space_percent: u64,
        /// How many of the requests go there.
        requests_percent: u64,
    },
}

/// What a trace is to be like. Shares are weights, in relation to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What the random numbers are made from.
    pub seed: u64,
    /// How many requests.
    pub requests: u64,
    /// The size of the device; at least a sector, at most 2^63 bytes.
    pub device: Bytes,
    /// How likely reads are.
    pub reads: u64,
    /// How likely writes are.
    pub writes: u64,
    /// How likely discards are.
    pub discards: u64,
    /// How likely write-zeroes are.
    pub write_zeroes: u64,
    /// Lengths of requests, each with how likely it is: whole sectors, none longer than the
    /// device. A request begins at a multiple of its length, but for sequential ones.
    pub sizes: Vec<(u64, Bytes)>,
    /// Where they go.
    pub access: Access,
    /// How many in a hundred begin where the one before of the same kind ended, whatever the
    /// access; 0 to 100.
    pub sequential_percent: u64,
    /// Writes from one flush to the next; 0 for no flushes.
    pub writes_per_flush: u64,
    /// How many flushes in a hundred are preflushes of the next write instead.
    pub preflush_percent: u64,
    /// How many writes in a hundred have forced unit access.
    pub fua_percent: u64,
    /// Requests a second, on average; at least 1. The distances are anything between nothing
    /// and twice the mean.
    pub rate: u64,
}

impl Default for Workload {
    /// A million requests of 4 KiB, two thirds of them writes, anywhere on 1 GiB, with a flush
    /// each 64 writes.
    fn default() -> Workload {
        Workload {
            seed: 0,
            requests: 1_000_000,
            device: Bytes(1 << 30),
            reads: 34,
            writes: 66,
            discards: 0,
            write_zeroes: 0,
            sizes: vec![(1, Bytes(4096))],
            access: Access::Random,
            sequential_percent: 0,
            writes_per_flush: 64,
            preflush_percent: 0,
            fua_percent: 0,
            rate: 1000,
        }
    }
}

/// Why a workload cannot be generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: found {found}, expected {expected}")]
pub struct WorkloadError {
    what: &'static str,
    found: String,
    expected: &'static str,
}

fn require(
    is_right: bool,
    what: &'static str,
    found: impl ToString,
    expected: &'static str,
) -> Result<(), WorkloadError> {
    match is_right {
        true => Ok(()),
        false => Err(WorkloadError {
            what,
            found: found.to_string(),
            expected,
        }),
    }
}

impl Workload {
    /// Whether it can be generated: the ranges that its fields' documentation gives.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<(), WorkloadError> {
        let device = self.device.0;
        let is_device = (SECTOR_SIZE..=1 << 63).contains(&device);
        require(is_device, "size", device, "512 to 2^63 bytes")?;
        let weights = [self.reads, self.writes, self.discards, self.write_zeroes];
        let is_share = |weight: &u64| *weight <= 1_000_000;
        let found = format!("{weights:?}");
        require(
            weights.iter().all(is_share),
            "mix",
            &found,
            "shares of at most 1000000",
        )?;
        require(
            weights.iter().any(|w| *w > 0),
            "mix",
            &found,
            "a share above 0",
        )?;
        let total: u64 = self
            .sizes
            .iter()
            .map(|(weight, _)| *weight.min(&1_000_001))
            .sum();
        require(
            self.sizes.len() <= 1000
                && self.sizes.iter().all(|(weight, _)| is_share(weight))
                && total > 0,
            "request sizes",
            format!("{} with shares of {total}", self.sizes.len()),
            "1 to 1000 with shares of at most 1000000",
        )?;
        for (_, size) in &self.sizes {
            require(
                size.0 > 0 && size.0.is_multiple_of(SECTOR_SIZE) && size.0 <= device,
                "request size",
                size.0,
                "a multiple of 512 bytes that fits the device",
            )?;
        }
        for (what, percent) in [
            ("sequential share", self.sequential_percent),
            ("preflush share", self.preflush_percent),
            ("FUA share", self.fua_percent),
        ] {
            require(percent <= 100, what, percent, "0 to 100 percent")?;
        }
        match self.access {
            Access::Sequential | Access::Random => {}
            Access::Zipf { theta_64ths } => {
                require(
                    theta_64ths <= 256,
                    "Zipf exponent in 64ths",
                    theta_64ths,
                    "0 to 256",
                )?;
            }
            Access::HotSpot {
                space_percent,
                requests_percent,
            } => {
                let both = [space_percent, requests_percent];
                let is_right = both.iter().all(|percent| (1..=99).contains(percent));
                require(
                    is_right,
                    "hot spot",
                    format!("{both:?}"),
                    "1 to 99 percent each",
                )?;
            }
        }
        let is_rate = (1..=1_000_000_000).contains(&self.rate);
        require(
            is_rate,
            "rate",
            self.rate,
            "1 to 1000000000 requests a second",
        )
    }

    /// The workload in words, for the trace's description.
    fn description(&self) -> String {
        let sizes = self
            .sizes
            .iter()
            .map(|(weight, size)| format!("{}:{weight}", size.0));
        let sizes: Vec<_> = sizes.collect();
        let text = format!(
            "generated: seed {}, {} requests, mix read {} write {} discard {} write-zeroes {}, \
             bytes {}, {:?}, sequential {} %, a flush each {} writes, preflush {} %, FUA {} %, {}/s",
            self.seed,
            self.requests,
            self.reads,
            self.writes,
            self.discards,
            self.write_zeroes,
            sizes.join(" "),
            self.access,
            self.sequential_percent,
            self.writes_per_flush,
            self.preflush_percent,
            self.fua_percent,
            self.rate,
        );
        text
    }
}

/// The trace of a workload.
#[derive(Debug)]
pub struct Generator {
    workload: Workload,
    operations: [(u64, TraceOperation); 4],
    description: Description,
    notes: Notes,
    /// A stream for each decision, so that changing one leaves the others.
    mix: Stream,
    size: Stream,
    timing: Stream,
    flags: Stream,
    places: Places,
    made: u64,
    time: Nanoseconds,
    writes_since_flush: u64,
    preflush_is_due: bool,
    flush_is_due: bool,
}

impl Generator {
    /// A generator at its first record.
    ///
    /// # Errors
    /// If the workload is none: see [`Workload::check`].
    pub fn new(workload: Workload) -> Result<Generator, WorkloadError> {
        workload.check()?;
        let seed = workload.seed;
        let device = SectorCount(workload.device.whole_sectors().0);
        Ok(Generator {
            operations: [
                (workload.reads, TraceOperation::Read),
                (workload.writes, TraceOperation::Write),
                (workload.discards, TraceOperation::Discard),
                (workload.write_zeroes, TraceOperation::WriteZeroes),
            ],
            description: Description {
                format: "generated",
                compression: None,
                units: Units {
                    time: "nanoseconds",
                    position: "sectors of 512 bytes",
                },
                files: 0,
                files_left_out: 0,
                device_size: Some(device),
                text: workload.description(),
            },
            notes: Notes::default(),
            mix: stream(seed, "trace: mix"),
            size: stream(seed, "trace: size"),
            timing: stream(seed, "trace: timing"),
            flags: stream(seed, "trace: flags"),
            places: Places::new(seed, device, workload.access, workload.sequential_percent),
            workload,
            made: 0,
            time: Nanoseconds(0),
            writes_since_flush: 0,
            preflush_is_due: false,
            flush_is_due: false,
        })
    }

    fn make(&mut self) -> Record {
        if self.made > 0 {
            let mean = 1_000_000_000 / self.workload.rate;
            self.time.0 = self
                .time
                .0
                .saturating_add(below(&mut self.timing, 2 * mean + 1));
        }
        if std::mem::take(&mut self.flush_is_due) {
            return Record::flush(self.time);
        }
        let operation = weighted(&mut self.mix, &self.operations);
        let count = weighted(&mut self.size, &self.workload.sizes).whole_sectors();
        let start = self.places.start(operation, SectorCount(count.0));
        let mut record = Record {
            time: self.time,
            operation,
            preflush: false,
            fua: false,
            start: Sector(start.0),
            count: SectorCount(count.0),
        };
        if operation == TraceOperation::Write {
            record.preflush = std::mem::take(&mut self.preflush_is_due);
            record.fua = below(&mut self.flags, 100) < self.workload.fua_percent;
            self.writes_since_flush += 1;
            if self.writes_since_flush == self.workload.writes_per_flush {
                self.writes_since_flush = 0;
                self.preflush_is_due = below(&mut self.flags, 100) < self.workload.preflush_percent;
                self.flush_is_due = !self.preflush_is_due;
            }
        }
        record
    }
}

impl Iterator for Generator {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.made == self.workload.requests {
            return None;
        }
        let record = self.make();
        self.made += 1;
        Some(Ok(record))
    }
}

impl TraceSource for Generator {
    fn description(&self) -> &Description {
        &self.description
    }

    fn notes(&self) -> &Notes {
        &self.notes
    }
}
