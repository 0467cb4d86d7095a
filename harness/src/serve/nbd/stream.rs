//! A client's socket, of whichever family.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

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
