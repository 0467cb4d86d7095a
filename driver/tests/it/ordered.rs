//! The promises of the `ordered` driver, one after the other, on files in memory.

use std::path::Path;

use driver::blk::{Completion, Request, Status, Tag};
use driver::cow::{Extension, Header, Version};
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::host::{HostFile, HostNames};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, open};
use driver::ordered::{Desk, Headroom, Ordered, Procedure, Resize, Step};
use driver::resize::{ResizeError, ResizeStep};
use driver::units::{Bytes, FileOffset, Sector, SectorCount};

const SECTORS: u64 = 100;

/// A backing file in which every byte of sector n is n, and a COW file still to be made.
fn host() -> MemoryHost {
    let host = MemoryHost::new();
    let content: Vec<u8> = (0..SECTORS).flat_map(|n| [n as u8; 512]).collect();
    host.file(Path::new("/disk"), &content);
    host.set_modified(Path::new("/disk"), 1_000_000_000)
        .unwrap();
    host
}

fn spec(text: &str) -> DeviceSpec {
    text.parse().unwrap()
}

fn bring_up(host: &MemoryHost) -> Ordered<MemoryFile> {
    open(host, &spec("ubda=/cow,/disk"), OpenOptions::default())
        .unwrap()
        .device
}

fn carry_out(device: &mut Ordered<MemoryFile>, request: Request) -> Completion {
    device.serve(request).unwrap()
}

fn write(device: &mut Ordered<MemoryFile>, start: u64, content: u8, sectors: usize) -> Status {
    let data = vec![content; sectors * 512];
    carry_out(device, Request::write(Tag(0), Sector(start), data)).status
}

/// The first byte of each sector.
fn read(device: &mut Ordered<MemoryFile>, start: u64, sectors: u64) -> Vec<u8> {
    let request = Request::read(Tag(0), Sector(start), SectorCount(sectors));
    let completion = carry_out(device, request);
    assert_eq!(completion.status, Status::Ok);
    let data = &completion.request.segments[0].data;
    data.chunks(512).map(|sector| sector[0]).collect()
}

#[test]
fn a_read_across_clean_and_dirty_sectors_takes_each_from_its_file() {
    let host = host();
    let mut device = bring_up(&host);
    assert_eq!(read(&mut device, 0, 4), [0, 1, 2, 3]);
    assert_eq!(write(&mut device, 1, 200, 2), Status::Ok);
    assert_eq!(read(&mut device, 0, 4), [0, 200, 200, 3]);
    assert_eq!(device.map().dirty_count(), SectorCount(2));
    let untouched: Vec<u8> = (0..SECTORS).flat_map(|n| [n as u8; 512]).collect();
    assert_eq!(host.contents(Path::new("/disk")).unwrap(), untouched);
}

#[test]
fn a_request_may_have_several_segments() {
    let mut device = bring_up(&host());
    write(&mut device, 10, 201, 3);
    let mut request = Request::read(Tag(7), Sector(8), SectorCount(3));
    request
        .segments
        .extend(Request::read(Tag(0), Sector(0), SectorCount(4)).segments);
    let completion = carry_out(&mut device, request);
    assert_eq!(completion.request.tag, Tag(7));
    let firsts: Vec<u8> = completion
        .request
        .segments
        .iter()
        .flat_map(|segment| segment.data.chunks(512).map(|sector| sector[0]))
        .collect();
    assert_eq!(firsts, [8, 9, 201, 201, 201, 13, 14]);
}

#[test]
fn bits_stay_in_memory_until_a_flush_and_are_there_after_it() {
    let host = host();
    let mut device = bring_up(&host);
    write(&mut device, 5, 202, 1);
    let bitmap = device.image().unwrap().geometry.bitmap_offset;
    let on_disk = |host: &MemoryHost| host.contents(Path::new("/cow")).unwrap()[bitmap.0 as usize];
    assert_eq!(on_disk(&host), 0);
    assert_eq!(
        carry_out(&mut device, Request::flush(Tag(1))).status,
        Status::Ok
    );
    assert_eq!(on_disk(&host), 1 << 5);
    assert_eq!(device.statistics().syncs, 2);
    drop(device);
    assert_eq!(read(&mut bring_up(&host), 4, 3), [4, 202, 6]);
}

