//! What goes on side by side and what does not: operations are held back and finished one by one,
//! in an order that the test chooses.

use std::path::Path;

use driver::blk::{Completion, Request, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Action, FileRole, Finished, HostError, Operation};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, open};
use driver::ordered::{CloseError, Desk, Headroom, Hold, Ordered, Procedure, Resize};
use driver::resize::{ResizeError, ResizeStep};
use driver::units::{Bytes, FileOffset, Sector, SectorCount, SectorRange};

use crate::later::Later;

const SECTORS: u64 = 100;

struct Bench {
    host: MemoryHost,
    device: Ordered<MemoryFile>,
    later: Later,
    completed: Vec<Completion>,
}

/// A relocation that keeps requests out, and does nothing.
struct KeepsOut(Hold);

impl Resize<MemoryFile> for KeepsOut {
    fn begin(self: Box<Self>, desk: Desk<MemoryFile>) -> Procedure {
        Box::pin(async move {
            desk.pass().await?;
            desk.look(move |here| here.set_hold(self.0)).await?;
            loop {
                desk.turn().await?;
            }
        })
    }
}

/// One that writes into nobody's place: within a turn, or beside publications.
struct Writes {
    within_a_turn: bool,
}

impl Resize<MemoryFile> for Writes {
    fn begin(self: Box<Self>, desk: Desk<MemoryFile>) -> Procedure {
        Box::pin(async move {
            match self.within_a_turn {
                true => desk.turn().await?,
                false => desk.pass().await?,
            }
            let at = FileOffset(8192);
            desk.write(FileRole::Cow, "writing", at, vec![1; 512])
                .await?;
            desk.sync().await?;
            loop {
                desk.pass().await?;
            }
        })
    }
}

/// A device over a backing file in which every byte of sector n is n.
fn bench() -> Bench {
    let host = MemoryHost::new();
    let content: Vec<u8> = (0..SECTORS).flat_map(|n| [n as u8; 512]).collect();
    host.file(Path::new("/disk"), &content);
    let spec: DeviceSpec = "ubda=/cow,/disk".parse().unwrap();
    let device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    Bench {
        host,
        device,
        later: Later::default(),
        completed: Vec::new(),
    }
}

impl Bench {
    fn submit(&mut self, request: Request) {
        self.device.submit(request).unwrap();
        self.give_out();
    }

    fn read(&mut self, tag: u64, start: u64, count: u64) {
        self.submit(Request::read(Tag(tag), Sector(start), SectorCount(count)));
    }

    fn write(&mut self, tag: u64, start: u64, count: usize, content: u8) {
        let data = vec![content; count * 512];
        self.submit(Request::write(Tag(tag), Sector(start), data));
    }

    fn flush(&mut self, tag: u64) {
        self.submit(Request::flush(Tag(tag)));
    }

    /// Lets the device begin what it can.
    fn give_out(&mut self) {
        loop {
            self.device.begin_on(&mut self.later);
            let Some(completion) = self.device.next_completion() else {
                return;
            };
            self.completed.push(completion);
        }
    }

    /// Begins a relocation; nobody is kept out yet.
    fn relocate(&mut self, relocation: impl Resize<MemoryFile> + 'static) {
        self.device.begin_resize(Box::new(relocation));
        assert_eq!(self.step_relocation(), ResizeStep::Working);
    }

    fn step_relocation(&mut self) -> ResizeStep {
        self.device.step_resize_on(&mut self.later)
    }

    /// Whether the relocation is let in.
    fn lets_relocation_in(&mut self) -> bool {
        self.step_relocation() == ResizeStep::Working
    }

    /// Lets the relocation keep out what it is to keep out.
    fn keep_out(&mut self) {
        assert_eq!(self.step_relocation(), ResizeStep::Working);
    }

    /// What is under way, in words.
    fn under_way(&self) -> Vec<String> {
        let word = |operation: &Operation| {
            let file = match operation.file {
                FileRole::Cow => "cow",
                FileRole::Backing => "backing",
                FileRole::New | FileRole::RawDisk => "new",
            };
            match &operation.action {
                Action::Read { buffer, .. } => format!("read {file} {}", buffer.len().0 / 512),
                Action::Write { buffer, .. } => format!("write {file} {}", buffer.len().0),
                Action::SyncData => "sync".to_owned(),
                other => format!("{other:?}"),
            }
        };
        self.later.begun.iter().map(word).collect()
    }

