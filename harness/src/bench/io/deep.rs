//! Random reads with several in flight. Of files that are not in the page cache, what the disk
//! underneath gets to do at once decides; of files that are, what a request costs on the way.
//! Beside the same reads given straight to a ring, to a pool of threads, and one after the other,
//! with no device between; and beside qcow2 over the same backing file, in each way that qemu-img
//! has to do its I/O.
//!
//! All take turns, with the same positions in the same order. Before each turn of the cold rows the
//! pages of all files are dropped. In the direct rows all go past the page cache, where the file
//! system has that.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use driver::blk::{Request, Segment, Status, Tag};
use driver::driver::Driver;
use driver::executor::{Executor, Files, Wait};
use driver::host::{Access, Action, Buffer, FileRole, HostFile, HostNames, Operation, Waiter};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, Sector};
use rustix::fs::Advice;
use userhelper::executor::{Threads, Uring};
use userhelper::real_files::{RealFile, RealHost};

use super::device::{COW, Device, SetUpError, file_error, sector_of, served};
use crate::bench::{Only, Row, Unit, median};
use crate::clock;
use crate::device::{Io, Taken};

mod cases;
mod past_cache;
mod qcow2;

pub(super) use cases::{BACKING, BLOCK, Cache, Content, REQUESTS, SIZE};
use cases::{DEPTHS, WARM_DEPTH, fill};
use past_cache::{Inline, Redirected, block, direct};
use qcow2::{PEER_BACKING, QCOW2, make_qcow2};

/// Runs of each, in turns; the median counts.
pub(super) const RUNS: usize = 5;

/// Measures the rows.
pub(super) fn measure(
    directory: &Path,
    only: &Only,
    io: Io,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    for content in [Content::Clean, Content::HalfDirty] {
        let rows = [Cache::Cold, Cache::Direct].map(|cache| DEPTHS.map(|depth| (cache, depth)));
        let rows = rows.into_iter().flatten();
        let rows = rows.chain([(Cache::Warm, WARM_DEPTH)]);
        let rows: Vec<_> = rows
            .filter(|&(cache, depth)| only.wanted(&content.name(cache, depth)))
            .collect();
        if rows.is_empty() {
            continue;
        }
        // What was asked for by name and is not to be had ends it here.
        io.choose(1)?;
        let mut turns = Turns::prepare(directory, content, io)?;
        for (cache, depth) in rows {
            each(turns.measure(cache, depth)?);
        }
    }
    Ok(())
}

/// Those who take turns, and their files.
pub(super) struct Turns {
    directory: PathBuf,
    content: Content,
    io: Io,
    ordered: Ordered<RealFile>,
    /// Second descriptors of its two files, for those without a device.
    files: Files<RealFile>,
    /// Third ones, for direct I/O; `None` where the file system does not support it.
    direct: Option<Files<RealFile>>,
    data: FileOffset,
    has_qcow2: bool,
}

