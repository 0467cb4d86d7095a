//! One test for each defect.

use std::path::{Path, PathBuf};

use driver::blk::{Request, Status, Tag};
use driver::cow::{Geometry, Header, HeaderError, Version};
use driver::host::{HostError, HostFile};
use driver::linux::{
    Death, Defect, Defects, FOREIGN_MEMORY, Kernel, LinuxOpenError, LinuxUbd, OpenSpec, Step,
    bring_up,
};
use driver::memory::MemoryHost;
use driver::units::{Bytes, FileOffset, Sector, SectorCount};

use super::disk::{Disk, Fault};
use super::{
    MTIME, backing, carry_out, completion, device, firsts, flush, header, image, on_and_off, open,
    read, spec, write,
};

#[test]
fn flush_noop_loses_what_was_flushed() {
    for (on, defects) in on_and_off(Defect::FlushNoop) {
        let (mut device, cow) = device(128, defects);
        write(&mut device, 9, 1, 1);
        assert_eq!(flush(&mut device), Status::Ok);
        let after = cow.after_power_cut(|_| false);
        let expected = if on { 109 } else { 1 };
        assert_eq!(read(&mut open(&after, 128, defects), 9, 1), [expected]);
    }
}

#[test]
fn flush_wrong_file_syncs_the_backing_file() {
    for (on, defects) in on_and_off(Defect::FlushWrongFile) {
        let (cow, backing) = (image(Version::V3, 128, 4096), backing(128));
        let mut device = LinuxUbd::open(cow.clone(), backing.clone(), &spec(), defects).unwrap();
        cow.take_log();
        backing.take_log();
        assert_eq!(flush(&mut device), Status::Ok);
        let logs = (cow.take_log(), backing.take_log());
        let sync = vec!["sync".to_owned()];
        assert_eq!(logs, if on { (vec![], sync) } else { (sync, vec![]) });
    }
}

#[test]
fn unordered_publish_shows_the_zeros_of_a_hole() {
    for (on, defects) in on_and_off(Defect::UnorderedPublish) {
        let (mut device, cow) = device(128, defects);
        write(&mut device, 9, 1, 1);
        // All that is not on the disk yet, but for what was written first.
        let pending = cow.pending();
        let after = cow.after_power_cut(|index| pending == 1 || index > 0);
        let expected = if on { 0 } else { 1 };
        assert_eq!(read(&mut open(&after, 128, defects), 9, 1), [expected]);
    }
}

#[test]
fn requeue_loses_bitmap_and_with_it_the_write() {
    for (on, defects) in on_and_off(Defect::RequeueLosesBitmap) {
        let cow = image(Version::V3, 128, 4096);
        let spec = OpenSpec {
            pipe_capacity: 1,
            ..spec()
        };
        let mut device = LinuxUbd::open(cow.clone(), backing(128), &spec, defects).unwrap();
        let request = Request::read(Tag(1), Sector(0), SectorCount(1));
        device.submit(request).unwrap();
        let request = Request::write(Tag(2), Sector(9), vec![1; 512]);
        let request = device.submit(request).unwrap_err();
        assert_eq!(completion(&mut device).request.tag, Tag(1));
        assert_eq!(device.is_dirty(Sector(9)), on);
        assert_eq!(carry_out(&mut device, request).status, Status::Ok);
        assert_eq!(read(&mut device, 9, 1), [1]);
        device.close().unwrap();
        let expected = if on { 109 } else { 1 };
        assert_eq!(read(&mut open(&cow, 128, defects), 9, 1), [expected]);
    }
}

#[test]
fn error_leaves_bit_and_the_backing_data_is_gone() {
    for (on, defects) in on_and_off(Defect::ErrorLeavesBit) {
        let (mut device, cow) = device(128, defects);
        cow.fail_writes([Some(Fault::Error)]);
        // The read is planned before the write fails.
        let data = vec![1; 16 * 512];
        device
            .submit(Request::write(Tag(1), Sector(8), data))
            .unwrap();
        let request = Request::read(Tag(2), Sector(7), SectorCount(10));
        device.submit(request).unwrap();
        assert_eq!(completion(&mut device).status, Status::IoError);
        let seen = firsts(&completion(&mut device).request);
        let expected = if on {
            [0; 8]
        } else {
            [108, 109, 110, 111, 112, 113, 114, 115]
        };
        assert_eq!(seen[0], 107);
        assert_eq!(seen[1..9], expected);
        assert_eq!(seen[9], if on { 0 } else { 116 });
    }
}

