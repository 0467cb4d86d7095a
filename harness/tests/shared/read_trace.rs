//! Every reader of traces on whatever bytes, and what counts records. Shared by the property tests
//! of the samples, the inputs that are crafted by the million (`crafted`) and the fuzz targets.

use std::io::Cursor;
use std::path::Path;

use harness::trace::stat::Counter;
use harness::trace::{
    CompactReader, Devices, Nanoseconds, ReadOptions, open_stream, summary::Summary,
};

/// No more records of a trace are looked at: a compressed one can have any number.
const MOST_RECORDS: usize = 1 << 16;

/// Reads these bytes as a trace, and if they are one of our own format, once more with the
/// checksums that belong to them. How many records there were.
///
/// # Panics
/// If a record breaks the rules, or more come than the bytes can hold.
pub(crate) fn read_trace(bytes: &[u8]) -> usize {
    let sealed = sealed(bytes);
    drain(bytes) + sealed.map_or(0, |sealed| drain(&sealed) + enter(sealed))
}

/// All devices, and what is wrong an error.
pub(crate) fn all() -> ReadOptions {
    ReadOptions {
        devices: Devices::All,
        ..ReadOptions::default()
    }
}

fn drain(bytes: &[u8]) -> usize {
    let skipping = ReadOptions {
        skip_bad: true,
        allow_lost_events: true,
        ..all()
    };
    let strict = drain_with(bytes, &all(), None);
    let lenient = drain_with(bytes, &skipping, Some(Counter::default()));
    assert!(strict <= lenient, "skipping what is wrong loses nothing");
    lenient
}

/// Whatever is read keeps the rules of a record, and nothing goes on for ever. Statistics take any
/// record.
fn drain_with(bytes: &[u8], options: &ReadOptions, mut counter: Option<Counter>) -> usize {
    let cursor = Cursor::new(bytes.to_vec());
    let Ok(mut source) = open_stream(Path::new("t"), cursor, options) else {
        return 0;
    };
    let compressed = source.description().compression.is_some() || is_ours(bytes);
    let (mut records, mut summary) = (0, Summary::default());
    for record in source.by_ref().flatten().take(MOST_RECORDS) {
        assert!(record.check().is_ok(), "{record:?}");
        summary.add(&record);
        if let Some(counter) = &mut counter {
            counter.add(&record);
        }
        records += 1;
    }
    if !compressed {
        assert!(records <= bytes.len(), "more records than bytes can hold");
    }
    if let Some(counter) = counter {
        assert_eq!(counter.finish().summary, summary);
    }
    records
}

/// Goes into a trace of our own format from the middle.
fn enter(bytes: Vec<u8>) -> usize {
    let length = bytes.len() as u64;
    let Ok(mut reader) = CompactReader::new(Path::new("t"), Cursor::new(bytes)) else {
        return 0;
    };
    let records = reader.records().unwrap_or(0);
    let mut found = 0;
    for number in [
        0,
        1,
        records / 2,
        records.saturating_sub(1),
        records,
        u64::MAX,
        length,
    ] {
        if reader.seek_record(number).is_ok() {
            found += usize::from(reader.next().is_some_and(|record| record.is_ok()));
        }
        if reader.seek_time(Nanoseconds(number)).is_ok() {
            found += usize::from(reader.next().is_some_and(|record| record.is_ok()));
        }
    }
    found
}

fn is_ours(bytes: &[u8]) -> bool {
    bytes.starts_with(b"UBDTRACE")
}

/// A trace of our own format with every checksum right, as `traces/FORMAT.md` has them, as far as
/// its parts can be told; `None` of other formats.
pub(crate) fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    if !is_ours(bytes) || bytes.len() < 32 {
        return None;
    }
    let mut bytes = bytes.to_vec();
    let header_end = 32 + (u32_at(&bytes, 12) as usize).min(4096);
    if let Some(description) = bytes.get(32..header_end) {
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..28]), description);
        put(&mut bytes, 28, sum);
    }
    let mut at = header_end;
    while bytes.get(at..at + 4) == Some(b"UBDF") && bytes.len() >= at + 48 {
        let end = at + 48 + u32_at(&bytes, at + 32) as usize;
        if let Some(payload) = bytes.get(at + 48..end) {
            let sum = crc32c::crc32c(payload);
            put(&mut bytes, at + 36, sum);
        }
        let sum = crc32c::crc32c(&bytes[at..at + 44]);
        put(&mut bytes, at + 44, sum);
        at = end;
    }
    if let Some(trailer) = bytes.len().checked_sub(40) {
        let index = u64::from(u32_at(&bytes, trailer)) as usize;
        if let Some(index) = bytes.get(index..trailer) {
            let sum = crc32c::crc32c(index);
            put(&mut bytes, trailer + 24, sum);
        }
        let sum = crc32c::crc32c(&bytes[trailer..trailer + 32]);
        put(&mut bytes, trailer + 32, sum);
    }
    Some(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

fn put(bytes: &mut [u8], at: usize, sum: u32) {
    bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
}