/// What a turn took, of each that had one.
#[derive(Default)]
struct Times {
    device: Vec<(&'static str, Vec<f64>)>,
    bare: Vec<(&'static str, Vec<f64>)>,
    qemu: Vec<(&'static str, Vec<f64>)>,
}

impl Turns {
    pub(super) fn prepare(directory: &Path, content: Content, io: Io) -> Result<Turns, SetUpError> {
        let backing = directory.join(BACKING);
        if !backing.exists() {
            fill(&backing).map_err(|error| file_error(&backing, error))?;
        }
        let Device {
            mut ordered, data, ..
        } = Device::over(directory, &backing)?;
        if content == Content::HalfDirty {
            let mut request = Request::write(Tag(0), Sector(0), vec![0x5a; BLOCK as usize]);
            for at in (0..SIZE.0).step_by(2 * BLOCK as usize) {
                request.start = sector_of(at);
                request = served(&mut ordered, request).map_err(SetUpError::Request)?;
            }
            served(&mut ordered, Request::flush(Tag(0))).map_err(SetUpError::Request)?;
        }
        let cow = directory.join(COW);
        Ok(Turns {
            files: opened(&cow, &backing)?,
            direct: direct(opened(&cow, &backing)?)?,
            has_qcow2: make_qcow2(directory, content)?,
            directory: directory.to_owned(),
            content,
            io,
            ordered,
            data,
        })
    }

    fn measure(&mut self, cache: Cache, depth: usize) -> Result<Vec<Row>, SetUpError> {
        let mut times = Times::default();
        if cache == Cache::Direct && self.direct.is_none() {
            return Ok(self.without_direct(depth));
        }
        if cache == Cache::Warm {
            // The first turn does not wait for the disk either.
            self.one_after_the_other(cache)?;
        }
        for _ in 0..RUNS {
            let inline = depth == 1 || cache == Cache::Warm;
            if self.io == Io::Inline || self.io == Io::Auto && inline {
                self.make(cache)?;
                note(&mut times.device, Taken::Inline.name(), self.inline(cache)?);
                self.make(cache)?;
                let bare = self.one_after_the_other(cache)?;
                note(&mut times.bare, "one after the other", bare);
            }
            for (io, taken) in [(Io::Uring, Taken::Uring), (Io::Threads, Taken::Threads)] {
                if self.io != Io::Auto && self.io != io {
                    continue;
                }
                let name = taken.name();
                let Some(mut executor) = executor(name, depth)? else {
                    continue;
                };
                self.make(cache)?;
                let bare = self.bare(cache, depth, &mut *executor)?;
                self.make(cache)?;
                let device = self.device(cache, depth, &mut *executor)?;
                note(&mut times.bare, name, bare);
                note(&mut times.device, name, device);
            }
            // Its positions go over all of the image: they do not stay in the page cache.
            if self.has_qcow2 && cache != Cache::Warm {
                for mode in qcow2::MODES {
                    self.make(cache)?;
                    // A mode that it was built without is left out.
                    if let Some(time) = mode.run(&self.directory, cache, depth) {
                        note(&mut times.qemu, mode.name, time);
                    }
                }
            }
        }
        Ok(self.rows(cache, depth, &times))
    }

    fn rows(&self, cache: Cache, depth: usize, times: &Times) -> Vec<Row> {
        let Some((own, own_rate)) = best(&times.device) else {
            return Vec::new();
        };
        let row = Row::new(self.content.name(cache, depth), own_rate, Unit::PerSecond);
        let row = match Taken::named(own) {
            Some(taken) => row.by(taken),
            None => row,
        };
        let mut rows = Vec::new();
        if let Some((bare, rate)) = best(&times.bare) {
            let baseline = format!("{own}; without a device, {bare}");
            rows.push(row.clone().against(baseline, rate).target(0.9));
        }
        match best(&times.qemu) {
            Some((mode, rate)) => {
                let baseline = format!("{own}; qemu-img bench, qcow2, best of all modes, {mode}");
                rows.push(row.clone().against(baseline, rate).target(1.0));
            }
            None if cache == Cache::Warm => {}
            None => {
                let mut row = row.clone();
                row.baseline = Some("qemu-img bench, qcow2: skipped, needs qemu-img".into());
                rows.push(row);
            }
        }
        for (name, seconds) in times.device.iter().filter(|(name, _)| *name != own) {
            let mode = format!("the same, {name}");
            rows.push(row.clone().against(mode, rate(seconds)));
        }
        for (mode, seconds) in &times.qemu {
            let mode = format!("qemu-img bench, qcow2, {mode}");
            rows.push(row.clone().against(mode, rate(seconds)));
        }
        rows
    }

    fn without_direct(&self, depth: usize) -> Vec<Row> {
        let name = self.content.name(Cache::Direct, depth);
        let needs = "direct I/O, which this file system does not support";
        vec![Row::skipped(name, Unit::PerSecond, needs)]
    }

    /// The files that reads go to, if not to those that the device has open.
    fn files_of(&self, cache: Cache) -> &Files<RealFile> {
        match (cache, &self.direct) {
            (Cache::Direct, Some(direct)) => direct,
            _ => &self.files,
        }
    }

    pub(super) fn inline(&mut self, cache: Cache) -> Result<Duration, SetUpError> {
        if cache == Cache::Direct {
            return self.device(cache, 1, &mut Inline::default());
        }
        let mut request = Request::read(Tag(0), Sector(0), Bytes(BLOCK).whole_sectors());
        let started = clock::start();
        for at in cache.positions() {
            request.start = sector_of(at);
            request = served(&mut self.ordered, request).map_err(SetUpError::Request)?;
        }
        Ok(started.elapsed())
    }

    /// What a run reads, with no device between and one read in flight.
    fn one_after_the_other(&self, cache: Cache) -> Result<Duration, SetUpError> {
        let mut buffer = block()?;
        let started = clock::start();
        for at in cache.positions() {
            let (file, at) = self.place(at);
            let file = self.files_of(cache).of(file);
            let read = file.map_or(Ok(()), |file| file.read_exact_at(&mut buffer, at));
            read.map_err(|_| SetUpError::Request(Status::IoError))?;
        }
        Ok(started.elapsed())
    }

    /// Where this byte of the device is.
    fn place(&self, at: u64) -> (FileRole, FileOffset) {
        match self.content.is_dirty(at) {
            true => (FileRole::Cow, self.data + Bytes(at)),
            false => (FileRole::Backing, FileOffset(at)),
        }
    }

    pub(super) fn device(
        &mut self,
        cache: Cache,
        depth: usize,
        executor: &mut dyn Executor<RealFile>,
    ) -> Result<Duration, SetUpError> {
        let mut left = cache.positions();
        let mut spare = Vec::new();
        for _ in 0..depth {
            let mut request = Request::read(Tag(0), Sector(0), Bytes(BLOCK).whole_sectors());
            request.segments = vec![Segment::with_data(block()?)];
            spare.push(request);
        }
        let mut redirected;
        let executor: &mut dyn Executor<RealFile> = match (cache, &self.direct) {
            (Cache::Direct, Some(files)) => {
                redirected = Redirected::to(files.clone(), executor);
                &mut redirected
            }
            _ => executor,
        };
        let started = clock::start();
        loop {
            while let Some(mut request) = spare.pop() {
                let Some(at) = left.next() else {
                    break;
                };
                request.start = sector_of(at);
                let submitted = self.ordered.submit(request);
                submitted.map_err(|_| SetUpError::Request(Status::Invalid))?;
            }
            if !self.ordered.is_busy() {
                return Ok(started.elapsed());
            }
            self.ordered.begin_on(executor);
            let ended = self.ordered.take_ended(executor, Wait::ForOne);
            ended.map_err(died)?;
            while let Some(completion) = self.ordered.next_completion() {
                if completion.status != Status::Ok {
                    return Err(SetUpError::Request(completion.status));
                }
                spare.push(completion.request);
            }
        }
    }

    /// What a run reads, asked of the executor with no device between.
    fn bare(
        &self,
        cache: Cache,
        depth: usize,
        executor: &mut dyn Executor<RealFile>,
    ) -> Result<Duration, SetUpError> {
        let mut left = cache.positions();
        let spare: Result<Vec<_>, SetUpError> = (0..depth).map(|_| block()).collect();
        let mut spare = spare?;
        let files = self.files_of(cache);
        let mut under_way = 0;
        let started = clock::start();
        loop {
            while let Some(buffer) = spare.pop() {
                let Some(at) = left.next() else {
                    break;
                };
                let (file, at) = self.place(at);
                let buffer = Buffer::whole(buffer);
                let action = Action::Read { at, buffer };
                let waiter = Waiter(0);
                executor.begin(
                    Operation {
                        waiter,
                        file,
                        action,
                    },
                    files,
                );
                under_way += 1;
            }
            if under_way == 0 {
                return Ok(started.elapsed());
            }
            let mut ended = executor.finished(Wait::ForOne).map_err(died)?;
            while let Some(finished) = ended {
                under_way -= 1;
                if finished.result.is_err() {
                    return Err(SetUpError::Request(Status::IoError));
                }
                if let Action::Read { buffer, .. } = finished.operation.action {
                    spare.push(buffer.data);
                }
                ended = executor.finished(Wait::No).map_err(died)?;
            }
        }
    }

    /// Nothing of the files is in the page cache, if that is wanted.
    pub(super) fn make(&self, cache: Cache) -> Result<(), SetUpError> {
        if cache != Cache::Cold {
            return Ok(());
        }
        for name in [COW, BACKING, PEER_BACKING, QCOW2] {
            let path = self.directory.join(name);
            if !path.exists() {
                continue;
            }
            let dropped = File::open(&path).and_then(|file| {
                file.sync_data()?;
                Ok(rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?)
            });
            dropped.map_err(|error| file_error(&path, error))?;
        }
        Ok(())
    }
}

pub(super) fn died(error: driver::executor::Died) -> SetUpError {
    SetUpError::Thread(error.what)
}

/// `None` where the kernel has none such.
pub(super) fn executor(
    name: &str,
    depth: usize,
) -> Result<Option<Box<dyn Executor<RealFile>>>, SetUpError> {
    if name == "uring" {
        return Ok(Uring::new().ok().map(|uring| Box::new(uring) as Box<_>));
    }
    let threads = Threads::start(depth).map_err(|error| SetUpError::Thread(error.to_string()))?;
    Ok(Some(Box::new(threads)))
}

fn note(times: &mut Vec<(&'static str, Vec<f64>)>, name: &'static str, time: Duration) {
    let seconds = time.as_secs_f64();
    match times.iter_mut().find(|(of, _)| *of == name) {
        Some((_, times)) => times.push(seconds),
        None => times.push((name, vec![seconds])),
    }
}

fn rate(seconds: &[f64]) -> f64 {
    REQUESTS as f64 / median(seconds)
}

/// The fastest, and its requests a second.
fn best(times: &[(&'static str, Vec<f64>)]) -> Option<(&'static str, f64)> {
    let rates = times.iter().map(|(name, seconds)| (*name, rate(seconds)));
    rates.max_by(|one, other| one.1.total_cmp(&other.1))
}

fn opened(cow: &Path, backing: &Path) -> Result<Files<RealFile>, SetUpError> {
    let open = |path: &Path| {
        let opened = RealHost.open(path, Access::ReadOnly);
        opened
            .map(Arc::new)
            .map_err(|error| file_error(path, std::io::Error::other(error.to_string())))
    };
    Ok(Files {
        cow: open(cow)?,
        backing: Some(open(backing)?),
        new: None,
    })
}