#[test]
fn bitmap_write_never_retried_forgets_a_later_write() {
    for (on, defects) in on_and_off(Defect::BitmapWriteNeverRetried) {
        let (mut device, cow) = device(128, defects);
        cow.fail_writes([None, Some(Fault::Error)]);
        assert_eq!(write(&mut device, 9, 1, 1), Status::IoError);
        assert_eq!(write(&mut device, 9, 2, 1), Status::Ok);
        device.close().unwrap();
        let expected = if on { 109 } else { 2 };
        assert_eq!(read(&mut open(&cow, 128, defects), 9, 1), [expected]);
    }
}

#[test]
fn zero_write_is_success_although_nothing_was_written() {
    for (on, defects) in on_and_off(Defect::ZeroWriteIsSuccess) {
        let (mut device, cow) = device(128, defects);
        cow.fail_writes([Some(Fault::Short(0))]);
        let status = if on { Status::Ok } else { Status::IoError };
        assert_eq!(write(&mut device, 9, 1, 1), status);
        assert_eq!(read(&mut device, 9, 1), [if on { 0 } else { 109 }]);
        cow.fail_writes([Some(Fault::Short(512))]);
        let status = if on { Status::IoError } else { Status::Ok };
        assert_eq!(write(&mut device, 20, 1, 2), status);
    }
}

#[test]
fn last_run_offset_reads_every_page_but_the_first_from_the_wrong_place() {
    for (on, defects) in on_and_off(Defect::LastRunOffset) {
        let (mut device, _) = device(128, defects);
        assert_eq!(write(&mut device, 4, 1, 4), Status::Ok);
        let seen = read(&mut device, 0, 64);
        assert_eq!(seen[..8], [100, 101, 102, 103, 1, 1, 1, 1]);
        // The offset went on by four sectors instead of eight.
        let expected = if on { 104 } else { 108 };
        assert_eq!(seen[8..10], [expected, expected + 1]);
    }
}

#[test]
fn short_read_restart_reads_the_beginning_twice() {
    for (on, defects) in on_and_off(Defect::ShortReadRestart) {
        let files = (image(Version::V3, 128, 4096), backing(128));
        let mut device = LinuxUbd::open(files.0, files.1.clone(), &spec(), defects).unwrap();
        files.1.fail_reads([Some(Fault::Short(1024))]);
        let expected = if on {
            [100, 101, 100, 101]
        } else {
            [100, 101, 102, 103]
        };
        assert_eq!(read(&mut device, 0, 4), expected);
    }
}

#[test]
fn partial_requeue_duplicates_and_completes_too_early() {
    for (on, defects) in on_and_off(Defect::PartialRequeueDuplicates) {
        // In requests without the defect, in segments with it.
        let spec = OpenSpec {
            pipe_capacity: if on { 5 } else { 1 },
            ..spec()
        };
        let cow = image(Version::V3, 128, 4096);
        let mut device = LinuxUbd::open(cow, backing(128), &spec, defects).unwrap();
        let other = Request::read(Tag(1), Sector(0), SectorCount(16));
        device.submit(other).unwrap();
        let request = Request::read(Tag(2), Sector(0), SectorCount(32));
        let request = device.submit(request).unwrap_err();
        assert_eq!(completion(&mut device).request.tag, Tag(1));
        while !matches!(device.step(), Step::Idle) {}
        let seen = firsts(&carry_out(&mut device, request).request);
        assert_eq!(seen[0], 100);
        assert_eq!(seen[8], if on { 0 } else { 108 });
        assert_eq!(seen[31], if on { 0 } else { 131 });
    }
}

#[test]
fn end_of_map_overrun_writes_into_the_first_sector() {
    for (on, defects) in on_and_off(Defect::EndOfMapOverrun) {
        // 4096 sectors have 512 bytes of bitmap, and data follows at once.
        let cow = image(Version::V3, 4096, 512);
        let mut device = open(&cow, 4096, defects);
        write(&mut device, 0, 1, 1);
        write(&mut device, 4095, 1, 1);
        assert_eq!(read(&mut device, 0, 1), [if on { 0 } else { 1 }]);
        assert_eq!(read(&mut device, 4095, 1), [1]);
    }
}

