//! The host operations of Linux's driver, one after the other, as they were seen on a running
//! kernel or follow from what it does: what the models have to repeat exactly.

use std::path::Path;

use driver::blk::{Request, Status, Tag};
use driver::cow::{Geometry, Header};
use driver::driver::Driver;
use driver::host::OperationKind;
use driver::linux::{Defect, Defects, Kernel, LinuxUbd, OpenSpec, Step, bring_up};
use driver::units::{Bytes, Sector, SectorCount};
use harness::sim::{Fault, FaultPlan, FaultRule, FileContent, SimFile, SimHost, Survivors};

/// 16 MiB; the bitmap is one page.
const SECTORS: u64 = 32768;
/// Where the bitmap of such a device begins, with alignment 4096.
const BITMAP: u64 = 8192;
/// And its data.
const DATA: u64 = 12288;

fn host() -> SimHost {
    let host = SimHost::default();
    let size = Bytes(SECTORS * 512);
    host.install("disk", FileContent::hole(size));
    let header = Header::v3(Path::new("disk"), 0, size, 4096).unwrap();
    let geometry = Geometry::of(&header).unwrap();
    assert_eq!(geometry.bitmap_offset.0, BITMAP);
    assert_eq!(geometry.data_offset.0, DATA);
    let mut cow = FileContent::hole(Bytes(geometry.data_end().0));
    cow.write_at(&header.encode(), driver::units::FileOffset(0));
    host.install("cow", cow);
    host
}

fn spec(kernel: Kernel) -> OpenSpec {
    OpenSpec {
        kernel,
        ..OpenSpec::default()
    }
}

fn device(host: &SimHost, defects: Defects) -> LinuxUbd<SimFile> {
    let (cow, backing) = (Path::new("cow"), Some(Path::new("disk")));
    let spec = spec(Kernel::Linux6_12);
    let device = bring_up(host, cow, backing, &spec, defects).unwrap();
    host.record();
    host.take_log();
    device
}

fn read(start: u64, count: u64) -> Request {
    Request::read(Tag(0), Sector(start), SectorCount(count))
}

fn write(start: u64, count: usize) -> Request {
    Request::write(Tag(0), Sector(start), vec![1; count * 512])
}

/// Carries out one request.
fn carry_out(device: &mut LinuxUbd<SimFile>, request: Request) {
    assert_eq!(device.serve(request).unwrap().status, Status::Ok);
}

/// What was done since the last time: kind, file, and where it has a range.
fn log(host: &SimHost) -> Vec<String> {
    let log = host.take_log();
    let line = log.iter().map(|logged| {
        let call = &logged.call;
        let (kind, file) = (call.kind, call.path.display());
        match call.range.len.0 {
            0 => format!("{kind} {file}"),
            len => format!("{kind} {file} {}+{len}", call.range.start.0),
        }
    });
    line.collect()
}

/// The host operations of one request.
fn operations(host: &SimHost, device: &mut LinuxUbd<SimFile>, request: Request) -> Vec<String> {
    log(host);
    carry_out(device, request);
    log(host)
}

/// Operations that a kernel's host sees, of those that were done since the last time.
fn seen(host: &SimHost) -> Vec<String> {
    let unseen = ["open", "lock", "length", "metadata", "give mode"];
    let is_seen = |line: &String| !unseen.iter().any(|it| line.starts_with(it));
    log(host).into_iter().filter(is_seen).collect()
}

#[test]
fn a_device_is_opened_by_one_read_of_its_header_and_one_of_its_bitmap() {
    let host = host();
    let mut cow = host.content("cow").unwrap();
    let (cow_file, backing) = (Path::new("cow"), Some(Path::new("disk")));
    let spec = spec(Kernel::Linux6_12);
    host.record();
    let open = || bring_up(&host, cow_file, backing, &spec, Defects::LINUX_6_12).map(drop);
    open().unwrap();
    let expected = [
        "read cow 0+4136".to_owned(),
        format!("read cow {BITMAP}+4096"),
    ];
    assert_eq!(seen(&host), expected);
    // A file that is shorter is asked for as much.
    cow.set_len(Bytes(100));
    host.install("cow", cow);
    assert!(open().is_err());
    assert_eq!(seen(&host), ["read cow 0+4136"]);
}

#[test]
fn a_header_that_has_just_been_written_is_not_read_again() {
    let host = host();
    let (cow, backing) = (Path::new("new"), Some(Path::new("disk")));
    let spec = spec(Kernel::Linux6_12);
    host.record();
    bring_up(&host, cow, backing, &spec, Defects::LINUX_6_12).unwrap();
    let last = DATA + SECTORS * 512 - 1;
    let expected = [
        "create new".to_owned(),
        "write new 0+4128".to_owned(),
        format!("write new {last}+1"),
        format!("read new {BITMAP}+4096"),
    ];
    assert_eq!(seen(&host), expected);
}

