//! A reflow in windows of several sizes: what it moves arrives, what it leaves behind is freed,
//! and under live I/O the windows are as large as the disk is fast.

use std::cell::Cell;
use std::rc::Rc;

use std::collections::BTreeSet;
use std::path::Path;

use driver::blk::{Request, Tag};
use driver::cow::{Geometry, Version};
use driver::driver::Driver;
use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Finished, HostFile, Operation, OperationKind};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, create, open};
use driver::ordered::Ordered;
use driver::resize::{ResizeStep, Strategy};
use driver::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, Sector, SectorCount, SectorRange};
use userhelper::at_once::AtOnce;
use userhelper::image_host::FreeSpace;
use userhelper::planner::{Plan, Shrink, Surroundings, Wish, plan};
use userhelper::reflow::{LIVE_WINDOW, Reflow, WINDOW};

const SIZE: u64 = 32 << 20;
const NEW_SIZE: u64 = 64 << 20;

/// Extents of 4 KiB, single sectors, a long piece, and one that was discarded: a hole, and dirty.
fn pieces() -> Vec<(u64, u64)> {
    let extents = (0..700).map(|index| (index * 48, 8));
    let sectors = (0..300).map(|index| (36_000 + index * 5, 1));
    let long = [(40_000, 3000), (50_000, 64), (SIZE / 512 - 1, 1)];
    extents.chain(sectors).chain(long).collect()
}

const DISCARDED: (u64, u64) = (50_000, 32);

fn serve(device: &mut Ordered<MemoryFile>, request: Request) {
    device.serve(request).unwrap();
}

fn content(sector: u64) -> Vec<u8> {
    vec![(sector % 251) as u8 + 1; SECTOR_SIZE as usize]
}

fn device() -> Ordered<MemoryFile> {
    let mut device = device_with(pieces());
    let (start, count) = DISCARDED;
    serve(
        &mut device,
        Request::discard(Tag(0), Sector(start), SectorCount(count)),
    );
    device
}

/// With these sectors dirty.
fn device_with(pieces: Vec<(u64, u64)>) -> Ordered<MemoryFile> {
    let host = MemoryHost::new();
    host.file("disk", &vec![0xee; SIZE as usize]);
    drop(create(&host, Path::new("cow"), Path::new("disk"), Some(4096)).unwrap());
    let spec = "ubda=cow,disk".parse().unwrap();
    let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    for (start, count) in pieces {
        for sector in start..start + count {
            serve(
                &mut device,
                Request::write(Tag(0), Sector(sector), content(sector)),
            );
        }
    }
    device
}

fn planned(device: &Ordered<MemoryFile>, online: bool, free: Option<u64>) -> Plan {
    let wish = Wish {
        new_size: Bytes(NEW_SIZE),
        strategy: Some(Strategy::Reflow),
        shrink: Shrink::Refuse,
        online,
    };
    let surroundings = Surroundings {
        free_space: free.map(|free| FreeSpace {
            free: Bytes(free),
            block: Bytes(4096),
        }),
        replaceable: true,
    };
    plan(device, wish, surroundings).unwrap()
}

/// Runs it to its end, each step taking `step_ns` nanoseconds.
fn run(reflow: Reflow, device: &mut Ordered<MemoryFile>, step_ns: u64) {
    let now_ns = Rc::new(Cell::new(5_000_000_000));
    let clock = Rc::clone(&now_ns);
    device.begin_resize(Box::new(reflow.timed_by(move || clock.get())));
    loop {
        match device.step_resize() {
            ResizeStep::Working => now_ns.set(now_ns.get() + step_ns),
            ended => return assert!(matches!(ended, ResizeStep::Ended(Ok(_))), "{ended:?}"),
        }
    }
}

fn check(device: &Ordered<MemoryFile>) {
    let geometry = device.geometry().unwrap();
    assert_eq!(geometry.size, Bytes(NEW_SIZE));
    let (discarded, len) = DISCARDED;
    for (start, count) in pieces() {
        for sector in start..start + count {
            let mut found = vec![0; SECTOR_SIZE as usize];
            let place = geometry.place_of(Sector(sector));
            device.cow().read_exact_at(&mut found, place).unwrap();
            let zeros = (discarded..discarded + len).contains(&sector);
            let expected = if zeros { vec![0; 512] } else { content(sector) };
            assert!(found == expected, "sector {sector}");
            assert!(device.map().is_dirty(Sector(sector)));
        }
    }
    check_holes(device);
}