#[test]
fn one_word_underflow_overwrites_the_end_of_the_header() {
    for version in [Version::V1, Version::V2] {
        for (on, defects) in on_and_off(Defect::OneWordUnderflow) {
            let cow = image(version, 64, 512);
            let mut device = open(&cow, 64, defects);
            assert_eq!(write(&mut device, 5, 1, 1), Status::Ok);
            device.close().unwrap();
            let again = LinuxUbd::open(cow, backing(64), &spec(), Defects::none());
            assert_eq!(again.is_err(), on, "{version}");
        }
    }
}

#[test]
fn v1_v2_short_bitmap_forgets_the_last_sectors() {
    for (on, defects) in on_and_off(Defect::V1V2ShortBitmap) {
        let cow = image(Version::V2, 100, 512);
        let mut device = open(&cow, 100, defects);
        assert_eq!(device.writable(), SectorCount(if on { 100 } else { 96 }));
        let status = if on { Status::Ok } else { Status::IoError };
        assert_eq!(write(&mut device, 98, 1, 1), status);
        assert_eq!(write(&mut device, 95, 1, 1), Status::Ok);
        assert_eq!(read(&mut device, 98, 1), [if on { 1 } else { 198 }]);
        device.close().unwrap();
        let mut device = open(&cow, 100, defects);
        assert_eq!(read(&mut device, 95, 4), [1, 196, 197, 198]);
    }
}

#[test]
fn short_bitmap_read_takes_the_rest_for_clean() {
    for (on, defects) in on_and_off(Defect::ShortBitmapRead) {
        let cow = image(Version::V3, 4096, 4096);
        let mut device = open(&cow, 4096, defects);
        write(&mut device, 4000, 1, 1);
        device.close().unwrap();
        // The first read is the header's.
        cow.fail_reads([None, Some(Fault::Short(8))]);
        let seen = read(&mut open(&cow, 4096, defects), 4000, 1);
        assert_eq!(seen, [if on { 100 } else { 1 }]);

        let cut = Disk::new(cow.content()[..8200].to_vec());
        let opened = LinuxUbd::open(cut, backing(4096), &spec(), defects);
        match opened {
            Ok(_) => assert!(on),
            Err(error) => {
                let (found, expected) = (8200, 8192 + 512);
                assert_eq!(error, LinuxOpenError::BitmapCutShort { found, expected });
                assert!(!on);
            }
        }
    }
}

#[test]
fn int_offsets_end_at_two_gib() {
    for (on, defects) in on_and_off(Defect::IntOffsets) {
        let host = MemoryHost::new();
        let header = header(Version::V3, 64, 1 << 30);
        let geometry = Geometry::of(&header).unwrap();
        let cow = host.file("/cow", &header.encode());
        cow.set_len(geometry.data_end() - FileOffset(0)).unwrap();
        let disk = host.file("/disk", &[7; 64 * 512]);
        let mut device = LinuxUbd::open(cow, disk, &spec(), defects).unwrap();
        let status = if on { Status::IoError } else { Status::Ok };
        assert_eq!(write(&mut device, 5, 1, 1), status);
    }
}

#[test]
fn limit_before_header_kills_the_kernel() {
    for (on, defects) in on_and_off(Defect::LimitBeforeHeader) {
        let alone = OpenSpec {
            named_backing: None,
            ..spec()
        };
        let cow = image(Version::V3, 256, 4096);
        let mut device = LinuxUbd::open(cow, backing(256), &alone, defects).unwrap();
        let request = Request::discard(Tag(0), Sector(0), SectorCount(65));
        if on {
            device.submit(request).unwrap_err();
            let sectors = SectorCount(65);
            assert_eq!(device.death(), Some(Death::MaskOverflow { sectors }));
            assert!(matches!(device.step(), Step::Died(_)));
        } else {
            assert_eq!(device.limits().max_discard, SectorCount(64));
            assert_eq!(carry_out(&mut device, request).status, Status::Invalid);
        }
    }
}