#[test]
fn a_read_of_32_kib_over_a_clean_map_is_eight_reads_of_a_page() {
    for defects in [Defects::LINUX_6_12, Defects::none()] {
        let host = host();
        let mut device = device(&host, defects);
        let expected: Vec<String> = (0..8)
            .map(|page| format!("read disk {}+4096", 8192 * 512 + page * 4096))
            .collect();
        assert_eq!(operations(&host, &mut device, read(8192, 64)), expected);
    }
}

#[test]
fn a_read_over_a_mixed_bitmap_is_a_read_for_each_run_and_goes_astray_after_it() {
    let from = 8192 * 512;
    for (defects, lost) in [
        (Defects::LINUX_6_12, 2048),
        (Defects::LINUX_6_12.without(Defect::LastRunOffset), 0),
    ] {
        let host = host();
        let mut device = device(&host, defects);
        carry_out(&mut device, write(8196, 4));
        let mut expected = vec![
            format!("read disk {from}+2048"),
            format!("read cow {}+2048", DATA + from + 2048),
        ];
        // From the second page on, the offset lacks what the first run was long.
        for page in 1..8 {
            expected.push(format!("read disk {}+4096", from + page * 4096 - lost));
        }
        assert_eq!(operations(&host, &mut device, read(8192, 64)), expected);
    }
}

#[test]
fn a_first_write_is_the_data_and_two_words_and_an_overwrite_the_data_alone() {
    let host = host();
    let mut device = device(&host, Defects::LINUX_6_12);
    let data = format!("write cow {}+4096", DATA + 800 * 512);
    let words = format!("write cow {}+16", BITMAP + 800 / 64 * 8);
    let first = operations(&host, &mut device, write(800, 8));
    assert_eq!(first, [data.clone(), words.clone()]);
    assert_eq!(operations(&host, &mut device, write(800, 8)), [data]);
    // One clean sector is enough for the words to be written again.
    let next = operations(&host, &mut device, write(801, 8));
    assert_eq!(next[0], format!("write cow {}+4096", DATA + 801 * 512));
    assert_eq!(next[1..], [words]);
}

#[test]
fn a_write_of_several_pages_writes_words_after_each() {
    let host = host();
    let mut device = device(&host, Defects::LINUX_6_12);
    let mut expected = Vec::new();
    for page in 0..3 {
        expected.push(format!("write cow {}+4096", DATA + page * 4096));
        expected.push(format!("write cow {BITMAP}+16"));
    }
    assert_eq!(operations(&host, &mut device, write(0, 24)), expected);
}

#[test]
fn in_the_last_word_the_two_last_are_written() {
    let host = host();
    let mut device = device(&host, Defects::LINUX_6_12);
    let log = operations(&host, &mut device, write(SECTORS - 1, 1));
    assert_eq!(log[1], format!("write cow {}+16", DATA - 16));
}

#[test]
fn after_a_short_read_the_request_goes_on_by_what_was_asked_for_last() {
    let short = || {
        let read = OperationKind::Read;
        FaultPlan::at([FaultRule::nth("disk", read, 0, Fault::ShortRead(700))])
    };
    for (defects, rest, next) in [
        (Defects::LINUX_6_12, 0, 3396),
        (Defects::LINUX_6_12.without(Defect::LastRunOffset), 0, 4096),
        (
            Defects::LINUX_6_12.without(Defect::ShortReadRestart),
            700,
            4096,
        ),
    ] {
        let host = host();
        let mut device = device(&host, defects);
        host.set_faults(short());
        let expected = [
            "read disk 0+4096".to_owned(),
            format!("read disk {rest}+3396"),
            format!("read disk {next}+4096"),
        ];
        assert_eq!(operations(&host, &mut device, read(0, 16)), expected);
    }
}

#[test]
fn a_discard_is_one_hole_in_the_cow_file_and_two_words_if_a_sector_was_clean() {
    let host = host();
    let mut device = device(&host, Defects::LINUX_6_12);
    carry_out(&mut device, write(136, 8));
    let discard = |count| Request::discard(Tag(0), Sector(128), SectorCount(count));
    let hole = format!("punch hole cow {}+8192", DATA + 128 * 512);
    let words = format!("write cow {}+16", BITMAP + 16);
    let first = operations(&host, &mut device, discard(16));
    assert_eq!(first, [hole.clone(), words]);
    assert_eq!(operations(&host, &mut device, discard(16)), [hole]);
}

#[test]
fn zeros_are_one_range_of_the_cow_file() {
    let host = host();
    let mut device = device(&host, Defects::LINUX_6_12);
    let zeros = Request::write_zeroes(Tag(0), Sector(0), SectorCount(64));
    let expected = [
        format!("zero range cow {DATA}+32768"),
        format!("write cow {BITMAP}+16"),
    ];
    assert_eq!(operations(&host, &mut device, zeros), expected);
}

