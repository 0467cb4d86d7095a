//! A client's socket, of whichever family.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::clock;

/// Bytes that are thrown away at once.
const SKIPPED_AT_ONCE: usize = 4096;

/// A connected socket.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// The same of both.
macro_rules! of_both {
    ($self:ident, $stream:ident => $what:expr) => {
        match $self {
            Stream::Unix($stream) => $what,
            Stream::Tcp($stream) => $what,
        }
    };
}

impl Stream {
    /// How long to wait for the client to send something, and to take something.
    pub(super) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        of_both!(self, stream => {
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))
        })
    }

    /// Replies are not held back to be sent together.
    pub(super) fn set_no_delay(&self) -> io::Result<()> {
        match self {
            Stream::Unix(_) => Ok(()),
            Stream::Tcp(stream) => stream.set_nodelay(true),
        }
    }

    /// Ends it in one direction or both. One that has ended already stays so.
    pub(super) fn shutdown(&self, how: Shutdown) {
        let _ = of_both!(self, stream => stream.shutdown(how));
    }
}

/// How long a message of so many bytes may take of a client to whom so much patience is given: at
/// least a MiB a second, beside that.
pub(super) fn time_for(bytes: usize, patience: Duration) -> Duration {
    patience + Duration::from_millis(bytes as u64 / 1024)
}

/// Whether the time is up that was given to the client.
pub(super) fn is_impatience(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Fills `data`, which a client has begun to send, in `time`.
///
/// # Errors
/// The host's; `TimedOut` if it takes longer, however little comes at a time.
pub(super) fn read_in_time(
    input: &mut impl BufRead,
    mut data: &mut [u8],
    time: Duration,
) -> io::Result<()> {
    let started = clock::start();
    while !data.is_empty() {
        match input.read(data) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => data = &mut data[read..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !data.is_empty() && started.elapsed() > time {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

/// Throws away what a client sends next, `len` bytes, in `time`.
///
/// # Errors
/// As [`read_in_time`].
pub(super) fn skip_in_time(
    input: &mut impl BufRead,
    mut len: usize,
    time: Duration,
) -> io::Result<()> {
    let started = clock::start();
    let mut chunk = [0; SKIPPED_AT_ONCE];
    while len > 0 {
        let now = len.min(SKIPPED_AT_ONCE);
        let left = time.saturating_sub(started.elapsed());
        read_in_time(input, &mut chunk[..now], left)?;
        len -= now;
    }
    Ok(())
}

/// Writes all of `bytes` to a client in `time`.
///
/// # Errors
/// The host's; `TimedOut` if it takes longer, however little it takes at a time.
pub(super) fn write_in_time(
    mut output: impl Write,
    mut bytes: &[u8],
    time: Duration,
) -> io::Result<()> {
    let started = clock::start();
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !bytes.is_empty() && started.elapsed() > time {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        of_both!(self, stream => (&mut &*stream).read(buffer))
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        of_both!(self, stream => (&mut &*stream).write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// Sends or takes a byte at a time, for ever.
    struct Trickles;

    impl Read for Trickles {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer[0] = 1;
            Ok(1)
        }
    }

    impl Write for Trickles {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Ok(1)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_client_that_trickles_is_given_no_more_time_than_others() {
        let kind = |done: io::Result<()>| done.map_err(|error| error.kind());
        let mut input = BufReader::with_capacity(1, Trickles);
        let mut read = |len, time| kind(read_in_time(&mut input, &mut vec![0; len], time));
        assert_eq!(read(2, Duration::ZERO), Err(ErrorKind::TimedOut));
        assert_eq!(read(2, Duration::MAX), Ok(()));
        let write = |time| kind(write_in_time(Trickles, b"no", time));
        assert_eq!(write(Duration::ZERO), Err(ErrorKind::TimedOut));
        assert_eq!(write(Duration::MAX), Ok(()));
        assert_eq!(time_for(32 << 20, Duration::from_secs(20)).as_secs(), 52);
        let mut skip = |time| kind(skip_in_time(&mut input, 1 << 20, time));
        assert_eq!(skip(Duration::ZERO), Err(ErrorKind::TimedOut));
        assert_eq!(skip(Duration::MAX), Ok(()));
    }
}
