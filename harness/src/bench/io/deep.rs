//! Random reads with several in flight. Of files that are not in the page cache, what the disk
//! underneath gets to do at once decides; of files that are, what a request costs on the way.
//! Beside the same reads with no device between, by a bare loop on io_uring, by bare threads and
//! one after the other; and beside qcow2 over the same backing file, in each way that qemu-img has
//! to do its I/O.
//!
//! All take turns, with the same positions in the same order. Before each turn of the cold rows the
//! pages of all files are dropped. In the direct rows all go past the page cache, where the file
//! system has that.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bare::Place;
use driver::blk::{Request, Segment, Status, Tag};
use driver::driver::Driver;
use driver::executor::{Executor, Files, Wait};
use driver::host::{Access, HostNames};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, Sector};
use rustix::fs::Advice;
use userhelper::executor::{Threads, Uring};
use userhelper::real_files::{RealFile, RealHost};

use super::device::{COW, Device, SetUpError, file_error, sector_of, served};
use super::scale::Scale;
use crate::bench::{Only, Row, Unit};
use crate::clock;
use crate::device::{Io, Taken};

mod cases;
mod past_cache;
mod qcow2;
mod registered;
mod times;
mod without_device;

pub(super) use cases::{BACKING, BLOCK, Cache, Content};
use cases::{DEPTHS, WARM_DEPTH, fill};
use past_cache::{Inline, Redirected, block, direct};
use qcow2::{PEER_BACKING, QCOW2, make_qcow2};
use times::{Times, note};
use without_device::{BACKING_FILE, Bare, COW_FILE, files_of};

