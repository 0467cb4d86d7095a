//! What became of each volume of a trace that was replayed by itself, as a document that is
//! complete: those of all shards make that of the replay in one piece.

pub mod checkpoint;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::figures::counted;
use crate::shard::merge::{Difference, OfShards, Shards, WrongShards, add_up};
use crate::trace::Device;
use crate::trace::notes::DeviceCounts;

use super::Report;
use super::report::{Latencies, Percentiles};

/// What the document begins with. Fields that a later version adds are passed over.
pub const FORMAT: &str = "ubdlab replay result 1";

/// All that the results of a trace's volumes depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The version of the program.
    pub version: String,
    /// The name of the trace, without its directories.
    pub trace: String,
    /// How many volumes it has.
    pub trace_volumes: u64,
    /// Its requests, to all of them.
    pub trace_requests: u64,
    /// Of the names of its volumes and of what is counted of each.
    pub trace_crc32c: u32,
    /// How they are replayed: the options that are not the usual ones.
    pub options: String,
}

impl Identity {
    /// Of the trace of this name, which has these volumes, replayed by this program.
    pub fn of(
        trace: String,
        volumes: &BTreeMap<Device, DeviceCounts>,
        options: String,
    ) -> Identity {
        let mut crc = 0;
        for (device, counts) in volumes {
            let DeviceCounts {
                requests,
                sectors,
                max_end_sector,
            } = counts;
            // No name has a line feed that is not escaped.
            let line = format!("{device} {requests} {sectors} {max_end_sector}\n");
            crc = crc32c::crc32c_append(crc, line.as_bytes());
        }
        Identity {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trace,
            trace_volumes: volumes.len() as u64,
            trace_requests: volumes.values().map(|counts| counts.requests).sum(),
            trace_crc32c: crc,
            options,
        }
    }

    fn is(&self, expected: &Identity) -> Result<(), Difference> {
        let quoted = |identity: &Identity| match &identity.options[..] {
            "" => "none".to_owned(),
            options => format!("{options:?}"),
        };
        Difference::check("version", &self.version, &expected.version)?;
        Difference::check("trace", &self.trace, &expected.trace)?;
        let numbers = |identity: &Identity| {
            [
                ("trace_volumes", identity.trace_volumes),
                ("trace_requests", identity.trace_requests),
                ("trace_crc32c", u64::from(identity.trace_crc32c)),
            ]
        };
        for ((what, found), (_, expected)) in numbers(self).into_iter().zip(numbers(expected)) {
            Difference::check(what, &found, &expected)?;
        }
        Difference::check("options", &quoted(self), &quoted(expected))
    }
}

/// The document. Field names carry their units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesResult {
    /// [`FORMAT`].
    pub format: String,
    /// What was replayed.
    #[serde(flatten)]
    pub replay: Identity,
    /// The shards whose volumes are here.
    pub shards: Shards,
    /// Volumes that were replayed side by side at most.
    pub jobs: u64,
    /// The time it took, of all shards together.
    pub elapsed_ns: u64,
    /// The volumes, in the order of their numbers.
    pub volumes: Vec<Volume>,
}

/// A volume, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Its number among all of the trace, in the order of their names, from 0.
    pub number: u64,
    /// Its name, as it is listed.
    pub volume: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It was replayed to its end, and compared.
    Replayed(Box<VolumeReport>),
    /// None of its requests was asked for.
    NothingTaken {
        /// Why not.
        why: String,
    },
    /// It could not be replayed.
    Failed {
        /// Why not.
        error: String,
    },
}

/// The parts of a [`Report`] that make sense beside those of other volumes; the fields of the same
/// names are the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "those of the report say it")]
pub struct VolumeReport {
    /// The size of the device, when it was largest.
    pub device_sectors: u64,
    pub requests: u64,
    pub sectors_read: u64,
    pub sectors_written: u64,
    pub sectors_verified: u64,
    pub sectors_verified_zeros: u64,
    pub sectors_in_holes: u64,
    pub mismatches: u64,
    pub other_faults: u64,
    pub mismatch_examples: Vec<String>,
    pub mismatch_examples_left_out: u64,
    pub flushes: u64,
    pub fua_writes: u64,
    pub discards: u64,
    pub syncs: Option<u64>,
    pub bitmap_writes: Option<u64>,
    /// How many there were.
    pub resizes: u64,
    /// By all of them.
    pub moved_bytes: u64,
    pub records_skipped: u64,
    pub requests_rounded: u64,
    pub requests_unsupported: u64,
    pub requests_earlier: u64,
    pub backing_unchanged: Option<bool>,
    pub elapsed_ns: u64,
    pub requests_elapsed_ns: u64,
    pub verify_elapsed_ns: u64,
    pub latency: Latencies,
}

impl From<Report> for VolumeReport {
    fn from(report: Report) -> VolumeReport {
        VolumeReport {
            device_sectors: report.timeline.sectors,
            requests: report.requests,
            sectors_read: report.sectors_read,
            sectors_written: report.sectors_written,
            sectors_verified: report.sectors_verified,
            sectors_verified_zeros: report.sectors_verified_zeros,
            sectors_in_holes: report.sectors_in_holes,
            mismatches: report.mismatches,
            other_faults: report.other_faults,
            mismatch_examples: report.mismatch_examples,
            mismatch_examples_left_out: report.mismatch_examples_left_out,
            flushes: report.flushes,
            fua_writes: report.fua_writes,
            discards: report.discards,
            syncs: report.syncs,
            bitmap_writes: report.bitmap_writes,
            resizes: report.resizes.len() as u64,
            moved_bytes: report.resizes.iter().map(|resize| resize.moved_bytes).sum(),
            records_skipped: report.records_skipped,
            requests_rounded: report.requests_rounded,
            requests_unsupported: report.requests_unsupported,
            requests_earlier: report.requests_earlier,
            backing_unchanged: report.backing_unchanged,
            elapsed_ns: report.elapsed_ns,
            requests_elapsed_ns: report.requests_elapsed_ns,
            verify_elapsed_ns: report.verify_elapsed_ns,
            latency: report.latency,
        }
    }
}

