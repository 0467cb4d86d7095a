//! A client's socket, of whichever family.

use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt;

use crate::clock::{self, Started};

/// How long a TCP client may say nothing before it is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(60);

/// How long it is waited for an answer to that before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// How often it is asked.
const TIMES_ASKED: u32 = 6;

/// How long a TCP client may leave what it is sent without an acknowledgement, in milliseconds. No
/// question is asked meanwhile.
const UNACKNOWLEDGED_MS: u32 = 120_000;

/// Bytes that are thrown away at once.
const SKIPPED_AT_ONCE: usize = 4096;

/// A connected socket.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Asks the same of either.
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

    /// Replies are not held back to be sent together, and a client whose machine has vanished is
    /// noticed.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let Stream::Tcp(stream) = self else {
            return Ok(());
        };
        stream.set_nodelay(true)?;
        sockopt::set_tcp_keepidle(stream, QUIET)?;
        sockopt::set_tcp_keepintvl(stream, ASK_AGAIN)?;
        sockopt::set_tcp_keepcnt(stream, TIMES_ASKED)?;
        sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS)?;
        Ok(sockopt::set_socket_keepalive(stream, true)?)
    }

    /// Ends it in one direction or both. One that has ended already stays so.
    pub(super) fn shutdown(&self, how: Shutdown) {
        let _ = of_both!(self, stream => stream.shutdown(how));
    }
}

/// How long a message of this length may take: the patience that the client is given, and a second
/// for each MiB.
pub(super) fn time_for(bytes: usize, patience: Duration) -> Duration {
    patience + Duration::from_millis(bytes as u64 / 1024)
}

/// A socket whose client has a certain time for all that it has to say and to hear.
#[derive(Debug)]
pub(super) struct Hurried<'a> {
    stream: &'a Stream,
    /// How long it may keep silent.
    patience: Duration,
    started: Started,
    time: Duration,
}

impl<'a> Hurried<'a> {
    /// The time begins now.
    pub(super) fn new(stream: &'a Stream, patience: Duration, time: Duration) -> Hurried<'a> {
        Hurried {
            stream,
            patience,
            started: clock::start(),
            time,
        }
    }

    /// Whether the time is over.
    pub(super) fn is_over(&self) -> bool {
        self.started.elapsed() >= self.time
    }

    /// Gives the socket what is left of the time.
    fn hurry(&self) -> io::Result<()> {
        let left = self.time.saturating_sub(self.started.elapsed());
        match left.is_zero() {
            true => Err(ErrorKind::TimedOut.into()),
            false => self.stream.set_patience(self.patience.min(left)),
        }
    }
}

impl Read for &Hurried<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.hurry()?;
        (&mut &*self.stream).read(buffer)
    }
}

impl Write for &Hurried<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hurry()?;
        (&mut &*self.stream).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

/// Writes all of `slices` to a client in `time`.
///
/// # Errors
/// The host's; `TimedOut` if it takes longer, however little it takes at a time.
pub(super) fn write_in_time(
    mut output: impl Write,
    mut slices: &mut [IoSlice<'_>],
    time: Duration,
) -> io::Result<()> {
    let started = clock::start();
    // Those that are empty go.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match output.write_vectored(slices) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !slices.is_empty() && started.elapsed() > time {
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

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        of_both!(self, stream => (&mut &*stream).write_vectored(slices))
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
        let write = |time| kind(write_in_time(Trickles, &mut [IoSlice::new(b"no")], time));
        assert_eq!(write(Duration::ZERO), Err(ErrorKind::TimedOut));
        assert_eq!(write(Duration::MAX), Ok(()));
        assert_eq!(time_for(32 << 20, Duration::from_secs(20)).as_secs(), 52);
        let mut skip = |time| kind(skip_in_time(&mut input, 1 << 20, time));
        assert_eq!(skip(Duration::ZERO), Err(ErrorKind::TimedOut));
        assert_eq!(skip(Duration::MAX), Ok(()));
    }

    #[test]
    fn a_client_that_always_says_something_is_not_heard_for_ever() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let talks = std::thread::spawn(move || while client.write_all(b"on and on").is_ok() {});
        let server = Stream::Unix(server);
        let patience = Duration::from_secs(600);
        let hurried = Hurried::new(&server, patience, Duration::from_millis(20));
        let error = loop {
            if let Err(error) = (&mut &hurried).read(&mut [0; 1]) {
                break error;
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(hurried.is_over());
        drop(server);
        talks.join().unwrap();
    }

    /// Without that, one whose machine has lost its power would keep its connection for ever.
    #[test]
    fn a_tcp_client_is_asked_whether_it_is_still_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let stream = Stream::Tcp(accepted);
        stream.prepare().unwrap();
        let Stream::Tcp(stream) = &stream else {
            unreachable!("it was made of one")
        };
        assert!(sockopt::socket_keepalive(stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(stream).unwrap(), QUIET);
        assert_eq!(sockopt::tcp_keepintvl(stream).unwrap(), ASK_AGAIN);
        assert_eq!(sockopt::tcp_keepcnt(stream).unwrap(), TIMES_ASKED);
        assert_eq!(
            sockopt::tcp_user_timeout(stream).unwrap(),
            UNACKNOWLEDGED_MS
        );
    }
}