/// Measures the rows.
pub(super) fn measure(
    directory: &Path,
    only: &Only,
    io: Io,
    scale: &Scale,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), SetUpError> {
    for content in [Content::Clean, Content::HalfDirty] {
        let rows = [Cache::Cold, Cache::Direct].map(|cache| DEPTHS.map(|depth| (cache, depth)));
        let rows = rows.into_iter().flatten();
        let rows = rows.chain([(Cache::Warm, WARM_DEPTH)]);
        let rows: Vec<_> = rows
            .filter(|&(cache, depth)| only.wanted(&content.name(cache, depth)))
            .collect();
        // What is dirty makes no difference to a ring.
        let registered = match content {
            Content::Clean => registered::wanted(only),
            Content::HalfDirty => Vec::new(),
        };
        if rows.is_empty() && registered.is_empty() {
            continue;
        }
        // What was asked for by name and is not to be had ends it here.
        io.choose(1)?;
        let mut turns = Turns::prepare(directory, content, io, scale)?;
        for (cache, depth) in rows {
            each(turns.measure(cache, depth)?);
        }
        if !registered.is_empty() {
            each(registered::measure(&turns, &registered)?);
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
    scale: Scale,
    /// Its files once more, for those without a device.
    bare: bare::Files,
    /// Those files, opened for direct I/O; `None` where the file system does not support it.
    direct: Option<Direct>,
    data: FileOffset,
    has_qcow2: bool,
}

/// Files that are read past the page cache.
struct Direct {
    files: Files<RealFile>,
    /// For those without a device.
    bare: bare::Files,
}

impl Turns {
    pub(super) fn prepare(
        directory: &Path,
        content: Content,
        io: Io,
        scale: &Scale,
    ) -> Result<Turns, SetUpError> {
        let backing = directory.join(BACKING);
        if !backing.exists() {
            fill(&backing, scale.cold).map_err(|error| file_error(&backing, error))?;
        }
        let Device {
            mut ordered, data, ..
        } = Device::over(directory, &backing)?;
        if content == Content::HalfDirty {
            let mut request = Request::write(Tag(0), Sector(0), vec![0x5a; BLOCK as usize]);
            for at in (0..scale.cold.0).step_by(2 * BLOCK as usize) {
                request.start = sector_of(at);
                request = served(&mut ordered, request).map_err(SetUpError::Request)?;
            }
            served(&mut ordered, Request::flush(Tag(0))).map_err(SetUpError::Request)?;
        }
        let cow = directory.join(COW);
        let once_more = |files: &Files<RealFile>| {
            let files = files_of(files);
            files.map_err(|error| file_error(directory, error))
        };
        let direct = match direct(opened(&cow, &backing)?)? {
            Some(files) => Some(Direct {
                bare: once_more(&files)?,
                files,
            }),
            None => None,
        };
        Ok(Turns {
            bare: once_more(&opened(&cow, &backing)?)?,
            direct,
            has_qcow2: make_qcow2(directory, content, scale)?,
            directory: directory.to_owned(),
            content,
            io,
            scale: *scale,
            ordered,
            data,
        })
    }

    fn measure(&mut self, cache: Cache, depth: usize) -> Result<Vec<Row>, SetUpError> {
        if cache == Cache::Direct && self.direct.is_none() {
            return Ok(self.without_direct(depth));
        }
        let mut times = Times::default();
        let places = self.places(cache);
        if cache == Cache::Warm {
            // The first turn does not wait for the disk either.
            self.bare(cache, Bare::InTurn, depth, &places)?;
        }
        // Elsewhere the disk gets to do too little at once.
        let inline = depth == 1 || cache == Cache::Warm;
        let in_turn = inline.then_some(Bare::InTurn);
        for _ in 0..self.scale.runs {
            if self.io == Io::Inline || self.io == Io::Auto && inline {
                self.make(cache)?;
                note(&mut times.device, Taken::Inline.name(), self.inline(cache)?);
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
                let device = self.device(cache, depth, &mut *executor)?;
                note(&mut times.device, name, device);
            }
            for way in in_turn.into_iter().chain(Bare::SIDE_BY_SIDE) {
                if let Some(time) = self.bare(cache, way, depth, &places)? {
                    note(&mut times.bare, way.name(), time);
                }
            }
            // Its positions go over all of the image: they do not stay in the page cache.
            if self.has_qcow2 && cache != Cache::Warm {
                for mode in qcow2::MODES {
                    self.make(cache)?;
                    // A mode that it was built without is left out.
                    if let Some(time) = mode.run(&self.directory, cache, depth, &self.scale) {
                        note(&mut times.qemu, mode.name, time);
                    }
                }
            }
        }
        Ok(times.rows(&self.content.name(cache, depth), cache, self.scale.reads))
    }

    fn without_direct(&self, depth: usize) -> Vec<Row> {
        let name = self.content.name(Cache::Direct, depth);
        let needs = "direct I/O, which this file system does not support";
        vec![Row::skipped(name, Unit::PerSecond, needs)]
    }

    pub(super) fn inline(&mut self, cache: Cache) -> Result<Duration, SetUpError> {
        if cache == Cache::Direct {
            return self.device(cache, 1, &mut Inline::default());
        }
        let mut request = Request::read(Tag(0), Sector(0), Bytes(BLOCK).whole_sectors());
        let started = clock::start();
        for at in cache.positions(&self.scale) {
            request.start = sector_of(at);
            request = served(&mut self.ordered, request).map_err(SetUpError::Request)?;
        }
        Ok(started.elapsed())
    }

    /// Where the blocks are that a run reads.
    fn places(&self, cache: Cache) -> Arc<[Place]> {
        let place = |at| match self.content.is_dirty(at) {
            true => Place {
                file: COW_FILE,
                at: self.data.0 + at,
            },
            false => Place {
                file: BACKING_FILE,
                at,
            },
        };
        cache.positions(&self.scale).map(place).collect()
    }

    /// What a run takes with no device between.
    fn bare(
        &self,
        cache: Cache,
        way: Bare,
        depth: usize,
        places: &Arc<[Place]>,
    ) -> Result<Option<Duration>, SetUpError> {
        let files = match (cache, &self.direct) {
            (Cache::Direct, Some(direct)) => &direct.bare,
            _ => &self.bare,
        };
        self.make(cache)?;
        way.time(files, depth, places)
    }

    pub(super) fn device(
        &mut self,
        cache: Cache,
        depth: usize,
        executor: &mut dyn Executor<RealFile>,
    ) -> Result<Duration, SetUpError> {
        let mut left = cache.positions(&self.scale);
        let mut spare = Vec::new();
        for _ in 0..depth {
            let mut request = Request::read(Tag(0), Sector(0), Bytes(BLOCK).whole_sectors());
            request.segments = vec![Segment::with_data(block()?)];
            spare.push(request);
        }
        let mut redirected;
        let executor: &mut dyn Executor<RealFile> = match (cache, &self.direct) {
            (Cache::Direct, Some(direct)) => {
                redirected = Redirected::to(direct.files.clone(), executor);
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
