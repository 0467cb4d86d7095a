//! Headers that are half changed to another backing file: recognised, and finished where a switch
//! is asked for.

use driver::cow::{HeaderChange, HeaderPiece, PagesAtOnce};
use driver::open::{OpenOptions, Trust};
use driver::units::FileOffset;
use std::path::Path;

use super::{MTIME, bring_up, host_with, read, refused, refused_with, try_open, whole, write};

const SWITCH: OpenOptions = OpenOptions {
    switch_backing: true,
    create: false,
    trust: Trust::Follow,
    without_backing: false,
    writable_backing: false,
    instead: None,
    pages_at_once: PagesAtOnce::USUAL,
    backing_is_raw: false,
};

/// The file that others made, and what a switch to `/other` writes into it.
fn v2() -> (Vec<u8>, HeaderChange) {
    let v2 = whole(include_bytes!("../../golden/v2.bin"), 8, 4096, 4608);
    let change = HeaderChange::new(&v2, Path::new("/other"), MTIME as u32 + 1).unwrap();
    (v2, change)
}

fn put(bytes: &mut [u8], piece: &HeaderPiece) {
    let at = (piece.at - FileOffset(0)).0 as usize;
    bytes[at..at + piece.bytes.len()].copy_from_slice(&piece.bytes);
}

/// With the record, and one of the two sectors that change.
fn half(sector: usize) -> Vec<u8> {
    let (mut bytes, change) = v2();
    assert_eq!((change.record.len(), change.header.len()), (1, 2));
    put(&mut bytes, &change.record[0]);
    put(&mut bytes, &change.header[sector]);
    bytes
}

fn host(cow: &[u8]) -> driver::memory::MemoryHost {
    let host = host_with(cow);
    host.file("/other", &host.contents("/disk").unwrap());
    host.set_modified("/other", MTIME + 1).unwrap();
    host
}

#[test]
fn it_is_refused_and_says_what_to_do() {
    for sector in [0, 1] {
        let host = host(&half(sector));
        for spec in [
            "ubda=/cow",
            "ubdar=/cow",
            "ubda=/cow,/disk",
            "ubda=/cow,/other",
        ] {
            assert_eq!(
                refused(&host, spec),
                "/cow: byte 4049: the header is half changed to another backing file: \
                 ubdlab image recover /cow finishes that"
            );
        }
        // Nothing is written to a device that is read-only.
        assert!(refused_with(&host, "ubdar=/cow", SWITCH).contains("half changed"));
    }
}

#[test]
fn a_switch_finishes_it() {
    let (before, change) = v2();
    let mut expected = before.clone();
    for piece in &change.header {
        put(&mut expected, piece);
    }
    for sector in [0, 1] {
        for spec in ["ubda=/cow", "ubda=/cow,/other"] {
            let host = host(&half(sector));
            let opened = try_open(&host, spec, SWITCH).unwrap();
            assert!(opened.finished_switch);
            drop(opened);
            assert!(host.contents("/cow").unwrap() == expected);
            let mut device = bring_up(&host, "ubda=/cow");
            assert_eq!(read(&mut device, 0, 3), [0, 129, 2]);
            assert_eq!(write(&mut device, 0, 200), driver::blk::Status::Ok);
        }
        // And back again, to the file that it was being switched from.
        let host = host(&half(sector));
        drop(try_open(&host, "ubda=/cow,/disk", SWITCH).unwrap());
        assert!(host.contents("/cow").unwrap() == before);
    }
}

/// The header's own bytes tell, and not what a guest can write.
#[test]
fn a_whole_header_is_not_misled_by_a_record() {
    let (mut bytes, change) = v2();
    put(&mut bytes, &change.record[0]);
    bring_up(&host(&bytes), "ubda=/cow");
    for piece in &change.header {
        put(&mut bytes, piece);
    }
    bring_up(&host(&bytes), "ubda=/cow");
}