#[test]
fn a_flush_costs_two_syncs_with_new_bits_one_without_and_none_without_writes() {
    let mut device = bring_up(&host());
    let syncs = |device: &mut Ordered<MemoryFile>| {
        let before = device.statistics().syncs;
        assert_eq!(carry_out(device, Request::flush(Tag(0))).status, Status::Ok);
        device.statistics().syncs - before
    };
    assert_eq!(syncs(&mut device), 0);
    write(&mut device, 5, 1, 1);
    assert_eq!(syncs(&mut device), 2);
    write(&mut device, 5, 2, 1);
    assert_eq!(syncs(&mut device), 1);
    assert_eq!(syncs(&mut device), 0);
}

#[test]
fn scattered_first_writes_are_published_with_one_bitmap_write_a_page() {
    let host = MemoryHost::new();
    let disk = host.file(Path::new("/disk"), b"");
    disk.set_len(Bytes(1 << 30)).unwrap();
    let mut device = bring_up(&host);
    let pages = (1u64 << 30) / 512 / 32768;
    for n in 0..10_000u64 {
        let sector = n * 7919 % ((1 << 30) / 512);
        assert_eq!(write(&mut device, sector, 1, 1), Status::Ok);
    }
    carry_out(&mut device, Request::flush(Tag(0)));
    assert_eq!(device.statistics().syncs, 2);
    assert_eq!(device.statistics().bitmap_writes, pages);
}

#[test]
fn fua_publishes_what_was_written_before_it_too() {
    let host = host();
    let mut device = bring_up(&host);
    write(&mut device, 5, 203, 1);
    let fua = Request::write_fua(Tag(0), Sector(70), vec![204; 512]);
    assert_eq!(carry_out(&mut device, fua).status, Status::Ok);
    drop(device);
    let mut device = bring_up(&host);
    assert_eq!(read(&mut device, 5, 1), [203]);
    assert_eq!(read(&mut device, 70, 1), [204]);
}

#[test]
fn closing_publishes() {
    let host = host();
    let mut device = bring_up(&host);
    write(&mut device, 99, 205, 1);
    device.close().unwrap();
    assert_eq!(read(&mut bring_up(&host), 98, 2), [98, 205]);
}

#[test]
fn a_synchronous_device_publishes_every_write() {
    let host = host();
    let mut device = open(&host, &spec("ubdas=/cow,/disk"), OpenOptions::default())
        .unwrap()
        .device;
    write(&mut device, 9, 206, 1);
    drop(device);
    assert_eq!(read(&mut bring_up(&host), 9, 1), [206]);
}

#[test]
fn a_discard_zeroes_what_is_dirty_and_leaves_the_backing_files_content() {
    let mut device = bring_up(&host());
    write(&mut device, 10, 207, 2);
    let discard = Request::discard(Tag(0), Sector(8), SectorCount(4));
    assert_eq!(carry_out(&mut device, discard).status, Status::Ok);
    assert_eq!(read(&mut device, 8, 4), [8, 9, 0, 0]);
}

#[test]
fn write_zeroes_zeroes_clean_sectors_too() {
    let mut device = bring_up(&host());
    write(&mut device, 10, 208, 2);
    let zeroes = Request::write_zeroes(Tag(0), Sector(9), SectorCount(2));
    assert_eq!(carry_out(&mut device, zeroes).status, Status::Ok);
    assert_eq!(read(&mut device, 8, 4), [8, 0, 0, 208]);
}

#[test]
fn what_the_device_cannot_have_gets_its_status_and_does_nothing() {
    let host = host();
    let mut device = bring_up(&host);
    assert_eq!(write(&mut device, SECTORS - 1, 1, 2), Status::IoError);
    assert_eq!(write(&mut device, u64::MAX, 1, 1), Status::IoError);
    let mut odd = Request::write(Tag(0), Sector(0), vec![1; 512]);
    odd.segments[0].data.push(0);
    assert_eq!(carry_out(&mut device, odd).status, Status::Invalid);
    let nothing = Request::read(Tag(0), Sector(0), SectorCount(0));
    assert_eq!(carry_out(&mut device, nothing).status, Status::Invalid);
    let endless = Request::discard(Tag(0), Sector(0), SectorCount(u64::MAX));
    assert_eq!(carry_out(&mut device, endless).status, Status::Invalid);
    assert_eq!(device.map().dirty_count(), SectorCount(0));
    drop(device);

    let read_only = &spec("ubdar=/cow,/disk");
    let mut device = open(&host, read_only, OpenOptions::default())
        .unwrap()
        .device;
    assert_eq!(write(&mut device, 0, 1, 1), Status::IoError);
    assert_eq!(read(&mut device, 3, 1), [3]);
}