#[test]
fn a_flush_is_nothing_or_syncs_the_wrong_file_or_the_right_one() {
    let wrong = Defects::LINUX_6_12.without(Defect::FlushNoop);
    for (defects, expected) in [
        (Defects::LINUX_6_12, ""),
        (wrong, "sync data disk"),
        (Defects::only(Defect::FlushWrongFile), "sync data disk"),
        (wrong.without(Defect::FlushWrongFile), "sync data cow"),
        (Defects::none(), "sync data cow"),
    ] {
        let host = host();
        let mut device = device(&host, defects);
        let log = operations(&host, &mut device, Request::flush(Tag(0)));
        assert_eq!(log.join(", "), expected);
    }
}

#[test]
fn without_defects_data_is_durable_before_its_bit() {
    let host = host();
    let mut device = device(&host, Defects::none());
    let request = Request::write_fua(Tag(0), Sector(0), vec![1; 512]);
    let expected = [
        format!("write cow {DATA}+512"),
        "sync data cow".into(),
        format!("write cow {BITMAP}+16"),
        "sync data cow".into(),
    ];
    assert_eq!(operations(&host, &mut device, request), expected);
}

#[test]
fn to_mount_write_fsync_and_unmount_takes_no_sync_at_all() {
    let host = host();
    let mut device = device(&host, Defects::LINUX_6_12);
    for number in 0..100 {
        carry_out(&mut device, read(number * 64, 64));
        carry_out(&mut device, write(number * 72, 8));
        let fua = Request::write_fua(Tag(0), Sector(number * 8), vec![1; 4096]);
        carry_out(&mut device, fua);
        carry_out(&mut device, Request::flush(Tag(0)));
    }
    device.close().unwrap();
    let log = host.take_log();
    let count = |kind| log.iter().filter(|one| one.call.kind == kind).count();
    assert!(count(OperationKind::Write) > 192);
    assert_eq!(count(OperationKind::SyncData), 0);
}

#[test]
fn requests_in_flight_are_carried_out_in_the_order_of_submission_as_planned() {
    let host = host();
    let mut device = device(&host, Defects::LINUX_6_12);
    device.submit(read(0, 8)).unwrap();
    device.submit(write(0, 8)).unwrap();
    device.submit(read(0, 8)).unwrap();
    while !matches!(device.step(), Step::Idle) {}
    let expected = [
        "read disk 0+4096".into(),
        format!("write cow {DATA}+4096"),
        format!("write cow {BITMAP}+16"),
        format!("read cow {DATA}+4096"),
    ];
    assert_eq!(log(&host), expected);
}

#[test]
fn linux_2_6_does_the_same_a_page_at_a_time() {
    let host = host();
    let (cow, backing) = (Path::new("cow"), Some(Path::new("disk")));
    let spec = spec(Kernel::Linux2_6);
    let mut device = bring_up(&host, cow, backing, &spec, Defects::LINUX_2_6).unwrap();
    host.record();
    carry_out(&mut device, write(4, 4));
    carry_out(&mut device, read(0, 8));
    carry_out(&mut device, Request::flush(Tag(0)));
    let expected = [
        format!("write cow {}+2048", DATA + 2048),
        format!("write cow {BITMAP}+16"),
        "read disk 0+2048".into(),
        format!("read cow {}+2048", DATA + 2048),
    ];
    assert_eq!(log(&host), expected);
}

#[test]
fn a_new_image_is_a_header_and_a_last_byte_that_a_power_cut_takes_away() {
    let host = host();
    host.record();
    let names = (Path::new("new"), Path::new("disk"));
    driver::linux::create(&host, names.0, names.1, Defects::LINUX_6_12).unwrap();
    let changes: Vec<String> = host.take_log().iter().filter_map(change).collect();
    let last = DATA + SECTORS * 512 - 1;
    let expected = [
        "create new 0+0",
        "write new 0+4128",
        &format!("write new {last}+1"),
    ];
    assert_eq!(changes, expected);
    let after = host.after_power_cut(&Survivors::default()).unwrap();
    assert!(after.content("new").is_none());

    let host = self::host();
    driver::linux::create(&host, names.0, names.1, Defects::none()).unwrap();
    let after = host.after_power_cut(&Survivors::default()).unwrap();
    let length = after.content("new").unwrap().length();
    assert_eq!(length, Bytes(DATA + SECTORS * 512));
}

fn change(logged: &harness::sim::LoggedCall) -> Option<String> {
    let call = &logged.call;
    let (path, range) = (call.path.display(), call.range);
    call.kind
        .is_change()
        .then(|| format!("{} {path} {}+{}", call.kind, range.start, range.len.0))
}