impl VolumeReport {
    /// Whether nothing was lost and nothing changed that should not.
    pub fn is_good(&self) -> bool {
        self.wrong() == 0
    }

    /// Sectors that are wrong, and what else is.
    pub fn wrong(&self) -> u64 {
        let backing = u64::from(self.backing_unchanged == Some(false));
        self.mismatches
            .saturating_add(self.other_faults)
            .saturating_add(backing)
    }

    /// What is wrong, in words.
    pub fn what_is_wrong(&self) -> Option<String> {
        let wrong = [
            (self.mismatches, "mismatch", ""),
            (self.other_faults, "fault", " that no sector shows"),
        ];
        let wrong = wrong.into_iter().filter(|(number, ..)| *number > 0);
        let mut wrong: Vec<_> = wrong
            .map(|(number, noun, what)| format!("{}{what}", counted(number, noun)))
            .collect();
        if self.backing_unchanged == Some(false) {
            wrong.push("the backing file has changed".to_owned());
        }
        (!wrong.is_empty()).then(|| wrong.join(", "))
    }

    /// Requests a second, while there were any.
    pub fn requests_per_second(&self) -> u64 {
        let ns = u128::from(self.requests_elapsed_ns.max(1));
        let per_second = u128::from(self.requests) * 1_000_000_000 / ns;
        u64::try_from(per_second).unwrap_or(u64::MAX)
    }

    /// Of reads, writes and flushes those of which the slowest hundredth is slowest.
    pub fn slowest_kind(&self) -> (&'static str, Percentiles) {
        let Latencies {
            read, write, flush, ..
        } = &self.latency;
        let kinds = [("reads", read), ("writes", write), ("flushes", flush)];
        let mut slowest = ("reads", read);
        for kind in kinds {
            if kind.1.p99_ns > slowest.1.p99_ns {
                slowest = kind;
            }
        }
        (slowest.0, *slowest.1)
    }
}

impl Volume {
    /// Whether it was compared and something is wrong.
    pub fn is_wrong(&self) -> bool {
        matches!(&self.outcome, Outcome::Replayed(report) if !report.is_good())
    }

    /// Whether it could not be replayed.
    pub fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. })
    }
}

/// Why a document is no result that can be put together with others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoResult {
    /// There are no such shards.
    #[error(transparent)]
    Shards(#[from] WrongShards),
    /// It has other volumes than those of its shards.
    #[error(
        "volumes: found {found}, expected the {expected} of its shards, by number and each once"
    )]
    Volumes {
        /// How many there are.
        found: u64,
        /// How many there should be.
        expected: u64,
    },
}

impl VolumesResult {
    /// Whether it has the volumes of its shards.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), NoResult> {
        self.shards.check()?;
        let total = self.replay.trace_volumes;
        let expected: u64 = self.shards.each().map(|shard| shard.share_of(total)).sum();
        let found = self.volumes.len() as u64;
        let is_own = |volume: &Volume| volume.number < total && self.shards.have(volume.number);
        let in_order = |one: &Volume, next: &Volume| one.number < next.number;
        let are_all = found == expected
            && self.volumes.is_sorted_by(in_order)
            && self.volumes.iter().all(is_own);
        match are_all {
            true => Ok(()),
            false => Err(NoResult::Volumes { found, expected }),
        }
    }

    /// The volumes, the worst first: those with most that is wrong, then those that could not be
    /// replayed, then those of which nothing was asked for, then the slowest.
    pub fn worst_first(&self) -> Vec<&Volume> {
        let mut volumes: Vec<_> = self.volumes.iter().collect();
        let badness = |volume: &&Volume| match &volume.outcome {
            Outcome::Replayed(report) if !report.is_good() => (3, report.wrong()),
            Outcome::Failed { .. } => (2, 0),
            Outcome::NothingTaken { .. } => (1, 0),
            Outcome::Replayed(report) => (0, report.slowest_kind().1.p99_ns),
        };
        // A stable sort: the rest is by number.
        volumes.sort_by_key(|volume| Reverse(badness(volume)));
        volumes
    }

    /// The reports of the volumes that were replayed.
    pub fn reports(&self) -> impl Iterator<Item = &VolumeReport> {
        self.volumes
            .iter()
            .filter_map(|volume| match &volume.outcome {
                Outcome::Replayed(report) => Some(&**report),
                Outcome::NothingTaken { .. } | Outcome::Failed { .. } => None,
            })
    }

    /// A number of each report, added up.
    pub fn sum(&self, number: impl Fn(&VolumeReport) -> u64) -> u64 {
        let mut sum = 0;
        for report in self.reports() {
            add_up(&mut sum, number(report));
        }
        sum
    }
}

impl OfShards for VolumesResult {
    const WORK: &'static str = "replay";

    fn shards(&self) -> &Shards {
        &self.shards
    }

    fn shards_mut(&mut self) -> &mut Shards {
        &mut self.shards
    }

    fn is_of_same(&self, expected: &Self) -> Result<(), Difference> {
        self.replay.is(&expected.replay)
    }

    fn take_in(&mut self, other: Self) {
        self.jobs = self.jobs.max(other.jobs);
        add_up(&mut self.elapsed_ns, other.elapsed_ns);
        self.volumes.extend(other.volumes);
        self.volumes.sort_by_key(|volume| volume.number);
    }
}
