//! fio's iolog, versions 2 and 3: what `--write_iolog` writes and `--read_iolog` replays.
//!
//! ```text
//! fio version 2 iolog                 fio version 3 iolog
//! /dev/sda add                        0 /dev/sda add
//! /dev/sda open                       12 /dev/sda open
//! /dev/sda wait 1 0                   1012 /dev/sda write 4096 8192
//! /dev/sda write 4096 8192            1020 /dev/sda sync 0 0
//! ```
//!
//! Offsets and lengths are in bytes. Times in version 3 are microseconds since the start, in front
//! of each line. Version 2 has waits: fio waits until it has run for that many milliseconds,
//! whatever was waited for before (seen with fio 3.33; its manual says otherwise).

use driver::units::Bytes;

use super::device::Device;
use super::entry::{Decoded, Entry, Extent};
use super::lines::{LineFault, LineFormat};
use super::number::parse_u64;
use super::{Nanoseconds, TraceOperation};

/// The version of an iolog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// With waits.
    V2,
    /// With a time on each line.
    V3,
}

const EXPECTED_V2: &str = "a line like \"FILE read|write|sync|datasync|trim OFFSET LENGTH\", \
     \"FILE wait MILLISECONDS\" or \"FILE add|open|close\"";
const EXPECTED_V3: &str = "a line like \"MICROSECONDS FILE read|write|sync|datasync|trim OFFSET LENGTH\" or \
     \"MICROSECONDS FILE add|open|close\"";

/// The version that the first line tells.
pub(super) fn detect(prefix: &[u8]) -> Option<Version> {
    let line = prefix.split(|byte| *byte == b'\n').next()?;
    match line.trim_ascii_end() {
        b"fio version 2 iolog" => Some(Version::V2),
        b"fio version 3 iolog" => Some(Version::V3),
        _ => None,
    }
}

/// The format, and the latest moment that was waited for.
pub(super) struct Fio {
    version: Version,
    waited_us: u64,
    is_past_header: bool,
}

impl Fio {
    pub(super) fn new(version: Version) -> Fio {
        Fio {
            version,
            waited_us: 0,
            is_past_header: false,
        }
    }

    const fn expected(&self) -> &'static str {
        match self.version {
            Version::V2 => EXPECTED_V2,
            Version::V3 => EXPECTED_V3,
        }
    }
}

impl LineFormat for Fio {
    const SHOWS_ITS_END: bool = false;

    fn decode(&mut self, line: &str) -> Result<Decoded, LineFault> {
        if !self.is_past_header {
            self.is_past_header = true;
            return Ok(Decoded::Nothing);
        }
        let wrong = || LineFault::line(self.expected());
        let mut words = line.split_ascii_whitespace().peekable();
        if words.peek().is_none() {
            return Ok(Decoded::Nothing);
        }
        let microseconds = match self.version {
            Version::V2 => self.waited_us,
            Version::V3 => words.next().and_then(parse_u64).ok_or_else(wrong)?,
        };
        let (file, action) = words.next().zip(words.next()).ok_or_else(wrong)?;
        let numbers = [words.next(), words.next()];
        let number = |index: usize| numbers[index].map(|word| parse_u64(word).ok_or_else(wrong));
        let (offset, length) = (number(0).transpose()?, number(1).transpose()?);
        if words.next().is_some() {
            return Err(wrong());
        }
        let operation = match action {
            "add" | "open" | "close" if offset.is_none() => return Ok(Decoded::Nothing),
            "wait" if self.version == Version::V2 => {
                let until = offset.and_then(|milliseconds| milliseconds.checked_mul(1000));
                self.waited_us = self.waited_us.max(until.ok_or_else(wrong)?);
                return Ok(Decoded::Nothing);
            }
            "read" => TraceOperation::Read,
            "write" => TraceOperation::Write,
            "sync" | "datasync" => TraceOperation::Flush,
            "trim" => TraceOperation::Discard,
            _ => return Err(wrong()),
        };
        let extent = match (operation, offset, length) {
            (TraceOperation::Flush, _, _) => Extent::Nothing,
            (_, Some(offset), Some(length)) => Extent::Bytes(Bytes(offset), Bytes(length)),
            _ => return Err(wrong()),
        };
        let Some(time) = microseconds.checked_mul(1000).map(Nanoseconds) else {
            let found = microseconds.to_string();
            return Err(LineFault::field(&found, "a time below 2^64 nanoseconds"));
        };
        Ok(Decoded::Entry(Entry {
            device: Some(Device::Name(file.into())),
            ..Entry::new(time, operation, extent)
        }))
    }
}