    /// Carries out the operation at this place among those under way, and lets the device go on.
    fn finish(&mut self, index: usize) {
        self.end(index);
        self.give_out();
    }

    /// Carries it out.
    fn end(&mut self, index: usize) {
        let operation = self.later.begun.remove(index);
        let files = self.later.files.clone().unwrap();
        self.device.finish(files.carry_out(operation));
    }

    /// Ends it with an error, and nothing done.
    fn fail(&mut self, index: usize, error: HostError) {
        let operation = self.later.begun.remove(index);
        let result = Err(error);
        self.device.finish(Finished { operation, result });
        self.give_out();
    }

    fn finish_all(&mut self) {
        while !self.later.begun.is_empty() {
            self.finish(0);
        }
    }

    /// The tags of what has completed since the last time, and their statuses.
    fn completed(&mut self) -> Vec<(u64, Status)> {
        let completed = std::mem::take(&mut self.completed);
        let told = completed.iter().map(|completion| {
            let tag = completion.request.tag.0;
            (tag, completion.status)
        });
        told.collect()
    }

    /// The first byte of what the only completed request has read.
    fn has_read(&mut self) -> u8 {
        let completed = std::mem::take(&mut self.completed);
        assert_eq!(completed.len(), 1);
        assert_eq!(completed[0].status, Status::Ok);
        completed[0].request.segments[0].data[0]
    }

    /// The first bit of the bitmap on the disk, and the next seven.
    fn bits_on_disk(&self) -> u8 {
        self.byte_of_bitmap(0)
    }

    /// The bits on the disk of the last sectors that a device of 200 has.
    fn last_bits_on_disk(&self) -> u8 {
        self.byte_of_bitmap(200 / 8 - 1)
    }

    fn byte_of_bitmap(&self, byte: usize) -> u8 {
        let bitmap = self.device.image().unwrap().geometry.bitmap_offset;
        self.host.contents(Path::new("/cow")).unwrap()[bitmap.0 as usize + byte]
    }
}

#[test]
fn requests_that_do_not_overlap_go_side_by_side_and_end_in_any_order() {
    let mut bench = bench();
    bench.read(1, 0, 2);
    bench.write(2, 8, 1, 200);
    bench.read(3, 16, 1);
    assert_eq!(
        bench.under_way(),
        ["read backing 2", "write cow 512", "read backing 1"]
    );
    bench.finish(2);
    bench.finish(1);
    bench.finish(0);
    let ok = |tag| (tag, Status::Ok);
    assert_eq!(bench.completed(), [ok(3), ok(2), ok(1)]);
}

#[test]
fn reads_of_the_same_sectors_go_side_by_side() {
    let mut bench = bench();
    bench.read(1, 0, 2);
    bench.read(2, 1, 2);
    assert_eq!(bench.under_way().len(), 2);
}

#[test]
fn a_request_waits_for_the_one_before_it_that_it_overlaps_with_and_keeps_back_no_other() {
    let mut bench = bench();
    bench.write(1, 0, 4, 201);
    bench.write(2, 3, 2, 202);
    bench.read(3, 4, 1);
    bench.read(4, 50, 1);
    // The second waits for the first, the third for the second, and the fourth for nothing.
    assert_eq!(bench.under_way(), ["write cow 2048", "read backing 1"]);
    bench.finish(1);
    bench.finish(0);
    assert_eq!(bench.under_way(), ["write cow 1024"]);
    bench.finish(0);
    assert_eq!(bench.under_way(), ["read cow 1"]);
    bench.completed();
    bench.finish(0);
    assert_eq!(bench.has_read(), 202);
}

#[test]
fn a_read_that_waits_for_a_write_finds_it_in_the_cow_file() {
    let mut bench = bench();
    bench.write(1, 7, 1, 203);
    bench.read(2, 7, 1);
    assert_eq!(bench.under_way(), ["write cow 512"]);
    bench.finish(0);
    bench.completed();
    bench.finish_all();
    assert_eq!(bench.has_read(), 203);
}

