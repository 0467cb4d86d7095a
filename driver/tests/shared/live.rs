//! A device on a COW file of whatever bytes. Shared by the property tests here, the inputs that
//! are crafted by the million (`harness/tests/it/crafted`) and the fuzz targets in `fuzz/`.

use driver::blk::{Request, Tag};
use driver::driver::Driver;
use driver::host::{Access, HostFile, HostNames};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, Opened, Trust, open};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, Sector, SectorCount};

/// The size of the backing file.
pub(crate) const SIZE: u64 = 64 * 512;

/// At most this many bytes of a file are compared: a longer one may be a hole of any length.
const LOOKED_AT: usize = 1 << 18;

/// A host with a COW file that begins with these bytes and is `len` long, and its backing file.
pub(crate) fn host_with(cow: &[u8], len: Bytes) -> MemoryHost {
    let host = MemoryHost::new();
    host.file("/disk", &[7; SIZE as usize]);
    let file = host.file("/cow", cow);
    file.set_len(len).expect("memory takes any length");
    host
}

/// Brings up the device of that COW file. One that is refused is left as it was.
pub(crate) fn bring_up(host: &MemoryHost, trust: Trust) -> Option<Opened<MemoryFile>> {
    let options = OpenOptions {
        trust,
        ..OpenOptions::default()
    };
    let before = start_of_cow(host);
    let spec = "ubda=/cow".parse().expect("a specification");
    let Ok(opened) = open(host, &spec, options) else {
        assert!(start_of_cow(host) == before, "a refused file is changed");
        return None;
    };
    let device = &opened.device;
    let len = device.cow().len().expect("memory does not fail");
    assert!(
        device.capacity().0 / 8 <= len.0,
        "the file holds its bitmap"
    );
    // A table entry for 4 KiB of bitmap, a page in memory for one in the file.
    let memory = device.map().memory_bytes();
    assert!(
        memory.0 <= len.0.saturating_mul(4).saturating_add(65536),
        "{memory} for a file of {len}"
    );
    Some(opened)
}

/// Reads, writes and closes it. Whatever the statuses, everything is answered.
pub(crate) fn live_with(mut device: Ordered<MemoryFile>) {
    let last = Sector(device.capacity().0 - 1);
    for request in [
        Request::read(Tag(0), Sector(0), SectorCount(1)),
        Request::write(Tag(1), Sector(0), vec![1; 512]),
        Request::read(Tag(2), last, SectorCount(1)),
        Request::write(Tag(3), last, vec![2; 512]),
        Request::flush(Tag(4)),
    ] {
        let tag = request.tag;
        let served = device.serve(request);
        let completion = served.unwrap_or_else(|error| panic!("request {tag:?}: {error}"));
        assert_eq!(completion.request.tag, tag);
    }
    device.close().expect("memory does not fail");
}

fn start_of_cow(host: &MemoryHost) -> (u64, Vec<u8>) {
    let file = host.open("/cow".as_ref(), Access::ReadOnly);
    let file = file.expect("it was put there");
    let len = file.len().expect("memory does not fail").0;
    let mut start = vec![0; len.min(LOOKED_AT as u64) as usize];
    file.read_exact_at(&mut start, FileOffset(0))
        .expect("memory does not fail");
    (len, start)
}
