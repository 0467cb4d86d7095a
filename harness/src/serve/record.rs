//! Writing down what clients ask for, as a trace.
//!
//! The device's side only hands a request over, when it has ended: to a thread that sorts requests
//! by the time at which they were asked for and writes them. Between the two is a channel of
//! bounded length, into which the thread looks now and then, because to be woken by each request
//! would cost its client more than the rest. If the disk is too slow for what is asked for,
//! requests are lost and counted, and the device is as fast as without a recording.
//!
//! The file is written in place, under its own name, which must not exist before. A recording may
//! run for days, and whoever looks for it has to find it; a file that appears when it is whole
//! would be lost with the server. At any moment it is a trace that is cut, whose whole frames can
//! be read: what was asked for is in one within some two seconds, however the server ends. An
//! interval grows by a second with every 32,768 frames, so that those of a month take some ten MB
//! of memory.
//!
//! A request is in the recording if it was asked for after the beginning and ended before the end.
//! One without sectors is not, because a trace has none.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use driver::blk::{Operation, Status};
use driver::shown;
use driver::units::{Sector, SectorRange};
use serde::{Deserialize, Serialize};

use crate::clock::{self, Started};
use crate::trace::{
    Nanoseconds, Record, Served, TraceError, TraceHeader, TraceOperation, TraceWriter,
};

use super::export::Export;

/// Requests that may be on their way to the thread: 4 MiB.
const ON_THE_WAY: usize = 1 << 16;

/// Requests that the thread keeps to sort them by time. One that takes longer than as many others
/// comes after them in the file.
const SORTED: usize = 4096;

/// How often the thread looks for requests. In that time 1.3 million a second have room.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A request that is older than this is not waited for, and those after it are written.
const SETTLED: Duration = Duration::from_secs(1);

/// How long a request may be in no frame, at first.
const INTERVAL: Duration = Duration::from_secs(1);

/// The interval grows by its first length each time that this many frames have been written.
const FRAMES_AN_INTERVAL: usize = 1 << 15;

/// What a client has asked for, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct NotedJob {
    at: Started,
    operation: Operation,
    range: SectorRange,
    /// Durable when done, of what is no write.
    then_flush: bool,
}

impl NotedJob {
    pub(super) fn at(at: Started, operation: Operation, range: SectorRange) -> NotedJob {
        NotedJob {
            at,
            operation,
            range,
            then_flush: false,
        }
    }

    /// With a flush at its end.
    pub(super) fn then_flush(self, then_flush: bool) -> NotedJob {
        NotedJob { then_flush, ..self }
    }

    fn record(&self, time: Nanoseconds) -> Option<Record> {
        let (operation, fua) = match self.operation {
            Operation::Flush => return Some(Record::flush(time)),
            Operation::Read => (TraceOperation::Read, false),
            Operation::Write { fua } => (TraceOperation::Write, fua),
            Operation::Discard => (TraceOperation::Discard, false),
            Operation::WriteZeroes => (TraceOperation::WriteZeroes, false),
        };
        (!self.range.is_empty()).then_some(Record {
            time,
            operation,
            preflush: false,
            fua,
            start: self.range.start,
            count: self.range.count,
        })
    }
}

/// How a recording is doing. The fields are those of the documented JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingStatus {
    /// The file.
    pub file: String,
    /// Requests that are in it, or on the way.
    pub recorded: u64,
    /// Requests that are not, because the disk was too slow, or the file could not be written.
    pub lost: u64,
    /// Why nothing more is written, if that is so.
    pub error: Option<String>,
}

/// A recording under way. When it is dropped, its file becomes whole too, but nobody waits for
/// that.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    began: Started,
    counts: Arc<Counts>,
    requests: Sender<(Record, Served)>,
    /// The thread goes on as long as this is there.
    goes_on: Sender<()>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Requests that were handed over.
    handed_over: AtomicU64,
    /// Requests for which there was no room.
    no_room: AtomicU64,
    /// Requests in whole frames.
    written: AtomicU64,
    error: OnceLock<String>,
}

/// Where a recording goes.
trait Out: Write + Seek + Send + 'static {
    fn sync(&mut self) -> io::Result<()>;
}

