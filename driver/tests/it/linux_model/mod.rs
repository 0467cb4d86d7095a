//! The models of Linux's driver: each defect shows with its switch on and not with it off,
//! and without defects the model keeps what it promises.

mod as_values;
mod defects;
mod disk;
mod promises;

use std::path::{Path, PathBuf};

use driver::blk::{Completion, Request, Status, Tag};
use driver::cow::{ByteOrder, Geometry, Header, Version};
use driver::driver::Driver;
use driver::host::HostFile;
use driver::linux::{Defect, Defects, LinuxUbd, OpenSpec};
use driver::units::{Bytes, Sector, SectorCount};

use disk::Disk;

const MTIME: u32 = 1_000_000_000;

/// A backing file in which every byte of sector n is 100 + n % 100.
fn backing(sectors: u64) -> Disk {
    let content = (0..sectors).flat_map(|n| [(100 + n % 100) as u8; 512]);
    Disk::new(content.collect())
}

fn header(version: Version, sectors: u64, alignment: u32) -> Header {
    let path = Path::new("/disk");
    let v3 = Header::v3(path, MTIME, Bytes(sectors * 512), alignment).unwrap();
    Header {
        version,
        byte_order: match version {
            Version::V1 => ByteOrder::Little,
            _ => ByteOrder::Big,
        },
        ..v3
    }
}

/// A whole COW file with every sector clean.
fn image(version: Version, sectors: u64, alignment: u32) -> Disk {
    let header = header(version, sectors, alignment);
    let geometry = Geometry::of(&header).unwrap();
    let mut content = header.encode();
    content.resize(geometry.data_end().0 as usize, 0);
    Disk::new(content)
}

fn spec() -> OpenSpec {
    OpenSpec {
        named_backing: Some(PathBuf::from("/disk")),
        backing_mtime: i64::from(MTIME),
        ..OpenSpec::default()
    }
}

/// A device of a V3 image as kernels make them, and its COW file.
fn device(sectors: u64, defects: Defects) -> (LinuxUbd<Disk>, Disk) {
    let cow = image(Version::V3, sectors, 4096);
    (open(&cow, sectors, defects), cow)
}

fn open(cow: &Disk, sectors: u64, defects: Defects) -> LinuxUbd<Disk> {
    LinuxUbd::open(cow.clone(), backing(sectors), &spec(), defects).unwrap()
}

/// With only this defect, and with none.
fn on_and_off(defect: Defect) -> [(bool, Defects); 2] {
    [(true, Defects::only(defect)), (false, Defects::none())]
}

/// The completion of a request that was submitted.
fn completion<F: HostFile>(device: &mut LinuxUbd<F>) -> Completion {
    device.step_to_completion().unwrap()
}

fn carry_out<F: HostFile>(device: &mut LinuxUbd<F>, request: Request) -> Completion {
    device.serve(request).unwrap()
}

fn write<F: HostFile>(device: &mut LinuxUbd<F>, start: u64, content: u8, sectors: usize) -> Status {
    let data = vec![content; sectors * 512];
    carry_out(device, Request::write(Tag(0), Sector(start), data)).status
}

fn flush<F: HostFile>(device: &mut LinuxUbd<F>) -> Status {
    carry_out(device, Request::flush(Tag(0))).status
}

/// The first byte of each sector.
fn read<F: HostFile>(device: &mut LinuxUbd<F>, start: u64, sectors: u64) -> Vec<u8> {
    let request = Request::read(Tag(0), Sector(start), SectorCount(sectors));
    let completion = carry_out(device, request);
    assert_eq!(completion.status, Status::Ok);
    firsts(&completion.request)
}

fn firsts(request: &Request) -> Vec<u8> {
    let data = request.segments.iter().flat_map(|s| s.data.chunks(512));
    data.map(|sector| sector[0]).collect()
}
