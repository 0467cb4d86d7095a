//! Opening a device: every bad input has one clear error, and leaves every file as it was.

mod backing;
mod bad_headers;
mod changing;
mod creation;
mod half_changed;
mod interrupted;
mod old_layouts;
mod races;

use driver::blk::{Completion, Request, Status, Tag};
use driver::driver::Driver;
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenError, OpenOptions, Opened, open};
use driver::ordered::Ordered;
use driver::units::{Sector, SectorCount};

const SECTORS: u64 = 64;
const MTIME: i64 = 1_060_000_000;

/// A host with a backing file `/disk` in which every byte of sector n is n.
fn host() -> MemoryHost {
    let host = MemoryHost::new();
    let content: Vec<u8> = (0..SECTORS).flat_map(|n| [n as u8; 512]).collect();
    host.file("/disk", &content);
    host.set_modified("/disk", MTIME).unwrap();
    host
}

/// The host of [`host`] with this COW file, `/cow`.
fn host_with(cow: &[u8]) -> MemoryHost {
    let host = host();
    host.file("/cow", cow);
    host
}

/// Makes a golden file, which ends with its bitmap, into a whole COW file over `/disk`. The
/// sectors that its bitmap says are dirty (1, 8 and 63) are full of 128 and their number.
fn whole(golden: &[u8], path_at: usize, path_len: usize, data_offset: usize) -> Vec<u8> {
    let mut bytes = golden.to_vec();
    bytes[path_at..path_at + path_len].fill(0);
    bytes[path_at..path_at + 5].copy_from_slice(b"/disk");
    bytes.resize(data_offset + SECTORS as usize * 512, 0);
    for sector in [1, 8, 63] {
        let at = data_offset + sector * 512;
        bytes[at..at + 512].fill(128 + sector as u8);
    }
    bytes
}

/// A whole V3 file.
fn v3() -> Vec<u8> {
    whole(include_bytes!("../../golden/v3.bin"), 32, 4096, 12288)
}

/// `bytes` with others at `at`.
fn patched(mut bytes: Vec<u8>, at: usize, new: &[u8]) -> Vec<u8> {
    bytes[at..at + new.len()].copy_from_slice(new);
    bytes
}

fn try_open(
    host: &MemoryHost,
    spec: &str,
    options: OpenOptions,
) -> Result<Opened<MemoryFile>, OpenError> {
    open(host, &spec.parse().unwrap(), options)
}

fn bring_up(host: &MemoryHost, spec: &str) -> Ordered<MemoryFile> {
    let opened = try_open(host, spec, OpenOptions::default()).unwrap();
    assert_eq!(opened.interrupted, None);
    opened.device
}

/// The message with which opening fails; every file is then what it was.
fn refused_with(host: &MemoryHost, spec: &str, options: OpenOptions) -> String {
    let before = files(host);
    let error = try_open(host, spec, options).map(drop).unwrap_err();
    assert!(files(host) == before, "a file has changed: {error}");
    error.to_string()
}

fn refused(host: &MemoryHost, spec: &str) -> String {
    refused_with(host, spec, OpenOptions::default())
}

/// All names, and the content of every file that the tests make.
fn files(host: &MemoryHost) -> (String, Vec<Option<Vec<u8>>>) {
    let known = ["/cow", "/disk", "/other", "/.cow.ubdlab-new", "images/disk"];
    (
        format!("{host:?}"),
        known.iter().map(|name| host.contents(name)).collect(),
    )
}

fn carry_out(device: &mut Ordered<MemoryFile>, request: Request) -> Completion {
    device.serve(request).unwrap()
}

fn write(device: &mut Ordered<MemoryFile>, sector: u64, content: u8) -> Status {
    let data = vec![content; 512];
    carry_out(device, Request::write(Tag(0), Sector(sector), data)).status
}

/// The first byte of each of these sectors, after a look that the others are the same.
fn read(device: &mut Ordered<MemoryFile>, start: u64, sectors: u64) -> Vec<u8> {
    let request = Request::read(Tag(0), Sector(start), SectorCount(sectors));
    let completion = carry_out(device, request);
    assert_eq!(completion.status, Status::Ok);
    let data = &completion.request.segments[0].data;
    let first = |sector: &[u8]| {
        assert!(sector.iter().all(|&byte| byte == sector[0]));
        sector[0]
    };
    data.chunks(512).map(first).collect()
}
