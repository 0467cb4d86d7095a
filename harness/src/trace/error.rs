//! What can be wrong with a trace, always with the place and the two sides of the
//! difference: what was found there and what was expected.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use driver::units::FileOffset;
use thiserror::Error;

use super::device::{Device, DeviceChoice};

/// A place in a trace file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as its user named it.
    pub file: PathBuf,
    /// Where in it.
    pub offset: FileOffset,
    /// The line, counted from 1, for formats that have lines.
    pub line: Option<u64>,
    /// The file is compressed, and the offset counts what comes out of it.
    pub is_decompressed: bool,
}

impl Place {
    /// The place at `offset` of `file`.
    pub fn new(file: &Path, offset: FileOffset) -> Place {
        Place {
            file: file.to_owned(),
            offset,
            line: None,
            is_decompressed: false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", driver::shown(&self.file))?;
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        let what = if self.is_decompressed {
            "decompressed offset"
        } else {
            "offset"
        };
        write!(f, "{what} {}", self.offset)
    }
}

/// Why a trace cannot be read, or not be written.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The operating system refused.
    #[error("{place}: {}", driver::system_words(error))]
    Io {
        /// Where.
        place: Place,
        /// What it said.
        #[source]
        error: io::Error,
    },
    /// There is no such file, or none that may be opened.
    #[error(
        "{}: opening: {}{}",
        driver::shown(file),
        driver::system_words(error),
        instead(recorded.as_deref())
    )]
    NotOpened {
        /// The file.
        file: PathBuf,
        /// What the operating system said.
        #[source]
        error: io::Error,
        /// The first file of a recording of that name, which is there.
        recorded: Option<PathBuf>,
    },
    /// None of the formats begins like this.
    #[error(
        "{}: the format of this trace cannot be told: found {found} at offset 0, expected one of {}",
        driver::shown(file),
        understood
    )]
    UnknownFormat {
        /// The file.
        file: PathBuf,
        /// Its first bytes.
        found: String,
        /// The formats that are understood, in words.
        understood: &'static str,
    },
    /// The file ends before the trace does.
    #[error("{place}: the trace is cut: found {found}, expected {expected}")]
    Cut {
        /// Where the record, or whatever is incomplete, begins.
        place: Place,
        /// What is left of it.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// The content cannot be right.
    #[error("{place}: found {found}, expected {expected}")]
    Bad {
        /// Where the line, record or field begins.
        place: Place,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// Requests of two devices are mixed, and nobody said which one is meant.
    #[error(
        "{place}: found an event of device {second}, expected only device {first}: choose one of them \
         with --device {first}, or --trace-device {first} of replay"
    )]
    SeveralDevices {
        /// The line of the second device.
        place: Place,
        /// The device seen first.
        first: Device,
        /// The other one.
        second: Device,
    },
    /// One device's requests are asked for, and the trace does not say which device one goes to.
    #[error(
        "{}: found a trace that does not tell devices apart, expected one with device {choice}: \
         leave --device out, or --trace-device of replay",
        driver::shown(file)
    )]
    NoDevices {
        /// The file.
        file: PathBuf,
        /// The device that was asked for.
        choice: DeviceChoice,
    },
    /// A record that may not be written into a trace.
    #[error(
        "{}: record {number} cannot be written: found {found}, expected {expected}",
        driver::shown(file)
    )]
    Refused {
        /// The file being written.
        file: PathBuf,
        /// The record's number, from 0.
        number: u64,
        /// What it says.
        found: String,
        /// What it should.
        expected: String,
    },
    /// The wanted record is past the end of the trace.
    #[error("{}: no record {wanted}: the trace has {records}", driver::shown(file))]
    NoSuchRecord {
        /// The file.
        file: PathBuf,
        /// The wanted record's number, from 0.
        wanted: u64,
        /// How many there are.
        records: u64,
    },
}

impl TraceError {
    /// Whether it is the content of one line or record that is wrong, so that the next one may
    /// be right again.
    pub(super) fn is_bad_content(&self) -> bool {
        matches!(self, TraceError::Bad { .. } | TraceError::Cut { .. })
    }
}

/// At most 100 bytes of `bytes` in quotes, with what is not printable escaped.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const LONGEST: usize = 100;
    let shown = &bytes[..bytes.len().min(LONGEST)];
    let dots = if bytes.len() > LONGEST { "..." } else { "" };
    format!("\"{}\"{dots}", shown.escape_ascii())
}

/// What can be read in the place of a file that is not there.
fn instead(recorded: Option<&Path>) -> String {
    let Some(recorded) = recorded else {
        return String::new();
    };
    let name = driver::shown(recorded);
    format!("; there is {name}: name that, and the files of the other CPUs are read with it")
}