#[test]
fn a_write_that_failed_sets_no_bit_and_the_one_beside_it_sets_its_own() {
    let mut bench = bench();
    bench.write(1, 0, 1, 1);
    bench.write(2, 1, 1, 2);
    bench.fail(0, HostError::Io);
    bench.finish(0);
    assert_eq!(bench.completed(), [(1, Status::IoError), (2, Status::Ok)]);
    assert!(!bench.device.map().is_dirty(Sector(0)));
    assert!(bench.device.map().is_dirty(Sector(1)));
}

#[test]
fn a_request_of_several_segments_of_which_one_fails_ends_once_and_with_the_error() {
    let mut bench = bench();
    let mut request = Request::write(Tag(1), Sector(0), vec![1; 512]);
    for _ in 0..2 {
        let more = Request::write(Tag(0), Sector(0), vec![2; 1024]);
        request.segments.extend(more.segments);
    }
    bench.submit(request);
    assert_eq!(bench.under_way().len(), 3);
    bench.fail(1, HostError::NoSpace);
    bench.finish(1);
    assert_eq!(bench.completed(), []);
    bench.finish(0);
    assert_eq!(bench.completed(), [(1, Status::NoSpace)]);
    assert_eq!(bench.device.map().dirty_count(), SectorCount(0));
}

#[test]
fn a_publication_has_the_bits_of_what_had_ended_when_its_first_sync_began_and_no_others() {
    let mut bench = bench();
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.write(2, 1, 1, 2);
    bench.flush(3);
    assert_eq!(bench.under_way(), ["write cow 512", "sync"]);
    // It ends after the sync has begun, which may not have covered it.
    bench.finish(0);
    bench.finish(0);
    assert_eq!(bench.under_way(), ["write cow 8"]);
    bench.finish(0);
    assert_eq!(bench.bits_on_disk(), 0b01);
    bench.finish(0);
    bench.completed();
    bench.flush(4);
    bench.finish_all();
    assert_eq!(bench.bits_on_disk(), 0b11);
}

#[test]
fn a_flush_covers_what_was_acknowledged_before_it_also_when_a_sync_is_under_way() {
    let mut bench = bench();
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.flush(2);
    assert_eq!(bench.under_way(), ["sync"]);
    // This one is acknowledged, and the sync under way does not cover it.
    bench.write(3, 1, 1, 2);
    bench.finish(1);
    bench.flush(4);
    bench.completed();
    bench.finish_all();
    assert_eq!(bench.completed(), [(2, Status::Ok), (4, Status::Ok)]);
    assert_eq!(bench.bits_on_disk(), 0b11);
    // The second sync of the first publication is the first of the other.
    assert_eq!(bench.device.statistics().syncs, 3);
}

#[test]
fn flushes_that_come_while_one_is_under_way_share_the_next_publication() {
    let mut bench = bench();
    for tag in 0..8 {
        bench.write(tag, tag, 1, 1);
        bench.finish(bench.later.begun.len() - 1);
        bench.flush(100 + tag);
    }
    bench.finish_all();
    assert_eq!(bench.completed().len(), 16);
    assert_eq!(bench.device.statistics().syncs, 3, "for eight flushes");
    assert_eq!(bench.bits_on_disk(), 0xff);
}

#[test]
fn requests_that_are_there_go_before_a_publication_and_those_that_keep_coming_do_not() {
    let mut bench = bench();
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.device.submit(Request::flush(Tag(2))).unwrap();
    let read = || Request::read(Tag(3), Sector(50), SectorCount(1));
    for _ in 0..3 {
        bench.device.submit(read()).unwrap();
    }
    let mut begun = 0;
    // One more is there each time that something can begin.
    let sync = loop {
        bench.device.begin_on(&mut OneByOne(&mut bench.later));
        bench.device.submit(read()).unwrap();
        match bench.later.begun.pop() {
            Some(operation) if operation.action == Action::SyncData => break operation,
            Some(operation) => {
                begun += 1;
                let files = bench.later.files.clone().unwrap();
                bench.device.finish(files.carry_out(operation));
            }
            None => {}
        }
        while bench.device.next_completion().is_some() {}
    };
    assert_eq!(sync.file, FileRole::Cow);
    assert_eq!(begun, 3);
}

