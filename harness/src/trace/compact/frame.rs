//! A frame: up to 65,536 records, compressed on their own.
//!
//! The records' bytes are put in planes before compression. Most bytes of a record
//! are equal or near to those of its neighbours, and beside each other they compress
//! to half or three quarters of what whole records do, by the recorded traces.

use driver::exact_count;
use driver::units::{Sector, SectorCount};

use super::super::error::excerpt;
use super::super::served::{Served, number_of, numbered};
use super::super::{Nanoseconds, Record, TraceOperation};
use super::header::Version;
use super::{Fault, u32_at, u64_at};

/// The length of a record, in bytes.
pub(super) const RECORD_LEN: usize = 32;
/// The most records that a frame may hold.
pub(super) const MAX_RECORDS: usize = 65_536;
/// The longest payload: that of incompressible records, with room to spare.
pub(super) const MAX_PAYLOAD_LEN: usize = MAX_RECORDS * RECORD_LEN + 65_536;
/// The length of a frame's header.
pub(super) const HEADER_LEN: usize = 48;
/// The first bytes of a frame.
pub(super) const MAGIC: [u8; 4] = *b"UBDF";

/// Some five million records a second; level 12 takes several times as long for one
/// part in a hundred, level 19 fifty times as long for one in ten.
const COMPRESSION_LEVEL: i32 = 6;

const PREFLUSH: u8 = 1;
const FUA: u8 = 2;

/// The header of a frame, with all that can be known without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) records: usize,
    pub(super) first_record: u64,
    pub(super) first_time: Nanoseconds,
    pub(super) latest_time: Nanoseconds,
    pub(super) payload_len: usize,
    pub(super) payload_crc: u32,
}

impl FrameHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&(self.records as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first_record.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_time.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.latest_time.0.to_le_bytes());
        bytes[32..36].copy_from_slice(&(self.payload_len as u32).to_le_bytes());
        bytes[36..40].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<FrameHeader, Fault> {
        if bytes[..4] != MAGIC {
            return Err(Fault::new(0, excerpt(&bytes[..4]), "a frame, \"UBDF\""));
        }
        let (stored, computed) = (u32_at(bytes, 44), crc32c::crc32c(&bytes[..44]));
        if stored != computed {
            return Err(Fault::checksum(44, "the frame's header", stored, computed));
        }
        let header = FrameHeader {
            records: u32_at(bytes, 4) as usize,
            first_record: u64_at(bytes, 8),
            first_time: Nanoseconds(u64_at(bytes, 16)),
            latest_time: Nanoseconds(u64_at(bytes, 24)),
            payload_len: u32_at(bytes, 32) as usize,
            payload_crc: u32_at(bytes, 36),
        };
        if !(1..=MAX_RECORDS).contains(&header.records) {
            let found = format!(
                "a frame of {}",
                exact_count(header.records as u64, "record")
            );
            return Err(Fault::new(4, found, format!("1 to {MAX_RECORDS}")));
        }
        if header
            .first_record
            .checked_add(header.records as u64)
            .is_none()
        {
            let found = format!("first record {}", header.first_record);
            return Err(Fault::new(8, found, "record numbers below 2^64"));
        }
        if header.payload_len > MAX_PAYLOAD_LEN {
            let found = format!("a payload of {} bytes", header.payload_len);
            return Err(Fault::new(32, found, format!("at most {MAX_PAYLOAD_LEN}")));
        }
        if u32_at(bytes, 40) != 0 {
            return Err(Fault::new(40, u32_at(bytes, 40).to_string(), "0"));
        }
        Ok(header)
    }
}

/// The header and payload of a frame of `records`, which are 1 to 65,536. `served` has one for each
/// of them in version 2, and none in version 1.
pub(super) fn encode(
    first_record: u64,
    records: &[Record],
    served: &[Served],
) -> std::io::Result<(FrameHeader, Vec<u8>)> {
    assert!(
        (1..=MAX_RECORDS).contains(&records.len()),
        "the writer splits"
    );
    let mut planes = vec![0; records.len() * RECORD_LEN];
    for (index, record) in records.iter().enumerate() {
        let bytes = encode_record(record, served.get(index));
        for (plane, byte) in bytes.into_iter().enumerate() {
            planes[plane * records.len() + index] = byte;
        }
    }
    let payload = zstd::bulk::compress(&planes, COMPRESSION_LEVEL)?;
    assert!(
        payload.len() <= MAX_PAYLOAD_LEN,
        "zstd's own bound is smaller"
    );
    let latest = records.iter().map(|record| record.time).max();
    let header = FrameHeader {
        records: records.len(),
        first_record,
        first_time: records[0].time,
        latest_time: latest.unwrap_or_default(),
        payload_len: payload.len(),
        payload_crc: crc32c::crc32c(&payload),
    };
    Ok((header, payload))
}

