//! Extension blocks that say that the backing file is being changed: by what it is known then.

use std::path::Path;

use driver::cow::{BackingChange, Extension, InPlace, OtherBacking, Sample, SampledRange};
use driver::host::HostNames;
use driver::memory::MemoryHost;
use driver::open::OpenOptions;
use driver::since_1970;
use driver::units::{Bytes, Sector, SectorCount, SectorRange};

use super::{MTIME, bring_up, host_with, patched, read, refused, refused_with, try_open, v3};

/// Sector `n` of the backing file is full of `n`, and of `n` + 100 when it is merged.
fn place(start: u64, count: u64, after: u64) -> SampledRange {
    let content = |add: u64| -> Vec<u8> {
        let sectors = start..start + count;
        sectors.flat_map(|n| [(n + add) as u8; 512]).collect()
    };
    SampledRange {
        range: SectorRange::new(Sector(start), SectorCount(count)),
        before: SampledRange::digest(&content(0)),
        after: SampledRange::digest(&content(after)),
    }
}

fn in_place() -> Option<InPlace> {
    let mut sample = Sample::new();
    sample.push(place(4, 3, 0));
    sample.push(place(8, 1, 100));
    Some(InPlace {
        len: Bytes(40960),
        latest: MTIME + 5,
        sample,
    })
}

fn other() -> Option<OtherBacking> {
    Some(OtherBacking {
        len: Bytes(36864),
        mtime: 77,
    })
}

/// A host with a COW file that was marked so, over a backing file of 32768 bytes.
fn marked(in_place: Option<InPlace>, other: Option<OtherBacking>) -> MemoryHost {
    let extension = Extension {
        backing_size: Bytes(32768),
        change: Some(BackingChange { in_place, other }),
    };
    host_with(&patched(v3(), 4128, &extension.encode()))
}

/// Makes the backing file `len` bytes long, with `bytes` at `at`.
fn with(host: &MemoryHost, len: usize, at: usize, bytes: &[u8], mtime: i64) {
    let mut content: Vec<u8> = (0..64).flat_map(|n| [n as u8; 512]).collect();
    content.resize(len, 0);
    content[at..at + bytes.len()].copy_from_slice(bytes);
    host.file("/disk", &content);
    host.set_modified("/disk", mtime).unwrap();
}

const WAY_OUT: &str = ", so it is not the backing file that an interrupted change of the COW file \
                       /cow was about. Put that one there; if this is the right one all the same: \
                       ubdlab image rebase --unsafe";

#[test]
fn a_file_that_is_being_changed_has_one_of_two_lengths_and_known_contents_and_any_time() {
    let host = marked(in_place(), None);
    for mtime in [0, MTIME, MTIME + 1, MTIME + 1000] {
        for len in [32768, 40960] {
            for eighth in [8, 108] {
                with(&host, len, 8 * 512, &[eighth; 512], mtime);
                let mut device = bring_up(&host, "ubda=/cow");
                assert_eq!(read(&mut device, 3, 3), [3, 4, 5]);
            }
        }
    }
    for len in [0, 32767, 32769, 36864, 40959, 40961] {
        with(&host, len.max(4608), 8 * 512, &[8; 512], MTIME);
        let content = host.contents("/disk").unwrap();
        host.file("/disk", &content[..len]);
        host.set_modified("/disk", MTIME).unwrap();
        assert_eq!(
            refused(&host, "ubda=/cow"),
            format!(
                "/disk: found {len} bytes, expected 32768 as before the change or 40960 as after \
                 it{WAY_OUT}"
            )
        );
    }
    for (sector, byte, place) in [(4, 5, 4), (6, 255, 4), (8, 9, 8), (8, 109, 8)] {
        with(&host, 40960, sector * 512 + 511, &[byte], MTIME);
        let at = place * 512;
        assert_eq!(
            refused(&host, "ubda=/cow"),
            format!(
                "/disk: byte {at}: found another content than the change found or was to write\
                 {WAY_OUT}"
            )
        );
    }
}

#[test]
fn a_file_that_is_changed_to_has_its_length_and_time_or_is_still_the_old_one() {
    let host = marked(None, other());
    for (len, mtime) in [(32768, MTIME), (36864, 77)] {
        with(&host, len, 0, &[0], mtime);
        bring_up(&host, "ubda=/cow");
    }
    for (len, mtime) in [(32768, 77), (36864, MTIME), (36864, 78), (40960, 77)] {
        with(&host, len, 0, &[0], mtime);
        assert_eq!(
            refused(&host, "ubda=/cow"),
            format!(
                "/disk: found {len} bytes modified at {mtime} {}, expected 32768 bytes modified at \
                 1060000000 (seconds since 1970: 2003-08-04 12:26:40 UTC) or 36864 bytes modified \
                 at 77 (seconds since 1970: 1970-01-01 00:01:17 UTC){WAY_OUT}",
                since_1970(&[mtime])
            )
        );
    }
}

/// A change of the file itself was interrupted, and then the change to another one.
#[test]
fn both_at_once() {
    let host = marked(in_place(), other());
    for (len, mtime) in [(32768, 5), (40960, 5), (36864, 77)] {
        with(&host, len, 0, &[0], mtime);
        bring_up(&host, "ubda=/cow");
    }
    with(&host, 36864, 0, &[0], 78);
    assert_eq!(
        refused(&host, "ubda=/cow"),
        format!(
            "/disk: found 36864 bytes, expected 32768 as before the change or 40960 as after \
             it{WAY_OUT}"
        )
    );
}

/// A flag that names no file switches nothing off.
#[test]
fn a_bare_flag_is_no_reason_to_believe_a_file() {
    let host = marked(None, None);
    bring_up(&host, "ubda=/cow");
    for (len, mtime) in [(32768, MTIME + 1), (36864, MTIME)] {
        with(&host, len, 0, &[0], mtime);
        assert_eq!(
            refused(&host, "ubda=/cow"),
            format!(
                "/disk: found {len} bytes modified at {mtime} {}, expected 32768 bytes modified at \
                 1060000000 (seconds since 1970: 2003-08-04 12:26:40 UTC){WAY_OUT}",
                since_1970(&[mtime])
            )
        );
    }
}

/// A file that the user names is held to the same.
#[test]
fn a_switch_to_another_file_in_the_middle_of_a_change() {
    let switch = OpenOptions {
        switch_backing: true,
        ..OpenOptions::default()
    };
    let host = marked(in_place(), None);
    host.file("/other", &[7; 32768]);
    let message = refused_with(&host, "ubda=/cow,/other", switch);
    assert_eq!(
        message,
        format!(
            "/other: byte 2048: found another content than the change found or was to write{WAY_OUT}"
        )
    );
    // The right one, by another name.
    host.file("/other", &host.contents("/disk").unwrap());
    drop(try_open(&host, "ubda=/cow,/other", switch).unwrap());
    host.remove(Path::new("/disk")).unwrap();
    assert_eq!(read(&mut bring_up(&host, "ubda=/cow"), 4, 2), [4, 5]);
}
