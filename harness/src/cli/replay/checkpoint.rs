//! What became of each volume, written down when it is done (`ubdlab replay --each-device
//! --checkpoint`).

use std::path::Path;
use std::time::Duration;

use crate::clock::{self, Started};
use crate::replay::volumes::checkpoint::{self, VolumesDone};
use crate::replay::volumes::{FORMAT, Identity, Volume, VolumesResult};
use crate::shard::Shard;
use crate::trace::Device;
use crate::trace::notes::DeviceCounts;

use super::super::Failure;
use super::super::checkpoint_file::{CheckpointFile, Foreign};
use super::super::document::Expected;

/// After the file was written it is left alone for at least this multiple of the time that writing
/// took. So writing takes at most a tenth of the time, however many volumes are done.
const REST_AFTER_WRITING: u32 = 9;

/// The file at `path`.
pub(super) fn file(path: &Path) -> CheckpointFile<'_> {
    let expected = Expected {
        format: checkpoint::FORMAT,
        what: "a checkpoint of ubdlab replay --each-device",
    };
    CheckpointFile::new(path, expected)
}

/// What is replayed, and how many volumes at once.
pub(super) struct Part {
    pub(super) replay: Identity,
    pub(super) shard: Shard,
    pub(super) jobs: u64,
}

/// What became of volumes until now, and where it is written down.
pub(super) struct VolumesKept<'a> {
    done: VolumesDone,
    /// Those that could not be replayed.
    failed: Vec<Volume>,
    file: Option<CheckpointFile<'a>>,
    /// When this sitting began.
    started: Started,
    /// The time that the sittings before it took.
    before_ns: u64,
    /// When the file was written last, in this sitting, and how long that took.
    written: Option<(Started, Duration)>,
    /// Why it could not be written.
    failure: Option<Failure>,
}

impl<'a> VolumesKept<'a> {
    /// What `found`, which was in `file`, says of this part of the replay of the listed volumes;
    /// nothing if there was no file. Or that it is of another replay.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(
        part: Part,
        found: Option<VolumesDone>,
        file: Option<CheckpointFile<'a>>,
        started: Started,
        listed: &[(&Device, &DeviceCounts)],
    ) -> Result<Result<VolumesKept<'a>, Foreign>, Failure> {
        let Part {
            replay,
            shard,
            jobs,
        } = part;
        if let (Some(found), Some(file)) = (&found, &file) {
            let name = |number| {
                let index = usize::try_from(number).ok()?;
                listed.get(index).map(|(device, _)| device.to_string())
            };
            match found.check(&replay, shard, name) {
                Ok(()) => {}
                Err(why) if why.is_of_another() => return Ok(Err(file.foreign(why))),
                Err(why) => return Err(file.refused(why)),
            }
        }
        let mut done = found.unwrap_or_else(|| VolumesDone::nothing_of(replay, shard));
        done.jobs = done.jobs.max(jobs);
        Ok(Ok(VolumesKept {
            before_ns: done.elapsed_ns,
            done,
            failed: Vec::new(),
            file,
            started,
            written: None,
            failure: None,
        }))
    }

    pub(super) fn shard(&self) -> Shard {
        self.done.shard
    }

    /// Whether the volume of this number was replayed.
    pub(super) fn has(&self, number: u64) -> bool {
        self.done.has(number)
    }

    /// Of how many volumes it is known what became of them.
    pub(super) fn count(&self) -> u64 {
        (self.done.volumes.len() + self.failed.len()) as u64
    }

    /// Whether no further volume is to be replayed, because it could not be kept.
    pub(super) fn gave_up(&self) -> bool {
        self.failure.is_some()
    }

    /// Keeps what became of a volume.
    pub(super) fn keep(&mut self, volume: Volume) {
        if volume.has_failed() {
            self.failed.push(volume);
            return;
        }
        self.done.take_in(volume);
        let is_early = |(at, took): (Started, Duration)| at.elapsed() < took * REST_AFTER_WRITING;
        if !self.written.is_some_and(is_early) {
            self.write();
        }
    }

    fn write(&mut self) {
        let elapsed_ns = self.started.elapsed_ns();
        self.done.elapsed_ns = self.before_ns.saturating_add(elapsed_ns);
        let Some(file) = &self.file else {
            return;
        };
        let started = clock::start();
        match file.write(&self.done) {
            Ok(()) => self.written = Some((clock::start(), started.elapsed())),
            Err(failure) => _ = self.failure.get_or_insert(failure),
        }
    }

    /// What became of all volumes.
    ///
    /// # Errors
    /// Why it could not be written down.
    pub(super) fn finish(mut self) -> Result<VolumesResult, Failure> {
        self.write();
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let VolumesDone {
            format: _,
            replay,
            shard,
            jobs,
            elapsed_ns,
            mut volumes,
        } = self.done;
        volumes.extend(self.failed);
        volumes.sort_by_key(|volume| volume.number);
        Ok(VolumesResult {
            format: FORMAT.to_owned(),
            replay,
            shards: shard.into(),
            jobs,
            elapsed_ns,
            volumes,
        })
    }
}