#[test]
fn v3_of_64_bit_hosts_is_misread() {
    for (on, defects) in on_and_off(Defect::V3WideLayout) {
        let cow = image(Version::V3Wide, 128, 512);
        let opened = LinuxUbd::open(cow, backing(128), &spec(), defects);
        match opened {
            Ok(mut device) => {
                assert!(!on);
                assert_eq!(write(&mut device, 3, 1, 1), Status::Ok);
                assert_eq!(read(&mut device, 3, 2), [1, 104]);
            }
            Err(error) => {
                assert!(on);
                assert!(
                    matches!(error, LinuxOpenError::BackingSize { .. }),
                    "{error}"
                );
            }
        }
    }
}

#[test]
fn backing_switch_clobbers_the_bitmap_of_v1_and_v2() {
    for version in [Version::V1, Version::V2] {
        for (on, defects) in on_and_off(Defect::BackingSwitchClobbersV1V2) {
            let cow = image(version, 128, 512);
            let mut device = open(&cow, 128, defects);
            write(&mut device, 9, 1, 1);
            device.close().unwrap();
            let other = OpenSpec {
                named_backing: Some(PathBuf::from("/other")),
                ..spec()
            };
            LinuxUbd::open(cow.clone(), backing(128), &other, defects).unwrap();
            let mut device = LinuxUbd::open(cow, backing(128), &other, defects).unwrap();
            let expected = if on { 109 } else { 1 };
            assert_eq!(read(&mut device, 9, 1), [expected], "{version}");
        }
    }
}

#[test]
fn a_backing_switch_makes_an_ordinary_v3_of_a_64_bit_header_and_loses_nothing() {
    for alignment in [512, 4096] {
        for (on, defects) in on_and_off(Defect::BackingSwitchClobbersV1V2) {
            let cow = image(Version::V3Wide, 128, alignment);
            let mut device = open(&cow, 128, defects);
            write(&mut device, 9, 1, 1);
            device.close().unwrap();
            let other = OpenSpec {
                named_backing: Some(PathBuf::from("/other")),
                ..spec()
            };
            // The opening that switches, and one that finds what it has left.
            for _ in 0..2 {
                let device = LinuxUbd::open(cow.clone(), backing(128), &other, defects);
                assert_eq!(read(&mut device.unwrap(), 8, 3), [108, 1, 110]);
                let left = Header::decode(&cow.content()).unwrap();
                let expected = if on { Version::V3 } else { Version::V3Wide };
                assert_eq!(left.version, expected);
                assert_eq!(left.backing_path, b"/other");
                assert_eq!((left.alignment, left.size), (alignment, Bytes(128 * 512)));
            }
        }
    }
}

#[test]
fn header_unchecked_divides_by_zero() {
    for (field, name) in [(20, "the sector size"), (24, "the alignment")] {
        for (on, defects) in on_and_off(Defect::HeaderUnchecked) {
            let cow = image(Version::V3, 128, 4096);
            cow.write_all_at(&[0; 4], FileOffset(field)).unwrap();
            let opened = LinuxUbd::open(cow, backing(128), &spec(), defects);
            match opened.unwrap_err() {
                LinuxOpenError::Died(death) => {
                    assert!(on);
                    assert_eq!(death, Death::DividedByZero { field: name });
                }
                LinuxOpenError::Header(error) => {
                    assert!(!on);
                    assert!(!matches!(error, HeaderError::TooShort { .. }));
                }
                error => panic!("{error}"),
            }
        }
    }
}

#[test]
fn header_unchecked_believes_another_sector_size() {
    let defects = Defects::only(Defect::HeaderUnchecked);
    let cow = image(Version::V3, 128, 512);
    cow.write_all_at(&1024_u32.to_be_bytes(), FileOffset(20))
        .unwrap();
    let mut device = open(&cow, 128, defects);
    assert_eq!(write(&mut device, 100, 1, 1), Status::Ok);
    device.close().unwrap();
    assert_eq!(read(&mut open(&cow, 128, defects), 100, 1), [100]);
}

#[test]
fn mtime_seconds_wraps_after_136_years() {
    for (on, defects) in on_and_off(Defect::MtimeSeconds) {
        let later = OpenSpec {
            backing_mtime: i64::from(MTIME) + (1 << 32),
            ..spec()
        };
        let cow = image(Version::V3, 128, 4096);
        let opened = LinuxUbd::open(cow, backing(128), &later, defects);
        assert_eq!(opened.is_ok(), on);
    }
}