/// Takes one operation at a time.
struct OneByOne<'a>(&'a mut Later);

impl Executor<MemoryFile> for OneByOne<'_> {
    fn room(&self) -> usize {
        1
    }

    fn under_way(&self) -> usize {
        self.0.under_way()
    }

    fn begin(&mut self, operation: Operation, files: &Files<MemoryFile>) {
        self.0.begin(operation, files);
    }

    fn finished(&mut self, wait: Wait) -> Result<Option<Finished>, Died> {
        self.0.finished(wait)
    }
}

#[test]
fn a_sync_keeps_back_no_read_and_no_write() {
    let mut bench = bench();
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.flush(2);
    bench.read(3, 0, 1);
    bench.write(4, 0, 1, 2);
    assert_eq!(bench.under_way(), ["sync", "read cow 1"]);
    bench.finish(1);
    assert_eq!(bench.under_way(), ["sync", "write cow 512"]);
}

#[test]
fn after_a_failed_sync_nothing_is_durable_that_waits_or_comes() {
    let mut bench = bench();
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.flush(2);
    bench.flush(3);
    bench.fail(0, HostError::Io);
    bench.flush(4);
    bench.submit(Request::write_fua(Tag(5), Sector(2), vec![1; 512]));
    bench.finish_all();
    let failed = |tag| (tag, Status::IoError);
    let expected = [(1, Status::Ok), failed(2), failed(3), failed(4), failed(5)];
    assert_eq!(bench.completed(), expected);
    assert_eq!(bench.bits_on_disk(), 0);
    assert!(bench.device.close().is_err());
}

#[test]
fn a_fua_write_is_durable_with_its_bit_before_it_is_acknowledged() {
    let mut bench = bench();
    bench.submit(Request::write_fua(Tag(1), Sector(3), vec![9; 512]));
    for expected in ["write cow 512", "sync", "write cow 8", "sync"] {
        assert_eq!(bench.under_way(), [expected]);
        assert_eq!(bench.completed(), []);
        bench.finish(0);
    }
    assert_eq!(bench.completed(), [(1, Status::Ok)]);
    assert_eq!(bench.bits_on_disk(), 1 << 3);
}

#[test]
fn zeros_are_written_where_the_host_cannot_zero_a_range() {
    let mut bench = bench();
    bench.submit(Request::write_zeroes(Tag(1), Sector(3), SectorCount(2)));
    bench.fail(0, HostError::Unsupported);
    assert!(matches!(bench.later.begun[0].action, Action::WriteZeros(_)));
    bench.finish(0);
    assert_eq!(bench.completed(), [(1, Status::Ok)]);
    bench.read(2, 3, 1);
    bench.finish_all();
    assert_eq!(bench.has_read(), 0);
}

#[test]
fn what_touches_a_window_waits_and_what_does_not_goes_on() {
    let mut bench = bench();
    let window = SectorRange::new(Sector(10), SectorCount(10));
    bench.relocate(KeepsOut(Hold::Window(window)));
    bench.keep_out();
    bench.read(1, 15, 1);
    bench.read(2, 9, 1);
    bench.flush(3);
    assert_eq!(bench.under_way(), ["read backing 1"]);
    assert_eq!(bench.completed(), [(3, Status::Ok)]);
    bench.finish(0);
    assert_eq!(bench.completed(), [(2, Status::Ok)]);
    bench.device.abandon_resize();
    let abandoned = ResizeStep::Ended(Err(ResizeError::Abandoned));
    assert_eq!(bench.step_relocation(), abandoned);
    bench.give_out();
    bench.finish(0);
    assert_eq!(bench.has_read(), 15);
}

#[test]
fn a_relocation_waits_until_its_window_has_drained_and_for_nothing_else() {
    let mut bench = bench();
    bench.write(1, 12, 1, 1);
    bench.write(2, 50, 1, 1);
    let window = SectorRange::new(Sector(10), SectorCount(10));
    bench.relocate(KeepsOut(Hold::Window(window)));
    bench.keep_out();
    assert!(!bench.lets_relocation_in());
    bench.finish(0);
    assert!(
        bench.lets_relocation_in(),
        "the other write is under way still"
    );
}

