//! Traces that come compressed, told by their first bytes like everything else.
//!
//! Memory is bounded: gzip's window is 32 KiB, and of zstd frames those are refused whose window
//! is larger than 128 MiB, which is what zstd's own tool refuses too. The files of a recording
//! that are read side by side share a GiB of windows. Time is bounded by what is read: where far
//! more comes out than any trace is compressed to, reading ends with an error.

use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::TraceError;
use super::input::Input;

/// The largest window of a zstd frame, as a power of two: what zstd's own tool takes.
const WINDOW_LOG: u32 = 27;

/// The windows of all files that are read side by side, as a power of two.
const WINDOWS_LOG: u32 = 30;

/// The smallest bound that there is for a window, as a power of two.
const SMALLEST_WINDOW_LOG: u32 = 10;

/// The most that one byte may stand for. The densest gzip has 1032; text traces have some 20,
/// and the most regular ones a few hundred.
const MOST_FROM_A_BYTE: u64 = 2048;

/// This much may come out of anything.
const FREE: u64 = 64 << 20;

/// How a trace is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Compression {
    /// gzip, also several members one after the other.
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

/// What `stream` holds, decompressed if it is compressed; `name` is what errors call it. It is
/// one of `files` files that are read side by side.
pub(super) fn decompress(
    name: &Path,
    mut stream: impl Read + Send + 'static,
    files: usize,
) -> Result<(Bytes, Option<Compression>), TraceError> {
    let mut prefix = [0; 4];
    let mut input = Input::new(name, &mut stream);
    let length = input.read_up_to(&mut prefix)?;
    let found = Compression::detect(&prefix[..length]);
    let whole = Cursor::new(prefix).take(length as u64).chain(stream);
    let taken_in = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        inner: whole,
        count: Arc::clone(&taken_in),
    };
    let stream: Bytes = match found {
        None => Box::new(counted.inner),
        Some(Compression::Gzip) => {
            let inner = MultiGzDecoder::new(BufReader::new(counted));
            Box::new(Bounded::new(inner, taken_in))
        }
        Some(Compression::Zstd) => {
            let failed = |error: io::Error| Input::new(name, ()).io_error(error);
            let mut inner = zstd::Decoder::new(counted).map_err(failed)?;
            inner.window_log_max(window_log(files)).map_err(failed)?;
            Box::new(Bounded::new(inner, taken_in))
        }
    };
    Ok((stream, found))
}

/// The largest window for each of `files` files.
fn window_log(files: usize) -> u32 {
    let shares = files.max(1).next_power_of_two().ilog2();
    let share = WINDOWS_LOG.saturating_sub(shares);
    share.clamp(SMALLEST_WINDOW_LOG, WINDOW_LOG)
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// What a decoder makes of what it takes in, as long as that is in proportion.
struct Bounded<R> {
    inner: R,
    taken_in: Arc<AtomicU64>,
    given_out: u64,
}

impl<R> Bounded<R> {
    fn new(inner: R, taken_in: Arc<AtomicU64>) -> Bounded<R> {
        let given_out = 0;
        Bounded {
            inner,
            taken_in,
            given_out,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.given_out += read as u64;
        let taken_in = self.taken_in.load(Ordering::Relaxed);
        if self.given_out > FREE && self.given_out / MOST_FROM_A_BYTE > taken_in {
            return Err(io::Error::other(format!(
                "found more than {MOST_FROM_A_BYTE} bytes for each of the {taken_in} compressed \
                 ones before, which is no trace; decompress it first if it is one"
            )));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_side_by_side_share_their_windows() {
        let shares = [1, 8, 9, 64, 1024, 1 << 20, 1 << 30].map(window_log);
        assert_eq!(shares, [27, 27, 26, 24, 20, 10, 10]);
    }
}