#[test]
fn a_backing_file_modified_or_of_another_size_is_refused_by_every_kernel() {
    for defects in [Defects::none(), Defects::LINUX_2_6, Defects::LINUX_6_12] {
        let later = OpenSpec {
            backing_mtime: i64::from(MTIME) + 1,
            ..spec()
        };
        let cow = image(Version::V3, 128, 4096);
        let opened = LinuxUbd::open(cow.clone(), backing(128), &later, defects);
        assert!(matches!(
            opened,
            Err(LinuxOpenError::BackingModified { .. })
        ));
        let opened = LinuxUbd::open(cow, backing(129), &spec(), defects);
        let (found, expected) = (Bytes(129 * 512), Bytes(128 * 512));
        assert_eq!(
            opened.unwrap_err(),
            LinuxOpenError::BackingSize { found, expected }
        );
    }
}

#[test]
fn lock_lost_on_close_lets_two_devices_write_one_image() {
    for (on, defects) in on_and_off(Defect::LockLostOnClose) {
        let host = MemoryHost::new();
        host.file("/disk", &[7; 128 * 512]);
        let (cow, disk) = (Path::new("/cow"), Path::new("/disk"));
        let up = || bring_up(&host, cow, Some(disk), &OpenSpec::default(), defects);
        let _first = up().unwrap();
        assert_eq!(up().is_ok(), on);
    }
}

#[test]
fn create_not_atomic_makes_the_same_image_in_the_end() {
    for (_, defects) in on_and_off(Defect::CreateNotAtomic) {
        let host = MemoryHost::new();
        host.file("/disk", &[7; 128 * 512]);
        let (cow, disk) = (Path::new("/cow"), Path::new("/disk"));
        let spec = OpenSpec::default();
        let mut device = bring_up(&host, cow, Some(disk), &spec, defects).unwrap();
        assert_eq!(write(&mut device, 9, 1, 1), Status::Ok);
        drop(device);
        // The COW file alone names its backing file.
        let mut device = bring_up(&host, cow, None, &spec, defects).unwrap();
        assert_eq!(read(&mut device, 8, 2), [7, 1]);
        let len = host.contents(cow).unwrap().len();
        assert_eq!(len, 3 * 4096 + 128 * 512);
    }
}

#[test]
fn failed_discard_leaves_bits_and_zeros() {
    for (on, defects) in on_and_off(Defect::FailedDiscardLeavesBits) {
        let (mut device, cow) = device(128, defects);
        cow.fail_punches([Some(Fault::Error)]);
        let request = Request::discard(Tag(0), Sector(8), SectorCount(8));
        assert_eq!(carry_out(&mut device, request).status, Status::IoError);
        assert_eq!(read(&mut device, 8, 1), [if on { 0 } else { 108 }]);
    }
}

#[test]
fn memory_past_the_bitmap_goes_to_the_file_where_no_sector_has_its_bit() {
    // Two words end at byte 16. V2 has 12 bytes for 100 sectors, of which the last four have none.
    const BITS_END: usize = 13;
    for version in [Version::V3, Version::V2] {
        for (on, defects) in on_and_off(Defect::MemoryPastTheBitmap) {
            let cow = image(version, 100, 4096);
            let bitmap = Geometry::of(&header(version, 100, 4096))
                .unwrap()
                .bitmap_offset;
            let mut device = open(&cow, 100, defects);
            assert_eq!(write(&mut device, 95, 1, 1), Status::Ok);
            let mut words = [0; 24];
            cow.read_exact_at(&mut words, bitmap).unwrap();
            let mut expected = [0; 24];
            expected[95 / 8] = 1 << (95 % 8);
            expected[BITS_END..16].fill(if on { FOREIGN_MEMORY } else { 0 });
            assert_eq!(words, expected, "{version:?}");
            // It stands for no sector, and the next reader of the file reads none of it.
            assert_eq!(device.dirty_count(), SectorCount(1));
            assert_eq!(
                read(&mut open(&cow, 100, defects), 94, 6),
                [194, 1, 196, 197, 198, 199]
            );
        }
    }
}