#[test]
fn a_relocation_waits_for_the_publication_under_way_and_the_next_one_for_the_relocation() {
    let mut bench = bench();
    bench.relocate(KeepsOut(Hold::Nothing));
    bench.keep_out();
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.flush(2);
    bench.write(3, 1, 1, 1);
    bench.finish(1);
    bench.flush(4);
    assert!(!bench.lets_relocation_in());
    // The bits, and the second sync.
    bench.finish(0);
    bench.finish(0);
    bench.end(0);
    // The first flush is complete, and the second has its turn, but for the relocation.
    assert_eq!(
        bench.device.next_completion().map(|done| done.request.tag),
        Some(Tag(2))
    );
    bench.device.begin_on(&mut bench.later);
    assert_eq!(
        bench.under_way(),
        [""; 0],
        "the next waits for the relocation"
    );
    assert!(bench.lets_relocation_in());
    bench.give_out();
    assert_eq!(bench.under_way(), ["write cow 8"]);
}

#[test]
fn who_keeps_everything_out_waits_for_the_publications_of_what_had_begun() {
    let mut bench = bench();
    bench.relocate(KeepsOut(Hold::Everything));
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.flush(2);
    bench.write(3, 1, 1, 1);
    bench.finish(1);
    bench.flush(4);
    bench.keep_out();
    while !bench.later.begun.is_empty() {
        assert!(!bench.lets_relocation_in());
        bench.finish(0);
    }
    assert!(bench.lets_relocation_in());
    assert_eq!(bench.bits_on_disk(), 0b11);
    let ok = |tag| (tag, Status::Ok);
    assert_eq!(bench.completed(), [ok(1), ok(3), ok(2), ok(4)]);
    // What comes now waits.
    bench.flush(5);
    assert_eq!(bench.completed(), []);
}

#[test]
fn a_shrink_waits_for_what_is_under_way_past_the_new_end() {
    let mut bench = bench();
    bench.write(1, 90, 1, 1);
    bench.read(2, 3, 1);
    bench.relocate(Headroom::new(&bench.device, Bytes(50 * 512)).unwrap());
    assert_eq!(bench.device.step_resize(), ResizeStep::Waiting);
    bench.finish(0);
    while bench.device.step_resize() == ResizeStep::Working {}
    assert_eq!(bench.device.capacity(), SectorCount(50));
    bench.finish_all();
    assert_eq!(bench.completed(), [(1, Status::Ok), (2, Status::Ok)]);
}

#[test]
fn a_grow_writes_no_bit_while_a_publication_is_under_way() {
    let mut bench = bench();
    let grow = Headroom::new(&bench.device, Bytes(200 * 512)).unwrap();
    bench.device.begin_resize(Box::new(grow));
    // Everything up to the bits: from here on the longer bitmap is the device's.
    assert_eq!(bench.device.step_resize(), ResizeStep::Working);
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.flush(2);
    for expected in ["sync", "write cow 8", "sync"] {
        assert_eq!(bench.under_way(), [expected]);
        assert_eq!(bench.device.step_resize(), ResizeStep::Waiting);
        assert_eq!(bench.last_bits_on_disk(), 0, "of new sectors");
        bench.finish(0);
    }
    assert_eq!(bench.completed(), [(1, Status::Ok), (2, Status::Ok)]);
    while bench.device.step_resize() == ResizeStep::Working {}
    assert_eq!(bench.device.capacity(), SectorCount(200));
    assert_eq!((bench.bits_on_disk(), bench.last_bits_on_disk()), (1, 0xff));
}

#[test]
fn requests_go_on_while_an_operation_of_a_relocation_is_under_way() {
    let mut bench = bench();
    bench.relocate(Writes {
        within_a_turn: true,
    });
    bench.keep_out();
    assert_eq!(bench.under_way(), ["write cow 512"]);
    assert_eq!(bench.step_relocation(), ResizeStep::Waiting);
    bench.read(1, 5, 1);
    bench.write(2, 6, 1, 1);
    bench.finish(1);
    bench.finish(1);
    assert_eq!(bench.completed(), [(1, Status::Ok), (2, Status::Ok)]);
    assert_eq!(bench.under_way(), ["write cow 512"]);
}

