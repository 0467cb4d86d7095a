//! Traces that come compressed, told by their first bytes like everything else.
//!
//! Memory is bounded: gzip's window is 32 KiB, and of zstd frames those are refused whose
//! window is larger than 128 MiB, which is what zstd's own tool refuses too.

use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::TraceError;
use super::input::Input;

/// How a trace is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// gzip, also several members one behind the other.
    Gzip,
    /// zstd, also several frames.
    Zstd,
}

impl Compression {
    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }

    fn detect(prefix: &[u8]) -> Option<Compression> {
        match prefix {
            [0x1f, 0x8b, 8, ..] => Some(Compression::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zstd),
            _ => None,
        }
    }
}

/// A stream of bytes from anywhere.
pub(super) type Bytes = Box<dyn Read + Send>;

/// What `stream` holds, decompressed if it is compressed; `name` is what errors call it.
pub(super) fn decompress(
    name: &Path,
    mut stream: impl Read + Send + 'static,
) -> Result<(Bytes, Option<Compression>), TraceError> {
    let mut prefix = [0; 4];
    let mut input = Input::new(name, &mut stream);
    let length = input.read_up_to(&mut prefix)?;
    let found = Compression::detect(&prefix[..length]);
    let whole = Cursor::new(prefix).take(length as u64).chain(stream);
    let stream: Bytes = match found {
        None => Box::new(whole),
        Some(Compression::Gzip) => Box::new(MultiGzDecoder::new(BufReader::new(whole))),
        Some(Compression::Zstd) => {
            let failed = |error: io::Error| Input::new(name, ()).io_error(error);
            Box::new(zstd::Decoder::new(whole).map_err(failed)?)
        }
    };
    Ok((stream, found))
}
