//! Which format a trace has, told by its first bytes and never by its name: names
//! get lost in pipes and lie in archives.

use super::compact;
use super::ftrace;
use super::vscsi;

/// The first bytes that `detect` wants to see, if there are that many.
pub const PREFIX_LEN: usize = 64 * 1024;

/// A trace format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// Our own: see [`compact`].
    Compact,
    /// VMware's vscsi, version 1 or 2: see [`vscsi`].
    Vscsi(vscsi::Version),
    /// The text of tracefs' `trace` and `trace_pipe`: see [`ftrace`].
    Ftrace,
}

impl Format {
    /// The format's name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Compact => "ubdtrace",
            Format::Vscsi(vscsi::Version::V1) => "vscsi version 1",
            Format::Vscsi(vscsi::Version::V2) => "vscsi version 2",
            Format::Ftrace => "ftrace text",
        }
    }
}

/// The format of the trace that begins with `prefix`, or `None`.
pub fn detect(prefix: &[u8]) -> Option<Format> {
    if prefix.starts_with(&compact::FILE_MAGIC) {
        return Some(Format::Compact);
    }
    if let Some(version) = vscsi::detect(prefix) {
        return Some(Format::Vscsi(version));
    }
    ftrace::detect(prefix).then_some(Format::Ftrace)
}

/// The list for the message that none of them fits.
pub(super) fn understood() -> &'static str {
    "ubdtrace (begins with \"UBDTRACE\"), vscsi version 1 or 2 (binary, 32- or 40-byte records of SCSI reads and \
     writes), ftrace text (lines like \"comm-1 [000] ..... 1.000000: block_rq_issue: 8,0 WS 4096 () 0 + 8 [comm]\")"
}