#[test]
fn failed_header_read_is_success_where_memory_holds_a_header() {
    for (on, defects) in on_and_off(Defect::FailedHeaderReadIsSuccess) {
        let (mut device, cow) = device(128, defects);
        write(&mut device, 9, 1, 1);
        device.close().unwrap();
        let opened_with = |remembered: Option<Vec<u8>>| {
            cow.fail_reads([Some(Fault::Error)]);
            let spec = OpenSpec {
                remembered,
                ..spec()
            };
            LinuxUbd::open(cow.clone(), backing(128), &spec, defects)
        };
        // Another file's data begins elsewhere.
        let other = header(Version::V3, 128, 512).encode();
        let no_header = vec![0; 4136];
        for (remembered, expected) in [
            (Some(cow.content()[..4136].to_vec()), Some([108, 1])),
            (Some(other), Some([108, 109])),
            (Some(no_header), None),
            (None, None),
        ] {
            let holds_one = remembered.is_some();
            match opened_with(remembered) {
                Ok(mut device) => {
                    assert!(on);
                    assert_eq!(Some(read(&mut device, 8, 2)), expected.map(Vec::from));
                }
                Err(LinuxOpenError::Header(_)) => assert!(on && holds_one && expected.is_none()),
                Err(refused) => {
                    assert!(!on || !holds_one);
                    let (doing, error) = ("reading the header", HostError::Io);
                    assert_eq!(refused, LinuxOpenError::Host { doing, error });
                }
            }
        }
    }
}

#[test]
fn shared_errno_takes_failures_for_no_errors_and_for_nothing_done() {
    for (on, defects) in on_and_off(Defect::SharedErrno) {
        let status = if on { Status::Ok } else { Status::IoError };
        let (cow, backing) = (image(Version::V3, 128, 4096), backing(128));
        let mut device = LinuxUbd::open(cow.clone(), backing.clone(), &spec(), defects).unwrap();
        let mut serve = |request| carry_out(&mut device, request);

        backing.fail_reads([Some(Fault::Error)]);
        let failed = serve(Request::read(Tag(0), Sector(3), SectorCount(2)));
        assert_eq!(failed.status, status);
        assert_eq!(firsts(&failed.request), [0, 0]);

        cow.fail_punches([Some(Fault::Error), Some(Fault::Error)]);
        let discard = Request::discard(Tag(0), Sector(8), SectorCount(8));
        assert_eq!(serve(discard).status, status);
        let zeros = Request::write_zeroes(Tag(0), Sector(16), SectorCount(8));
        assert_eq!(serve(zeros).status, status);

        let one = || Request::write(Tag(0), Sector(40), vec![1; 512]);
        assert_eq!(serve(one()).status, Status::Ok);
        cow.fail_syncs([Some(Fault::Error)]);
        assert_eq!(serve(Request::flush(Tag(0))).status, status);
        let after = cow.after_power_cut(|_| false);
        assert_eq!(read(&mut open(&after, 128, defects), 40, 1), [140]);

        // Nothing of it is written, which is an error of its own.
        cow.fail_writes([Some(Fault::Error)]);
        assert_eq!(serve(one()).status, Status::IoError);
    }
    for (on, defects) in on_and_off(Defect::SharedErrno) {
        let defects = defects.with(Defect::ZeroWriteIsSuccess);
        let (mut device, cow) = device(128, defects);
        cow.fail_writes([Some(Fault::Error)]);
        let status = if on { Status::Ok } else { Status::IoError };
        assert_eq!(write(&mut device, 9, 1, 1), status);
        assert_eq!(read(&mut device, 9, 1), [if on { 0 } else { 109 }]);
    }
}

#[test]
fn linux_2_6_takes_one_page_at_a_time_and_no_discards() {
    let spec = OpenSpec {
        kernel: Kernel::Linux2_6,
        ..spec()
    };
    let cow = image(Version::V3, 128, 4096);
    let mut device = LinuxUbd::open(cow.clone(), backing(128), &spec, Defects::LINUX_2_6).unwrap();
    cow.take_log();
    let page = || Request::read(Tag(0), Sector(0), SectorCount(8));
    device.submit(page()).unwrap();
    device.submit(page()).unwrap_err();
    completion(&mut device);
    assert_eq!(
        carry_out(
            &mut device,
            Request::read(Tag(0), Sector(0), SectorCount(9))
        )
        .status,
        Status::Invalid
    );
    let discard = Request::discard(Tag(0), Sector(0), SectorCount(8));
    assert_eq!(carry_out(&mut device, discard).status, Status::NotSupported);
    assert_eq!(flush(&mut device), Status::Ok);
    assert_eq!(cow.take_log(), [""; 0]);
}
