//! What a shrink would lose, counted; and what it costs to find out.

use std::path::Path;

use driver::blk::{Request, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::host::HostFile;
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, create, open};
use driver::ordered::{Ordered, Step};
use driver::resize::ResizeStep;
use driver::units::{Bytes, FileOffset, Sector, SectorCount};
use userhelper::losses::{COUNTED, COUNTED_LIVE, Effort, Loss, losses};
use userhelper::planner::{Shrink, Wish};
use userhelper::resize::WishedResize;

const MIB: u64 = 1 << 20;

/// A device of this size over a backing file that `fill` writes.
fn device(size: u64, fill: impl FnOnce(&MemoryFile)) -> Ordered<MemoryFile> {
    let host = MemoryHost::new();
    let backing = host.file("disk", b"");
    backing.set_len(Bytes(size)).unwrap();
    fill(&backing);
    drop(create(&host, Path::new("cow"), Path::new("disk"), None).unwrap());
    let spec = "ubda=cow,disk".parse().unwrap();
    open(&host, &spec, OpenOptions::default()).unwrap().device
}

fn put(file: &MemoryFile, at: u64, len: u64, byte: u8) {
    let data = vec![byte; len as usize];
    file.write_all_at(&data, FileOffset(at)).unwrap();
}

fn serve(device: &mut Ordered<MemoryFile>, request: Request) {
    device.serve(request).unwrap();
}

fn found(device: &Ordered<MemoryFile>, new_size: u64, effort: Effort) -> Option<Loss> {
    let old = device.geometry().unwrap().size;
    losses(device, old, Bytes(new_size), effort).unwrap()
}

fn loss(first: u64, in_cow: u64, in_backing: u64) -> Loss {
    Loss {
        first: Sector(first),
        in_cow: Bytes(in_cow),
        in_backing: Some(Bytes(in_backing)),
        exact: true,
    }
}

#[test]
fn both_files_count_past_the_end_and_only_there() {
    let mut device = device(4 * MIB, |disk| {
        put(disk, 0, MIB, 1);
        put(disk, 2 * MIB + 512, 1024, 1);
        // A byte of a sector is a sector.
        put(disk, 3 * MIB + 100, 1, 1);
    });
    assert_eq!(
        found(&device, MIB, Effort::Thorough),
        Some(loss(4097, 0, 1536))
    );
    // Written, one of them is in the COW file instead.
    serve(
        &mut device,
        Request::write(Tag(0), Sector(4097), vec![2; 512]),
    );
    let both = Some(loss(4097, 512, 1024));
    assert_eq!(found(&device, MIB, Effort::Thorough), both);
    assert_eq!(found(&device, MIB, Effort::WhileRequestsWait), both);
    // Zeros over data are no loss, in whatever way they are kept.
    serve(
        &mut device,
        Request::write(Tag(0), Sector(4097), vec![0; 512]),
    );
    assert_eq!(
        found(&device, MIB, Effort::Thorough),
        Some(loss(4098, 0, 1024))
    );
    serve(
        &mut device,
        Request::write_zeroes(Tag(0), Sector(4098), SectorCount(1)),
    );
    assert_eq!(
        found(&device, MIB, Effort::Thorough),
        Some(loss(6144, 0, 512))
    );
    assert_eq!(found(&device, 3 * MIB + 512, Effort::Thorough), None);
}

#[test]
fn a_partial_last_sector_counts_with_its_bytes() {
    let device = device(MIB + 100, |disk| put(disk, MIB, 100, 1));
    assert_eq!(
        found(&device, MIB, Effort::Thorough),
        Some(loss(2048, 0, 100))
    );
    let text = found(&device, MIB, Effort::Thorough).unwrap().to_string();
    assert_eq!(
        text,
        "100 bytes of data lie past the new end, the first at sector 2048 (0 of them in the COW \
         file, 100 in the backing file)"
    );
}

#[test]
fn a_raw_disk_has_one_file() {
    let host = MemoryHost::new();
    host.file("disk", &[1; 4096 + 100]);
    let spec: DeviceSpec = "ubdad=disk".parse().unwrap();
    let device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    let found = losses(&device, Bytes(4196), Bytes(2048), Effort::Thorough).unwrap();
    assert_eq!(
        found.unwrap().to_string(),
        "2148 bytes (2.10 KiB) of data lie past the new end, the first at sector 4"
    );
}

