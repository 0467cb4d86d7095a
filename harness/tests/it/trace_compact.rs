//! Our own format: what goes in comes out, from the front and from the middle, and
//! whatever happens to the file is an error with a place and never a panic.

use std::io::Cursor;
use std::path::Path;

use driver::blk::Status;
use driver::units::{Sector, SectorCount};
use harness::trace::{
    CompactReader, Nanoseconds, ReadOptions, Record, Served, TraceError, TraceHeader,
    TraceOperation, TraceSource, TraceWriter, convert, open_stream, summarize,
};
use proptest::prelude::*;

use crate::read_trace::sealed;

/// The length of the header with the description below.
const HEADER_LEN: usize = 39;

fn header() -> TraceHeader {
    TraceHeader {
        device_size: Some(SectorCount(411_757)),
        description: "by hand".to_owned(),
    }
}

fn write(frame_records: usize, records: &[Record]) -> Vec<u8> {
    let name = Path::new("out");
    let writer = TraceWriter::with_frames_of(frame_records, name, Vec::new(), &header());
    let mut writer = writer.unwrap();
    for record in records {
        writer.push(record).unwrap();
    }
    writer.finish().unwrap()
}

fn reader(bytes: &[u8]) -> Result<CompactReader<Cursor<Vec<u8>>>, TraceError> {
    CompactReader::new(Path::new("t"), Cursor::new(bytes.to_vec()))
}

/// The records up to the first error, and its message.
fn stream(bytes: &[u8]) -> (Vec<Record>, Option<String>) {
    let mut records = Vec::new();
    let reader = match reader(bytes) {
        Ok(reader) => reader,
        Err(error) => return (records, Some(error.to_string())),
    };
    for record in reader {
        match record {
            Ok(record) => records.push(record),
            Err(error) => return (records, Some(error.to_string())),
        }
    }
    (records, None)
}

fn some_records(count: u64) -> Vec<Record> {
    let operations = [
        TraceOperation::Write,
        TraceOperation::Read,
        TraceOperation::Discard,
        TraceOperation::WriteZeroes,
    ];
    let record = |number: u64| match number % 7 {
        6 => Record::flush(Nanoseconds(number * 1000)),
        _ => Record {
            time: Nanoseconds(number * 1000),
            operation: operations[(number % 4) as usize],
            preflush: number.is_multiple_of(12),
            fua: number.is_multiple_of(20),
            start: Sector(number * 24),
            count: SectorCount(number % 16 + 1),
        },
    };
    (0..count).map(record).collect()
}

fn any_record() -> impl Strategy<Value = Record> {
    let last = (1_u64 << 54) - 1;
    let sectors = (0..=last).prop_flat_map(move |start| (Just(start), 1..=last - start + 1));
    let parts = (any::<u64>(), 0..5_u8, any::<bool>(), any::<bool>(), sectors);
    parts.prop_map(|(time, operation, preflush, fua, (start, count))| {
        let time = Nanoseconds(time);
        let operation = match operation {
            0 => TraceOperation::Read,
            1 => TraceOperation::Write,
            2 => TraceOperation::Discard,
            3 => TraceOperation::WriteZeroes,
            _ => return Record::flush(time),
        };
        let write = operation == TraceOperation::Write;
        Record {
            time,
            operation,
            preflush: preflush && write,
            fua: fua && write,
            start: Sector(start),
            count: SectorCount(count),
        }
    })
}