/// Where nothing is, there is a hole: in whole blocks, which is what a host gives back.
fn check_holes(device: &Ordered<MemoryFile>) {
    let geometry = device.geometry().unwrap();
    let bitmap_end = FileOffset(geometry.bitmap().end().0.next_multiple_of(4096));
    let area = FileRange::between(bitmap_end..geometry.data_end());
    for data in device.cow().data_runs(area) {
        let data = data.unwrap();
        for block in (data.start.0 / 4096)..data.end().0.div_ceil(4096) {
            let (start, end) = (block * 4096, (block + 1) * 4096);
            assert!(start >= geometry.data_offset.0, "data before the data area");
            let first = (start - geometry.data_offset.0) / 512;
            let last = (end - geometry.data_offset.0).div_ceil(512);
            let sectors = SectorRange::between(Sector(first)..Sector(last));
            let used = device.map().next_dirty(sectors.start, sectors.end());
            assert!(used.is_some(), "block {block} of the file was not freed");
        }
    }
}

#[test]
fn windows_of_any_size_move_everything_and_leave_nothing_behind() {
    for window in [512, 64 << 10, 1 << 20, 64 << 20] {
        let mut device = device();
        let geometry = planned(&device, false, None).new_geometry.unwrap();
        let reflow = Reflow::new(&device, geometry).unwrap();
        run(reflow.with_window(Bytes(window)), &mut device, 0);
        check(&device);
    }
}

/// The block that a window begins within is left to the next one, which ends further down.
#[test]
fn a_block_between_two_windows_is_freed() {
    let host = MemoryHost::new();
    host.file("disk", &[0xee; 65 * 512]);
    drop(create(&host, Path::new("cow"), Path::new("disk"), Some(4096)).unwrap());
    let spec = "ubda=cow,disk".parse().unwrap();
    let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    for sector in (38..48).chain([51]) {
        let write = Request::write(Tag(0), Sector(sector), content(sector));
        serve(&mut device, write);
    }
    let geometry = Geometry::new(Version::V3, Bytes(66 * 512), 16_384).unwrap();
    let reflow = Reflow::new(&device, geometry).unwrap();
    run(reflow.with_window(Bytes(512)), &mut device, 0);
    check_holes(&device);
}

#[test]
fn under_live_io_a_slower_disk_gets_smaller_windows() {
    // 10 ns a step is a disk without any cost; with 2 ms a step a window of five runs takes the
    // goal.
    let counts = [10, 200_000, 2_000_000].map(|step_ns| {
        let mut device = device();
        let geometry = planned(&device, true, None).new_geometry.unwrap();
        let reflow = Reflow::new(&device, geometry)
            .unwrap()
            .while_live(LIVE_WINDOW);
        let progress = reflow.progress();
        run(reflow, &mut device, step_ns);
        check(&device);
        let windows = progress.windows();
        assert!(windows.longest_ns > 0);
        windows.count
    });
    assert!(counts[0] < counts[1] && counts[1] < counts[2], "{counts:?}");
}

#[test]
fn its_progress_says_where_the_windows_are() {
    let mut device = device();
    let geometry = planned(&device, false, None).new_geometry.unwrap();
    let reflow = Reflow::new(&device, geometry).unwrap();
    let reflow = reflow.with_window(Bytes(64 << 10));
    let progress = reflow.progress();
    assert_eq!((progress.frontier(), progress.reached()), (None, None));
    device.begin_resize(Box::new(reflow));
    let (mut frontier, mut reached) = (Sector(SIZE / SECTOR_SIZE), Sector(u64::MAX));
    while let ResizeStep::Working = device.step_resize() {
        let now = progress.frontier().unwrap_or(frontier);
        // Down by one window at a time, each of which was there before it was passed.
        assert!(now == frontier || now >= reached, "{frontier:?} {now:?}");
        assert!(now <= frontier, "{frontier:?} {now:?}");
        frontier = now;
        reached = progress.reached().unwrap_or(reached);
        assert!(reached <= frontier || reached == Sector(u64::MAX));
    }
    assert_eq!((frontier, reached), (Sector(0), Sector(0)));
}