impl Out for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Recorder {
    /// Begins a recording in a new file at `path`, an absolute path, which only its owner can read.
    ///
    /// # Errors
    /// Why not, with the path.
    pub fn begin(path: &Path, export: &Export) -> Result<Recorder, String> {
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    "found a name that is taken, expected a new one: what is there is not written \
                     over"
                        .into()
                }
                _ => driver::system_words(error),
            };
            format!("{}: recording: {why}", shown(path))
        })?;
        let header = TraceHeader {
            device_size: Some(export.capacity()),
            description: format!(
                "recorded by ubdlab serve from {}",
                shown(&export.about().path)
            ),
        };
        let begun = Recorder::on(file, path, &header, ON_THE_WAY, export.teller());
        begun.inspect_err(|_| {
            // There is nothing in it, and it would be in the way of the next attempt.
            let _ = std::fs::remove_file(path);
        })
    }

    fn on(
        out: impl Out,
        path: &Path,
        header: &TraceHeader,
        on_the_way: usize,
        tells: impl Fn(&dyn fmt::Display) + Send + 'static,
    ) -> Result<Recorder, String> {
        let failed = |error: TraceError| error.to_string();
        let writer = TraceWriter::telling_served(path, out, header).map_err(failed)?;
        let (requests, received) = bounded(on_the_way);
        let (goes_on, ended) = bounded(0);
        let began = clock::start();
        let counts = Arc::new(Counts::default());
        let told = Arc::clone(&counts);
        let thread = std::thread::Builder::new().name("recorder".into());
        let thread = thread.spawn(move || {
            let writing = Writing {
                writer,
                sorted: BTreeMap::new(),
                next: 0,
                end: Sector(0),
            };
            // The channel closes when the error is known, and all that comes later is lost.
            if let Err(error) = writing.write(&received, &ended, began, &told) {
                tells(&format_args!("the recording has failed: {error}"));
                let _ = told.error.set(error.to_string());
            }
        });
        let thread = thread.map_err(|error| {
            let error = driver::system_words(error);
            format!("{}: recording: {error}", shown(path))
        })?;
        Ok(Recorder {
            path: path.to_owned(),
            began,
            counts,
            requests,
            goes_on,
            thread,
        })
    }

    /// A request has ended. Returns at once.
    pub(super) fn note(&self, client: u64, asked: NotedJob, status: Status) {
        let Some(ns) = asked.at.ns_since(self.began) else {
            return;
        };
        let time = Nanoseconds(ns);
        let served = Served {
            client: u32::try_from(client).unwrap_or(0),
            status,
        };
        let flush = asked.then_flush.then(|| Record::flush(time));
        for record in asked.record(time).into_iter().chain(flush) {
            let counts = &self.counts;
            let count = match self.requests.try_send((record, served)) {
                Ok(()) => &counts.handed_over,
                Err(_) => &counts.no_room,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How it is doing.
    pub fn status(&self) -> RecordingStatus {
        status(&self.path, &self.counts)
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends it, and waits until its file is whole and on the disk.
    ///
    /// # Errors
    /// Why it is not, with the path. What is in the file can be read up to its last whole frame.
    pub fn finish(self) -> Result<RecordingStatus, String> {
        drop(self.goes_on);
        let ended = self.thread.join();
        let status = status(&self.path, &self.counts);
        match (ended, status.error) {
            (Ok(()), None) => Ok(RecordingStatus {
                error: None,
                ..status
            }),
            (Ok(()), Some(error)) => Err(format!("the recording has failed: {error}")),
            (Err(_), _) => Err(format!("{}: the recorder has panicked", shown(&self.path))),
        }
    }
}

fn status(path: &Path, counts: &Counts) -> RecordingStatus {
    let [handed_over, no_room, written] = [&counts.handed_over, &counts.no_room, &counts.written]
        .map(|count| count.load(Ordering::Relaxed));
    let error = counts.error.get().cloned();
    let recorded = match error {
        None => handed_over,
        Some(_) => written,
    };
    RecordingStatus {
        file: path.display().to_string(),
        recorded,
        lost: no_room + handed_over.saturating_sub(recorded),
        error,
    }
}

/// The thread's side.
struct Writing<O: Out> {
    writer: TraceWriter<O>,
    /// Requests that are not in the writer, by their times; those of one time in the order in which
    /// they ended.
    sorted: BTreeMap<(Nanoseconds, u64), (Record, Served)>,
    next: u64,
    /// The end of all that was touched.
    end: Sector,
}

impl<O: Out> Writing<O> {
    /// Writes until the other end of `ended` has gone, and then what is left.
    fn write(
        mut self,
        requests: &Receiver<(Record, Served)>,
        ended: &Receiver<()>,
        began: Started,
        counts: &Counts,
    ) -> Result<(), TraceError> {
        let mut flushed = clock::start();
        let mut is_over = false;
        while !is_over {
            is_over = ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Disconnected);
            for request in requests.try_iter().take(ON_THE_WAY) {
                self.take(request)?;
            }
            let frames = self.writer.frames() / FRAMES_AN_INTERVAL;
            if flushed.elapsed() >= INTERVAL * (1 + frames as u32) {
                let now = Duration::from_nanos(began.elapsed_ns());
                let settled = now.saturating_sub(SETTLED).as_nanos() as u64;
                self.hand_over(|time, _| time.0 <= settled)?;
                self.writer.flush()?;
                flushed = clock::start();
            }
            counts
                .written
                .store(self.writer.records(), Ordering::Relaxed);
        }
        self.hand_over(|_, _| true)?;
        // The device may have grown meanwhile, and a trace has one size.
        self.writer.grow_device(self.end - Sector(0))?;
        self.writer.lose(counts.no_room.load(Ordering::Relaxed));
        self.writer.flush()?;
        counts
            .written
            .store(self.writer.records(), Ordering::Relaxed);
        self.writer.finish_with(O::sync)
    }

    fn take(&mut self, (record, served): (Record, Served)) -> Result<(), TraceError> {
        self.end = self.end.max(record.end());
        self.sorted
            .insert((record.time, self.next), (record, served));
        self.next += 1;
        self.hand_over(|_, left| left > SORTED)
    }

    /// Hands requests to the writer, the earliest first, as long as `wanted` says so of the time of
    /// the next one and of how many there are.
    fn hand_over(&mut self, wanted: impl Fn(Nanoseconds, usize) -> bool) -> Result<(), TraceError> {
        while let Some(first) = self.sorted.first_entry() {
            let time = first.key().0;
            let (record, served) = *first.get();
            if !wanted(time, self.sorted.len()) {
                return Ok(());
            }
            self.writer.push_served(&record, served)?;
            self.sorted.pop_first();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
