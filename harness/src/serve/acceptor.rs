//! Waiting for whoever connects to a socket, until somebody says stop.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A socket that is listened on.
pub(super) trait Listens: AsFd {
    /// Who connects.
    type Client;

    fn set_nonblocking(&self) -> io::Result<()>;

    /// Somebody who has connected. Reading from it waits, as writing to it does.
    fn take(&self) -> io::Result<Self::Client>;
}

impl Listens for UnixListener {
    type Client = UnixStream;

    fn set_nonblocking(&self) -> io::Result<()> {
        UnixListener::set_nonblocking(self, true)
    }

    fn take(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.accept()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

impl Listens for TcpListener {
    type Client = (TcpStream, SocketAddr);

    fn set_nonblocking(&self) -> io::Result<()> {
        TcpListener::set_nonblocking(self, true)
    }

    fn take(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, from) = self.accept()?;
        stream.set_nonblocking(false)?;
        Ok((stream, from))
    }
}

/// Accepts until it is stopped. The socket itself is not shut down by that: one that was handed
/// over belongs to whoever made it.
#[derive(Debug)]
pub(super) struct Acceptor<L> {
    listener: L,
    /// Shutting it down wakes whoever waits at the other end.
    wake: UnixStream,
    woken: UnixStream,
}

impl<L: Listens> Acceptor<L> {
    /// Accepts whoever connects to `listener`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(listener: L) -> io::Result<Acceptor<L>> {
        listener.set_nonblocking()?;
        let (wake, woken) = UnixStream::pair()?;
        Ok(Acceptor {
            listener,
            wake,
            woken,
        })
    }

    /// The socket.
    pub(super) fn listener(&self) -> &L {
        &self.listener
    }

    /// Waits for somebody who connects. `None` after [`Acceptor::stop`].
    ///
    /// # Errors
    /// The system's; one client's mishap is none.
    pub(super) fn accept(&self) -> io::Result<Option<L::Client>> {
        loop {
            let mut fds = [
                PollFd::new(&self.woken, PollFlags::IN),
                PollFd::new(&self.listener, PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
            if !fds[0].revents().is_empty() {
                return Ok(None);
            }
            match self.listener.take() {
                Ok(client) => return Ok(Some(client)),
                Err(error) if is_a_mishap(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Nobody is accepted any more; whoever waits in [`Acceptor::accept`] returns.
    pub(super) fn stop(&self) {
        // Its only error is that it has been shut down already.
        let _ = self.wake.shutdown(Shutdown::Both);
    }
}

/// Whether only the client that was to be accepted has gone. Linux also tells here what the network
/// has done to its connection.
fn is_a_mishap(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::AGAIN
                | Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NONET
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_connects_is_accepted_until_the_stop_and_the_socket_stays_open() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = listener.try_clone().unwrap();
        let acceptor = Acceptor::new(listener).unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (_, from) = acceptor.accept().unwrap().unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| acceptor.accept().unwrap().is_none());
            acceptor.stop();
            assert!(waits.join().unwrap());
        });
        assert!(acceptor.accept().unwrap().is_none(), "and once more");
        drop(acceptor);
        // As another process would, to which the socket belongs.
        assert!(TcpStream::connect(address).is_ok());
        assert!(kept.take().is_ok());
    }

    #[test]
    fn a_client_that_has_gone_is_no_error_of_the_socket() {
        for (errno, expected) in [
            (Errno::CONNABORTED, true),
            (Errno::HOSTUNREACH, true),
            (Errno::MFILE, false),
            (Errno::INVAL, false),
        ] {
            assert_eq!(is_a_mishap(&errno.into()), expected, "{errno}");
        }
    }
}