/// Appends the records of a frame to `records`, and of version 2 what is told of them to `served`.
/// Faults count from the frame's start.
pub(super) fn decode(
    header: &FrameHeader,
    payload: &[u8],
    version: Version,
    records: &mut Vec<Record>,
    served: &mut Vec<Served>,
) -> Result<(), Fault> {
    let computed = crc32c::crc32c(payload);
    if header.payload_crc != computed {
        return Err(Fault::checksum(
            36,
            "the payload",
            header.payload_crc,
            computed,
        ));
    }
    let payload_at = HEADER_LEN as u64;
    let mut planes = vec![0; header.records * RECORD_LEN];
    let length = zstd::bulk::decompress_to_buffer(payload, &mut planes).map_err(|error| {
        Fault::new(
            payload_at,
            format!("a payload that zstd refuses ({error})"),
            format!("{} bytes, compressed", planes.len()),
        )
    })?;
    if length != planes.len() {
        let found = format!(
            "a payload of {} when decompressed",
            exact_count(length as u64, "byte")
        );
        return Err(Fault::new(payload_at, found, format!("{}", planes.len())));
    }
    let mut latest = Nanoseconds(0);
    for index in 0..header.records {
        let bytes = std::array::from_fn(|plane| planes[plane * header.records + index]);
        let misplaced = |(found, expected): (String, String)| {
            let number = header.first_record + index as u64;
            let found = format!("record {number} with {found}");
            Fault::new(payload_at, found, expected)
        };
        let record = decode_record(&bytes).map_err(misplaced)?;
        match version {
            Version::One if bytes[26..] != [0; 6] => {
                let found = (excerpt(&bytes[26..]), "six bytes of 0".to_owned());
                return Err(misplaced(found));
            }
            Version::One => {}
            Version::Two => served.push(decode_served(&bytes).map_err(misplaced)?),
        }
        latest = latest.max(record.time);
        records.push(record);
    }
    let first = records[records.len() - header.records].time;
    if first != header.first_time || latest != header.latest_time {
        let found = format!("times from {} to {}", header.first_time, header.latest_time);
        let expected = format!("{first} to {latest}, its records'");
        return Err(Fault::new(16, found, expected));
    }
    Ok(())
}

fn encode_record(record: &Record, served: Option<&Served>) -> [u8; RECORD_LEN] {
    let mut bytes = [0; RECORD_LEN];
    bytes[..8].copy_from_slice(&record.time.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&record.start.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&record.count.0.to_le_bytes());
    bytes[24] = match record.operation {
        TraceOperation::Read => 0,
        TraceOperation::Write => 1,
        TraceOperation::Flush => 2,
        TraceOperation::Discard => 3,
        TraceOperation::WriteZeroes => 4,
    };
    bytes[25] = if record.preflush { PREFLUSH } else { 0 } | if record.fua { FUA } else { 0 };
    if let Some(served) = served {
        bytes[26] = number_of(served.status);
        bytes[28..].copy_from_slice(&served.client.to_le_bytes());
    }
    bytes
}

fn decode_served(bytes: &[u8; RECORD_LEN]) -> Result<Served, (String, String)> {
    let status = numbered(bytes[26]);
    let status = status.ok_or_else(|| (format!("status {}", bytes[26]), "0 to 4".to_owned()))?;
    if bytes[27] != 0 {
        return Err((excerpt(&bytes[27..28]), "a byte of 0".to_owned()));
    }
    let client = u32_at(bytes, 28);
    Ok(Served { client, status })
}

fn decode_record(bytes: &[u8; RECORD_LEN]) -> Result<Record, (String, String)> {
    let operation = match bytes[24] {
        0 => TraceOperation::Read,
        1 => TraceOperation::Write,
        2 => TraceOperation::Flush,
        3 => TraceOperation::Discard,
        4 => TraceOperation::WriteZeroes,
        other => return Err((format!("operation {other}"), "0 to 4".to_owned())),
    };
    let flags = bytes[25];
    if flags & !(PREFLUSH | FUA) != 0 {
        return Err((format!("flags {flags:#04x}"), "0 to 3".to_owned()));
    }
    let record = Record {
        time: Nanoseconds(u64_at(bytes, 0)),
        operation,
        preflush: flags & PREFLUSH != 0,
        fua: flags & FUA != 0,
        start: Sector(u64_at(bytes, 8)),
        count: SectorCount(u64_at(bytes, 16)),
    };
    let checked = record.check();
    checked.map_err(|fault| (fault.found, fault.expected))?;
    Ok(record)
}