#[test]
fn where_space_is_short_an_offline_reflow_takes_smaller_windows() {
    let device = device();
    let ample = planned(&device, false, None);
    // The data in blocks, each counted once, and the bitmap's two; records for 128 extents a
    // block.
    let geometry = ample.new_geometry.unwrap();
    let sectors = pieces()
        .into_iter()
        .flat_map(|(start, count)| start..start + count)
        // A hole takes no space.
        .filter(|sector| !(DISCARDED.0..DISCARDED.0 + DISCARDED.1).contains(sector));
    let blocks: BTreeSet<_> = sectors
        .map(|sector| geometry.place_of(Sector(sector)).0 / 4096)
        .collect();
    let extents = blocks
        .iter()
        .filter(|&&block| !blocks.contains(&(block - 1)));
    let records = extents.count().div_ceil(128);
    let data = Bytes((blocks.len() + records) as u64 * 4096);
    let bitmap = geometry.bitmap_len.0.next_multiple_of(4096) + 4096;
    assert_eq!(ample.space_needed, data.min(ample.window) + Bytes(bitmap));
    let distance = {
        let old = device.geometry().unwrap();
        geometry.data_offset - old.data_offset
    };
    assert_eq!(ample.window, Bytes(64 << 20).min(distance));
    assert!(ample.window > WINDOW.min(distance) || distance <= WINDOW);
    let short = planned(&device, false, Some(2 << 20));
    assert_eq!(short.window, Bytes(1 << 20));
    assert!(short.space_needed <= Bytes(2 << 20));
}

/// Carries each operation out where it is given, and keeps what was asked for, and of how many
/// bytes.
#[derive(Default)]
struct Keeping {
    asked: Vec<(OperationKind, Bytes)>,
    finished: Vec<Finished>,
}

impl Executor<MemoryFile> for Keeping {
    fn room(&self) -> usize {
        1
    }

    fn under_way(&self) -> usize {
        self.finished.len()
    }

    fn begin(&mut self, operation: Operation, files: &Files<MemoryFile>) {
        let action = &operation.action;
        self.asked.push((action.kind(), action.range().len));
        self.finished.push(files.carry_out(operation));
    }

    fn finished(&mut self, _: Wait) -> Result<Option<Finished>, Died> {
        Ok(self.finished.pop())
    }
}

impl Keeping {
    /// Everything that a reflow asks for.
    fn of(reflow: Reflow, device: &mut Ordered<MemoryFile>) -> Keeping {
        let mut keeping = Keeping::default();
        device.begin_resize(Box::new(reflow));
        loop {
            match device.step_resize_on(&mut keeping) {
                ResizeStep::Working | ResizeStep::Waiting => {}
                ended => {
                    assert!(matches!(ended, ResizeStep::Ended(Ok(_))), "{ended:?}");
                    return keeping;
                }
            }
            while let Some(finished) = keeping.finished.pop() {
                device.finish(finished);
            }
        }
    }

    fn lengths(&self, kind: OperationKind) -> impl Iterator<Item = Bytes> + '_ {
        let asked = self.asked.iter().filter(move |(asked, _)| *asked == kind);
        asked.map(|(_, len)| *len)
    }
}

/// A write of a request may wait for one of the move.
#[test]
fn under_live_io_a_step_copies_less() {
    for (live, longest) in [(false, 1 << 20), (true, 128 << 10)] {
        let mut device = device();
        let geometry = planned(&device, live, None).new_geometry.unwrap();
        let mut reflow = Reflow::new(&device, geometry).unwrap();
        if live {
            reflow = reflow.while_live(LIVE_WINDOW);
        }
        let keeping = Keeping::of(reflow, &mut device);
        for kind in [OperationKind::Read, OperationKind::Write] {
            assert_eq!(keeping.lengths(kind).max(), Some(Bytes(longest)));
        }
        check(&device);
    }
}

/// To tell where data ends, a host may have to go through all of it.
#[test]
fn where_data_ends_is_asked_for_a_few_times_a_window() {
    let mut device = device_with(vec![(1024, 4096)]);
    let geometry = planned(&device, false, None).new_geometry.unwrap();
    let at_once = AtOnce::of(Bytes(4096));
    let reflow = Reflow::new(&device, geometry).unwrap();
    let keeping = Keeping::of(reflow.with_at_once(at_once), &mut device);
    let reads = keeping.lengths(OperationKind::Read).count();
    let looks = keeping.lengths(OperationKind::NextData).count();
    assert!(reads >= 512, "{reads} reads");
    assert!(looks < reads / 10, "{looks} looks for data, {reads} reads");
}