#[test]
fn a_full_queue_gives_the_request_back() {
    let mut device = bring_up(&host());
    for n in 0..device.limits().queue_depth {
        device.submit(Request::flush(Tag(n as u64))).unwrap();
    }
    let back = device.submit(Request::flush(Tag(1000))).unwrap_err();
    assert_eq!(back.tag, Tag(1000));
    assert!(matches!(device.step(), Step::Completed(_)));
    device.submit(back).unwrap();
}

#[test]
fn a_raw_disk_is_written_in_place() {
    let host = host();
    let mut device = open(&host, &spec("ubdad=/disk"), OpenOptions::default())
        .unwrap()
        .device;
    assert_eq!(device.capacity(), SectorCount(SECTORS));
    write(&mut device, 2, 209, 1);
    carry_out(&mut device, Request::flush(Tag(0)));
    assert_eq!(device.statistics().syncs, 1);
    assert_eq!(read(&mut device, 1, 3), [1, 209, 3]);
    device.close().unwrap();
    assert_eq!(host.contents(Path::new("/disk")).unwrap()[2 * 512], 209);
}

/// The last sectors of an odd V1 device have no bit: readable, and never writable.
#[test]
fn sectors_without_a_bit_in_v1_are_read_from_the_backing_file_and_not_written() {
    let host = host();
    let header = Header {
        version: Version::V1,
        byte_order: driver::cow::ByteOrder::Little,
        backing_path: b"/disk".to_vec(),
        backing_mtime: 1_000_000_000,
        size: Bytes(SECTORS * 512),
        relocating: false,
        alignment: 512,
    };
    let mut image = header.encode();
    image.resize(512, 0);
    host.file(Path::new("/cow"), &image);
    let mut device = bring_up(&host);
    assert_eq!(write(&mut device, 95, 210, 1), Status::Ok);
    assert_eq!(write(&mut device, 96, 210, 1), Status::IoError);
    assert_eq!(read(&mut device, 94, 6), [94, 210, 96, 97, 98, 99]);
    device.close().unwrap();
    assert_eq!(read(&mut bring_up(&host), 94, 3), [94, 210, 96]);
}

fn grow(device: &mut Ordered<MemoryFile>, size: u64) -> Result<(), ResizeError> {
    let headroom = Headroom::new(device, Bytes(size))?;
    device.resize(Box::new(headroom)).map(drop)
}

#[test]
fn growing_in_the_headroom_keeps_the_old_content_and_zeroes_the_new() {
    let host = host();
    let mut device = bring_up(&host);
    write(&mut device, 99, 211, 1);
    grow(&mut device, 150 * 512).unwrap();
    assert_eq!(device.capacity(), SectorCount(150));
    assert_eq!(read(&mut device, 97, 6), [97, 98, 211, 0, 0, 0]);
    write(&mut device, 149, 212, 1);
    device.close().unwrap();
    let mut device = bring_up(&host);
    assert_eq!(device.capacity(), SectorCount(150));
    assert_eq!(read(&mut device, 147, 3), [0, 0, 212]);
    let extension = device.image().unwrap().extension;
    let backing_size = Bytes(SECTORS * 512);
    assert_eq!(extension, Some(Extension::new(backing_size)));
}

#[test]
fn a_flush_in_the_middle_of_a_grow_does_not_clear_the_new_bits() {
    let host = host();
    let mut device = bring_up(&host);
    let headroom = Headroom::new(&device, Bytes(110 * 512)).unwrap();
    device.begin_resize(Box::new(headroom));
    let mut n = 0;
    loop {
        // Sector 96 shares its byte, and its word, with the first new sectors.
        write(&mut device, 96 + n % 4, 213, 1);
        carry_out(&mut device, Request::flush(Tag(0)));
        n += 1;
        if device.step_resize() != ResizeStep::Working {
            break;
        }
    }
    assert!(n >= 4);
    device.close().unwrap();
    let mut device = bring_up(&host);
    assert_eq!(read(&mut device, 95, 7), [95, 213, 213, 213, 213, 0, 0]);
    assert_eq!(device.map().dirty_count(), SectorCount(14));
}

