//! The good inputs that crafted ones are made of: the samples and golden files, which the corpora
//! of the fuzz targets begin with too (`fuzz/run.sh`).

use std::path::{Path, PathBuf};

use driver::cow::{ByteOrder, Header, Version};
use driver::units::Bytes;

use crate::exercise::{BACKING, SIZE, image};
use crate::read_trace::{read_trace, sealed};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files of a folder of the repository, but for notes, scripts and expectations.
fn files(folder: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(repository().join(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let apart = ["md", "py", "expected"].map(Some);
    paths.retain(|path| !apart.contains(&path.extension().and_then(|end| end.to_str())));
    paths.sort();
    assert!(!paths.is_empty(), "{folder}");
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Traces of every format.
pub(super) fn traces() -> Vec<Vec<u8>> {
    let mut traces = files("traces/samples");
    traces.retain(|trace| !trace.is_empty());
    traces.extend(files("fuzz/seeds/trace"));
    traces
}

/// What NBD clients send.
pub(super) fn negotiations() -> Vec<Vec<u8>> {
    files("fuzz/seeds/nbd")
}

/// Requests in the memory of a guest.
pub(super) fn chains() -> Vec<Vec<u8>> {
    files("fuzz/seeds/chain")
}

/// Small images of every version.
pub(super) fn images() -> Vec<Vec<u8>> {
    let versions = [Version::V1, Version::V2, Version::V3, Version::V3Wide];
    let made = versions.map(|version| {
        let header = Header::v3(Path::new(BACKING), 0, Bytes(SIZE), 4096).unwrap();
        let old = matches!(version, Version::V1 | Version::V2);
        let header = Header {
            version,
            byte_order: match version {
                Version::V1 => ByteOrder::Little,
                _ => ByteOrder::Big,
            },
            alignment: if old { 512 } else { 4096 },
            ..header
        };
        image(&header, &[(0, 1), (7, 4), (60, 4)])
    });
    let mut images = files("driver/tests/golden");
    images.extend(made);
    images
}

/// A trace of our own format whose payload is stored: a changed byte of it is a changed record,
/// and not a broken compression. The checksums are still to be made.
fn stored_trace(version: u8, records: &[[u8; 32]]) -> Vec<u8> {
    let mut planes = Vec::new();
    for plane in 0..32 {
        planes.extend(records.iter().map(|record| record[plane]));
    }
    // RFC 8878: a frame of a single segment with a content size of four bytes, and one raw block.
    let mut payload = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    payload.extend((planes.len() as u32).to_le_bytes());
    payload.extend(&((planes.len() as u32) << 3 | 1).to_le_bytes()[..3]);
    payload.extend(planes);
    let time = |record: &[u8; 32]| record[..8].try_into().map_or(0, u64::from_le_bytes);
    let first = time(&records[0]);
    let latest = records.iter().map(time).max().unwrap();

    let mut trace = b"UBDTRACE".to_vec();
    trace.extend([version, 0, 32, 0]);
    trace.extend(0_u32.to_le_bytes());
    trace.extend(4096_u64.to_le_bytes());
    trace.extend([0; 8]);
    let frame = trace.len() as u64;
    trace.extend(b"UBDF");
    trace.extend((records.len() as u32).to_le_bytes());
    trace.extend([0, first, latest].map(u64::to_le_bytes).concat());
    trace.extend((payload.len() as u32).to_le_bytes());
    trace.extend([0; 12]);
    trace.extend(payload);
    let index = trace.len() as u64;
    trace.extend(b"UBDI");
    trace.extend([0; 4]);
    trace.extend([frame, 0, first, latest].map(u64::to_le_bytes).concat());
    trace.extend(
        [index, 1, records.len() as u64]
            .map(u64::to_le_bytes)
            .concat(),
    );
    trace.extend([0; 12]);
    trace.extend(b"UBDE");
    trace
}

fn record(time: u64, start: u64, count: u64, operation: u8, flags: u8) -> [u8; 32] {
    let mut record = [0; 32];
    record[..8].copy_from_slice(&time.to_le_bytes());
    record[8..16].copy_from_slice(&start.to_le_bytes());
    record[16..24].copy_from_slice(&count.to_le_bytes());
    (record[24], record[25]) = (operation, flags);
    record
}

/// `UPDATE_EXPECT=1` writes them anew.
#[test]
fn the_stored_traces_are_what_they_say() {
    let mut records = [
        record(0, 0, 8, 1, 0),
        record(1000, 8, 16, 1, 3),
        record(1500, 0, 8, 0, 0),
        record(2000, 0, 0, 2, 0),
        record(2500, 64, 128, 3, 0),
        record(3000, 1 << 40, 8, 4, 0),
    ];
    for (version, name) in [(1, "stored.ubdtrace"), (2, "stored-2.ubdtrace")] {
        if version == 2 {
            for (n, record) in records.iter_mut().enumerate() {
                // How it ended, and who has asked.
                (record[26], record[28]) = (n as u8 % 5, n as u8);
            }
        }
        let made = sealed(&stored_trace(version, &records)).unwrap();
        let path = repository().join("fuzz/seeds/trace").join(name);
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == made, "{}", path.display());
        // As it is, with its checksums, and entered in the middle.
        assert!(read_trace(&made) > 2 * records.len(), "{name} is no trace");
    }
}