fn put_u64s(bytes: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_u32(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// A whole file, put together here by the specification alone.
#[test]
fn the_layout_is_what_the_specification_says() {
    let record = Record {
        time: Nanoseconds(0x0102),
        operation: TraceOperation::Write,
        preflush: true,
        fua: true,
        start: Sector(0x0304),
        count: SectorCount(5),
    };
    let bytes = write(64, &[record]);

    let mut expected = b"UBDTRACE\x01\0\x20\0\x07\0\0\0".to_vec();
    put_u64s(&mut expected, &[411_757]);
    put_u32(&mut expected, 0);
    let covered = [&expected[..], b"by hand"].concat();
    put_u32(&mut expected, crc32c::crc32c(&covered));
    expected.extend_from_slice(b"by hand");
    assert_eq!(expected.len(), HEADER_LEN);

    // How zstd compresses is its own affair; what comes out of it is not.
    let payload_len = u32_at(&bytes, HEADER_LEN + 32);
    let payload = &bytes[HEADER_LEN + 48..][..payload_len as usize];
    let mut plain = Vec::new();
    put_u64s(&mut plain, &[0x0102, 0x0304, 5]);
    plain.extend_from_slice(&[1, 3, 0, 0, 0, 0, 0, 0]);
    assert_eq!(zstd::bulk::decompress(payload, 100).unwrap(), plain);

    let mut frame = b"UBDF\x01\0\0\0".to_vec();
    put_u64s(&mut frame, &[0, 0x0102, 0x0102]);
    put_u32(&mut frame, payload_len);
    put_u32(&mut frame, crc32c::crc32c(payload));
    put_u32(&mut frame, 0);
    let crc = crc32c::crc32c(&frame);
    put_u32(&mut frame, crc);
    expected.extend_from_slice(&frame);
    expected.extend_from_slice(payload);

    let mut index = b"UBDI\0\0\0\0".to_vec();
    put_u64s(&mut index, &[HEADER_LEN as u64, 0, 0x0102, 0x0102]);
    let mut trailer = Vec::new();
    put_u64s(&mut trailer, &[expected.len() as u64, 1, 1]);
    put_u32(&mut trailer, crc32c::crc32c(&index));
    put_u32(&mut trailer, 0);
    let crc = crc32c::crc32c(&trailer);
    put_u32(&mut trailer, crc);
    trailer.extend_from_slice(b"UBDE");
    expected.extend_from_slice(&index);
    expected.extend_from_slice(&trailer);
    assert_eq!(bytes, expected);
}

#[test]
fn planes_are_byte_by_byte() {
    let bytes = write(64, &some_records(3));
    let payload_len = u32_at(&bytes, HEADER_LEN + 32) as usize;
    let payload = &bytes[HEADER_LEN + 48..][..payload_len];
    let planes = zstd::bulk::decompress(payload, 1000).unwrap();
    assert_eq!(planes.len(), 96);
    // Times 0, 1000 and 2000 are 0x0000, 0x03e8 and 0x07d0.
    assert_eq!(planes[..6], [0x00, 0xe8, 0xd0, 0x00, 0x03, 0x07]);
    // A write, a read, a discard.
    assert_eq!(planes[24 * 3..25 * 3], [1, 0, 3]);
}

#[test]
fn an_empty_trace_is_a_trace() {
    let bytes = write(64, &[]);
    assert_eq!(stream(&bytes), (Vec::new(), None));
    let mut reader = reader(&bytes).unwrap();
    assert_eq!(reader.records().unwrap(), 0);
    reader.seek_record(0).unwrap();
    assert!(reader.next().is_none());
    reader.seek_time(Nanoseconds(0)).unwrap();
    assert!(reader.next().is_none());
    assert_eq!(
        reader.seek_record(1).unwrap_err().to_string(),
        "t: no record 1: the trace has 0"
    );
}

#[test]
fn the_default_frame_holds_65536_records() {
    let records = some_records(65_537);
    let mut writer = TraceWriter::create(Path::new("out"), Vec::new(), &header()).unwrap();
    for record in &records {
        writer.push(record).unwrap();
    }
    let bytes = writer.finish().unwrap();
    let mut reader = reader(&bytes).unwrap();
    assert_eq!(reader.records().unwrap(), 65_537);
    reader.seek_record(65_536).unwrap();
    assert_eq!(reader.next().unwrap().unwrap(), records[65_536]);
    assert!(reader.next().is_none());
    assert_eq!(stream(&bytes), (records, None));
}

#[test]
fn a_record_that_breaks_the_rules_is_not_written() {
    let mut writer = TraceWriter::create(Path::new("out"), Vec::new(), &header()).unwrap();
    let bad = Record {
        fua: true,
        ..Record::flush(Nanoseconds(0))
    };
    assert_eq!(
        writer.push(&bad).unwrap_err().to_string(),
        "out: record 0 cannot be written: found a flush with preflush or FUA, \
         expected those flags on writes only"
    );
}

#[test]
fn a_conversion_keeps_all() {
    let bytes = write(16, &some_records(100));
    let source = open_stream(Path::new("t"), Cursor::new(bytes), &ReadOptions::default());
    let mut source = source.unwrap();
    let header = TraceHeader::from(source.description());
    let writer = TraceWriter::create(Path::new("out"), Vec::new(), &header).unwrap();
    let converted = convert(&mut *source, writer).unwrap();
    let (summary, copy) = (converted.summary, converted.out);
    let mut copied = reader(&copy).unwrap();
    assert_eq!(copied.description().device_size, Some(SectorCount(411_757)));
    assert_eq!(copied.description().text, "by hand");
    assert_eq!(summarize(&mut copied).unwrap(), summary);
    assert_eq!(summary.requests, 100);
    assert_eq!(stream(&copy).0, some_records(100));
}

/// At every length: whole frames first, then the cut.
#[test]
fn a_cut_file_streams_its_whole_frames_and_then_says_where_it_ends() {
    let records = some_records(40);
    let bytes = write(16, &records);
    let mut most = 0;
    for length in 0..bytes.len() {
        let (read, error) = stream(&bytes[..length]);
        let error = error.unwrap_or_else(|| panic!("no error at {length}"));
        assert!(error.contains("the trace is cut"), "{length}: {error}");
        assert!(read.len() >= most && (read.len().is_multiple_of(16) || read.len() == 40));
        assert_eq!(read, records[..read.len()]);
        most = read.len();
        if let Ok(mut reader) = reader(&bytes[..length]) {
            let error = reader.seek_record(0).unwrap_err().to_string();
            assert!(error.contains("the trace is cut"), "{length}: {error}");
            // The failed seek has not moved the reader.
            assert_eq!(reader.map_while(Result::ok).count(), read.len());
        }
    }
    assert_eq!(most, 40);
    assert_eq!(
        stream(&bytes[..50]).1.unwrap(),
        "t: offset 43: the trace is cut: found 7 bytes before the end of the file, \
         expected 44 bytes: the rest of a frame's header"
    );
}

/// The checksums leave no byte out.
#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = write(16, &some_records(40));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(stream(&changed).1.is_some(), "byte {at}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(stream(&longer).1.is_some());
}

#[test]
fn a_foreign_header_is_refused_with_its_offset() {
    let mut bytes = write(16, &[]);
    bytes[8] = 3;
    assert_eq!(
        stream(&bytes).1.unwrap(),
        "t: offset 8: found format version 3, expected version 1 or 2"
    );
    bytes[8] = 1;
    bytes[13] = 0xff;
    assert_eq!(
        stream(&bytes).1.unwrap(),
        "t: offset 12: found a description of 65287 bytes, expected at most 4096"
    );
}

/// Version 2: who has asked, how it ended, and what was lost, in the bytes that the specification
/// names; all else is as in version 1.
#[test]
fn version_2_tells_who_asked_and_how_it_ended() {
    let records = some_records(3);
    let told = [
        (1, Status::Ok),
        (0x0506_0708, Status::NoSpace),
        (2, Status::Invalid),
    ];
    let told = told.map(|(client, status)| Served { client, status });
    let writer = TraceWriter::telling_served(Path::new("out"), Vec::new(), &header());
    let mut writer = writer.unwrap();
    for (record, served) in records.iter().zip(told) {
        writer.push_served(record, served).unwrap();
    }
    writer.lose(9);
    let bytes = writer.finish().unwrap();
    assert_eq!(bytes[8..10], [2, 0]);
    let payload_len = u32_at(&bytes, HEADER_LEN + 32) as usize;
    let payload = &bytes[HEADER_LEN + 48..][..payload_len];
    let planes = zstd::bulk::decompress(payload, 1000).unwrap();
    assert_eq!(planes[26 * 3..27 * 3], [0, 2, 4], "status");
    assert_eq!(planes[27 * 3..28 * 3], [0; 3]);
    assert_eq!(planes[28 * 3..29 * 3], [1, 0x08, 2], "client");
    assert_eq!(planes[31 * 3..], [0, 0x05, 0]);
    assert_eq!(u32_at(&bytes, bytes.len() - 12), 9, "lost");

    let mut reader = reader(&bytes).unwrap();
    assert!(reader.tells_served());
    assert_eq!(reader.served(), None);
    for (record, served) in records.iter().zip(told) {
        assert_eq!(reader.next().unwrap().unwrap(), *record);
        assert_eq!(reader.served(), Some(served));
    }
    assert!(reader.next().is_none());
    let counts = &reader.notes().served;
    assert_eq!((counts.clients.len(), counts.lost), (3, 9));
    let failed: Vec<_> = counts.failed.iter().collect();
    assert_eq!(failed, [(&"invalid", &1), (&"no-space", &1)]);
    // From the middle too.
    reader.seek_record(1).unwrap();
    assert_eq!(reader.next().unwrap().unwrap(), records[1]);
    assert_eq!(reader.served(), Some(told[1]));
}

/// What only version 2 has is refused in version 1, and what neither has in both.
#[test]
fn fields_of_no_meaning_are_refused() {
    let writer = TraceWriter::telling_served(Path::new("out"), Vec::new(), &header());
    let mut writer = writer.unwrap();
    let client = 7;
    let status = Status::IoError;
    let served = Served { client, status };
    writer.push_served(&some_records(1)[0], served).unwrap();
    let two = writer.finish().unwrap();
    let mut one = two.clone();
    one[8] = 1;
    let error = stream(&sealed(&one).unwrap()).1.unwrap();
    assert!(error.contains("expected six bytes of 0"), "{error}");

    let mut lost = write(16, &[]);
    let at = lost.len() - 12;
    lost[at] = 1;
    let error = stream(&sealed(&lost).unwrap()).1.unwrap();
    assert!(error.contains("found 1, expected 0"), "{error}");

    for (byte, value, said) in [(26, 5, "status 5"), (27, 1, "expected a byte of 0")] {
        let payload_len = u32_at(&two, HEADER_LEN + 32) as usize;
        let payload = &two[HEADER_LEN + 48..][..payload_len];
        let mut plain = zstd::bulk::decompress(payload, 100).unwrap();
        plain[byte] = value;
        let payload = zstd::bulk::compress(&plain, 6).unwrap();
        let mut frame = two[..HEADER_LEN + 48].to_vec();
        frame[HEADER_LEN + 32..][..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(&payload);
        let error = stream(&sealed_frame(frame)).1.unwrap();
        assert!(error.contains(said), "{error}");
    }
}

/// A trace that ends with its first frame, with its checksums.
fn sealed_frame(mut bytes: Vec<u8>) -> Vec<u8> {
    let payload = crc32c::crc32c(&bytes[HEADER_LEN + 48..]);
    bytes[HEADER_LEN + 36..][..4].copy_from_slice(&payload.to_le_bytes());
    let frame = crc32c::crc32c(&bytes[HEADER_LEN..][..44]);
    bytes[HEADER_LEN + 44..][..4].copy_from_slice(&frame.to_le_bytes());
    bytes
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(
        records in proptest::collection::vec(any_record(), 0..100),
        frame_records in 1..40_usize,
    ) {
        let bytes = write(frame_records, &records);
        let (read, error) = stream(&bytes);
        prop_assert_eq!(error, None);
        prop_assert_eq!(read, records);
    }

    #[test]
    fn a_trace_is_entered_anywhere(
        records in proptest::collection::vec(any_record(), 0..60),
        frame_records in 1..20_usize,
        targets in proptest::collection::vec(
            (any::<bool>(), any::<prop::sample::Index>(), any::<u64>()),
            1..10,
        ),
    ) {
        let bytes = write(frame_records, &records);
        let mut reader = reader(&bytes).unwrap();
        for (by_time, index, time) in targets {
            let start = if by_time {
                let time = Nanoseconds(time);
                reader.seek_time(time).unwrap();
                let first = records.iter().position(|record| record.time >= time);
                first.unwrap_or(records.len())
            } else {
                let number = index.index(records.len() + 1);
                reader.seek_record(number as u64).unwrap();
                number
            };
            let read: Result<Vec<_>, _> = reader.by_ref().collect();
            prop_assert_eq!(&read.unwrap()[..], &records[start..]);
        }
    }

    /// Half of the time with checksums made right again, so that the checks after them are
    /// reached.
    #[test]
    fn mutated_files_never_panic(
        count in 0..60_u64,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        repair in any::<bool>(),
        length in any::<prop::sample::Index>(),
        seek in any::<u64>(),
    ) {
        let mut bytes = write(16, &some_records(count));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if repair {
            repair_checksums(&mut bytes);
        } else {
            bytes.truncate(length.index(bytes.len() + 1));
        }
        for record in stream(&bytes).0 {
            record.check().unwrap();
        }
        if let Ok(mut reader) = reader(&bytes) {
            let _ = reader.seek_record(seek % 70);
            let _ = reader.next();
            let _ = reader.seek_time(Nanoseconds(seek % 70_000));
            let _ = reader.by_ref().count();
            let _ = reader.seek_record(seek);
        }
        let _ = open_stream(Path::new("t"), Cursor::new(bytes), &ReadOptions::default());
    }
}

/// Computes anew the checksums of the header, of the frames as far as they can be
/// followed, of the index and of the trailer.
fn repair_checksums(bytes: &mut [u8]) {
    fn put(bytes: &mut [u8], at: usize, crc: u32) {
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..28]), &bytes[32..HEADER_LEN]);
    put(bytes, 28, crc);
    let mut at = HEADER_LEN;
    while at + 48 <= bytes.len() && bytes[at..at + 4] == *b"UBDF" {
        let length = u32_at(bytes, at + 32) as usize;
        if at + 48 + length > bytes.len() {
            return;
        }
        let crc = crc32c::crc32c(&bytes[at + 48..at + 48 + length]);
        put(bytes, at + 36, crc);
        let crc = crc32c::crc32c(&bytes[at..at + 44]);
        put(bytes, at + 44, crc);
        at += 48 + length;
    }
    let trailer = bytes.len() - 40;
    if at < trailer {
        let crc = crc32c::crc32c(&bytes[at..trailer]);
        put(bytes, trailer + 24, crc);
        let crc = crc32c::crc32c(&bytes[trailer..trailer + 32]);
        put(bytes, trailer + 32, crc);
    }
}