/// A terabyte is a matter of its extents: holes are not read.
#[test]
fn a_large_hole_costs_nothing() {
    let size = 1 << 40;
    let device = device(size, |disk| {
        put(disk, size / 2, 4096, 1);
        put(disk, size - 4096, 4096, 1);
    });
    let expected = Some(loss(size / 1024, 0, 8192));
    assert_eq!(found(&device, MIB, Effort::Thorough), expected);
    assert_eq!(
        found(&device, size / 2 + 4096, Effort::Thorough),
        Some(loss((size - 4096) / 512, 0, 4096))
    );
    assert_eq!(
        found(&device, size - 512, Effort::Thorough),
        Some(loss((size - 512) / 512, 0, 512))
    );
}

/// Once something is found, what is not read any more counts: zeros may be among it.
#[test]
fn only_so_much_is_read_to_count() {
    let (data, zeros) = (COUNTED.0 + 2 * MIB, 8 * MIB);
    let device = device(MIB + data + zeros, |disk| {
        put(disk, MIB, data, 1);
        put(disk, MIB + data, zeros, 0);
    });
    let found = found(&device, MIB, Effort::Thorough).unwrap();
    assert_eq!((found.first, found.exact), (Sector(2048), false));
    assert!(found.total() >= Bytes(data) && found.total() <= Bytes(data + zeros));
    assert!(found.to_string().starts_with("at most "), "{found}");
}

/// With requests waiting less is read, and what is not read counts as lost.
#[test]
fn zeros_are_read_through_unless_requests_wait() {
    let zeros = COUNTED_LIVE.0 + 4 * MIB;
    let device = device(MIB + zeros, |disk| put(disk, MIB, zeros, 0));
    assert_eq!(found(&device, MIB, Effort::Thorough), None);
    let live = found(&device, MIB, Effort::WhileRequestsWait).unwrap();
    assert_eq!((live.total(), live.exact), (Bytes(4 * MIB), false));
    assert_eq!(live.first, Sector((MIB + COUNTED_LIVE.0) / 512));
    let less = device.geometry().unwrap().size.0 - COUNTED_LIVE.0;
    assert_eq!(found(&device, less, Effort::WhileRequestsWait), None);
}

/// A write that comes after the device was found to have nothing past its new end: it waits, and
/// fails as any write past the end does. Nothing is acknowledged that a moment later is gone.
#[test]
fn a_shrink_while_requests_are_served_lets_no_data_past_its_new_end() {
    for (write_at, status) in [
        (2100, Status::IoError),
        (2040, Status::IoError),
        (100, Status::Ok),
    ] {
        let host = MemoryHost::new();
        host.file("disk", b"").set_len(Bytes(4 * MIB)).unwrap();
        drop(create(&host, Path::new("cow"), Path::new("disk"), None).unwrap());
        let spec = "ubda=cow,disk".parse().unwrap();
        let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
        let wish = Wish {
            new_size: Bytes(MIB),
            strategy: None,
            shrink: Shrink::KeepingData,
            online: true,
        };
        let resize = WishedResize::new(host, Path::new("cow"), wish);
        device.begin_resize(Box::new(resize));
        assert_eq!(device.step_resize(), ResizeStep::Working);
        let request = Request::write(Tag(0), Sector(write_at), vec![3; 16 * 512]);
        device.submit(request).unwrap();
        let mut completed = None;
        loop {
            if let Step::Completed(completion) = device.step() {
                completed = Some(completion.status);
            }
            if let ResizeStep::Ended(outcome) = device.step_resize() {
                outcome.unwrap();
                break;
            }
        }
        if let Step::Completed(completion) = device.step() {
            completed = Some(completion.status);
        }
        assert_eq!(completed, Some(status), "at sector {write_at}");
        assert!(matches!(device.step(), Step::Idle));
        assert_eq!(device.capacity(), SectorCount(2048));
    }
}