#[test]
fn no_publication_begins_within_a_turn_and_the_next_one_after_it() {
    let mut bench = bench();
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.relocate(Writes {
        within_a_turn: true,
    });
    bench.keep_out();
    bench.flush(2);
    for expected in ["write cow 512", "sync"] {
        assert_eq!(bench.under_way(), [expected], "nothing of a publication");
        bench.finish(0);
        bench.step_relocation();
    }
    bench.give_out();
    // What the relocation's sync covered needs no other.
    assert_eq!(bench.under_way(), ["write cow 8"]);
    bench.finish_all();
    assert_eq!(bench.completed(), [(1, Status::Ok), (2, Status::Ok)]);
}

#[test]
fn what_a_relocation_writes_counts_when_it_ends_and_belongs_to_the_next_sync() {
    let mut bench = bench();
    bench.relocate(Writes {
        within_a_turn: false,
    });
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.keep_out();
    bench.flush(2);
    for expected in ["sync", "write cow 8", "sync"] {
        assert_eq!(bench.under_way(), ["write cow 512", expected]);
        bench.finish(1);
    }
    assert_eq!(bench.completed(), [(1, Status::Ok), (2, Status::Ok)]);
    bench.finish(0);
    // No bit waits, but what was written meanwhile does.
    bench.flush(3);
    assert_eq!(bench.under_way(), ["sync"]);
    bench.finish(0);
    assert_eq!(bench.completed(), [(3, Status::Ok)]);
}

#[test]
fn a_sync_of_a_relocation_covers_what_had_ended_when_it_began() {
    let mut bench = bench();
    bench.relocate(Writes {
        within_a_turn: true,
    });
    bench.keep_out();
    bench.finish(0);
    bench.step_relocation();
    bench.write(1, 0, 1, 1);
    assert_eq!(bench.under_way(), ["sync", "write cow 512"]);
    bench.finish(1);
    bench.finish(0);
    bench.step_relocation();
    bench.flush(2);
    assert_eq!(bench.under_way(), ["sync"], "the data is not durable yet");
}

#[test]
fn a_resize_that_is_given_up_is_told_so_once_and_after_its_operation_has_ended() {
    let mut bench = bench();
    bench.relocate(Writes {
        within_a_turn: true,
    });
    bench.keep_out();
    bench.device.abandon_resize();
    assert_eq!(bench.step_relocation(), ResizeStep::Waiting);
    assert_eq!(
        bench.device.give_up_resize(),
        None,
        "its write is under way"
    );
    bench.finish(0);
    let abandoned = ResizeStep::Ended(Err(ResizeError::Abandoned));
    assert_eq!(bench.step_relocation(), abandoned);
    assert_eq!(bench.step_relocation(), ResizeStep::Idle);
    bench.device.close().unwrap();
}

#[test]
fn a_request_past_every_end_is_refused_and_keeps_nobody_back() {
    let mut bench = bench();
    bench.read(1, u64::MAX, 1);
    bench.write(2, u64::MAX - 1, 8, 1);
    bench.read(3, 0, 1);
    bench.finish_all();
    let expected = [(1, Status::IoError), (2, Status::IoError), (3, Status::Ok)];
    assert_eq!(bench.completed(), expected);
}

#[test]
fn a_device_is_not_closed_under_operations_that_have_not_ended() {
    for ends in [0, 1] {
        let mut bench = bench();
        bench.write(1, 0, 1, 1);
        for _ in 0..ends {
            bench.finish(0);
            bench.flush(2);
        }
        assert_eq!(bench.under_way().len(), 1);
        assert_eq!(bench.device.close().unwrap_err(), CloseError::Busy);
    }
    let mut bench = bench();
    bench.relocate(Writes {
        within_a_turn: true,
    });
    bench.keep_out();
    assert_eq!(bench.device.close().unwrap_err(), CloseError::Busy);
}

#[test]
fn a_device_that_closes_makes_durable_what_had_ended() {
    let mut bench = bench();
    bench.write(1, 0, 1, 1);
    bench.finish(0);
    bench.write(2, 1, 1, 1);
    bench.finish(0);
    let bitmap = bench.device.image().unwrap().geometry.bitmap_offset;
    bench.device.close().unwrap();
    let contents = bench.host.contents(Path::new("/cow")).unwrap();
    assert_eq!(contents[bitmap.0 as usize], 0b11);
}