#[test]
fn a_resize_given_up_at_any_step_leaves_the_file_as_it_was() {
    for sectors in [150, 50] {
        let written = || {
            let host = host();
            let mut device = bring_up(&host);
            write(&mut device, 40, 211, 3);
            // A shrink takes this, with its bit.
            write(&mut device, 60, 211, 3);
            carry_out(&mut device, Request::flush(Tag(0)));
            (host, device)
        };
        let (complete, mut device) = written();
        grow(&mut device, sectors * 512).unwrap();
        for steps in 0.. {
            let (host, mut device) = written();
            let before = host.contents(Path::new("/cow")).unwrap();
            let resize = Headroom::new(&device, Bytes(sectors * 512)).unwrap();
            device.begin_resize(Box::new(resize));
            if (0..steps).any(|_| device.step_resize() != ResizeStep::Working) {
                assert!(steps > 2, "there are steps to give it up at");
                break;
            }
            match device.give_up_resize() {
                Some(Err(ResizeError::Abandoned)) => {
                    assert_eq!(device.capacity(), SectorCount(SECTORS));
                    assert_eq!(device.map().sectors(), SectorCount(SECTORS));
                    let after = host.contents(Path::new("/cow")).unwrap();
                    assert!(after == before, "given up after {steps} steps");
                }
                // What is committed is not undone, and tidied up.
                Some(Ok(_)) => {
                    assert_eq!(device.capacity(), SectorCount(sectors));
                    let contents = [&host, &complete].map(|host| host.contents(Path::new("/cow")));
                    assert!(contents[0] == contents[1], "given up after {steps} steps");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(read(&mut device, 39, 5), [39, 211, 211, 211, 43]);
            device.close().unwrap();
        }
    }
}

/// Giving up a resize that has failed, and is putting things back, does not keep it from that.
#[test]
fn a_resize_given_up_while_it_puts_things_back_goes_through_with_it() {
    struct Fails;
    impl Resize<MemoryFile> for Fails {
        fn begin(self: Box<Self>, desk: Desk<MemoryFile>) -> Procedure {
            Box::pin(async move {
                desk.decided().await;
                desk.turn().await?;
                let capacity = SectorCount(SECTORS);
                desk.look(move |here| here.map_mut().shrink(capacity))
                    .await?;
                Err(ResizeError::SyncFailed)
            })
        }
    }
    let mut device = bring_up(&host());
    device.begin_resize(Box::new(Fails));
    assert_eq!(device.step_resize(), ResizeStep::Working);
    assert_eq!(device.give_up_resize(), Some(Err(ResizeError::SyncFailed)));
}

#[test]
fn a_device_that_is_closed_gives_up_its_resize() {
    let host = host();
    let mut device = bring_up(&host);
    let grow = Headroom::new(&device, Bytes(150 * 512)).unwrap();
    device.begin_resize(Box::new(grow));
    assert_eq!(device.step_resize(), ResizeStep::Working);
    device.close().unwrap();
    assert_eq!(bring_up(&host).capacity(), SectorCount(SECTORS));
}

#[test]
fn shrinking_and_growing_again_shows_nothing_of_what_was_there() {
    let host = host();
    let mut device = bring_up(&host);
    write(&mut device, 60, 214, 40);
    grow(&mut device, 50 * 512).unwrap();
    assert_eq!(write(&mut device, 50, 1, 1), Status::IoError);
    grow(&mut device, 100 * 512).unwrap();
    assert_eq!(read(&mut device, 49, 51), [vec![49], vec![0; 50]].concat());
    device.close().unwrap();
    assert_eq!(read(&mut bring_up(&host), 49, 51)[1..], [0; 50]);
}

#[test]
fn a_grow_past_the_headroom_is_refused_with_the_limit() {
    let mut device = bring_up(&host());
    let error = grow(&mut device, (4 << 30) + 512).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("grows without moving data up to 4 GiB"),
        "{text}"
    );
    assert_eq!(device.capacity(), SectorCount(SECTORS));
}

#[test]
fn a_file_opened_as_a_disk_is_locked_until_it_is_closed() {
    let host = host();
    let device = bring_up(&host);
    let again = open(&host, &spec("ubda=/cow"), OpenOptions::default());
    let error = again.unwrap_err().to_string();
    assert!(error.contains("/cow: locked"), "{error}");
    device.close().unwrap();
    open(&host, &spec("ubda=/cow"), OpenOptions::default()).unwrap();
    let cow = host
        .open(Path::new("/cow"), driver::host::Access::ReadOnly)
        .unwrap();
    assert_eq!(cow.len().unwrap().0 % 512, 0);
    let mut magic = [0; 4];
    cow.read_exact_at(&mut magic, FileOffset(0)).unwrap();
    assert_eq!(&magic, b"OOOM");
}
