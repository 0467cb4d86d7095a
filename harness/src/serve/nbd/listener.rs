//! The endpoint: sockets that connections come from, and the connections.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::super::address::Address;
use super::super::export::Export;
use super::super::server::Endpoint;
use super::super::socket::{Listening, listen};
use super::connection;
use super::stream::Stream;

/// The most connections of an endpoint at a time. Those that come after are refused.
pub const MOST_CONNECTIONS: usize = 1024;

/// How long a client may stop in the middle of a message, or not take its replies.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The stack of a thread of a connection: its buffers are elsewhere.
pub(super) const STACK: usize = 128 << 10;

/// NBD clients of an export, wherever they come from.
#[derive(Debug)]
pub struct Nbd {
    place: String,
    /// Closing the other end wakes the thread that listens.
    wake: UnixStream,
    listening: JoinHandle<()>,
    connections: Arc<Connections>,
}

/// A socket that listens.
#[derive(Debug)]
enum Socket {
    /// At a path of its own.
    Own(Listening),
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Socket {
    fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Socket::Own(listening) => accept_unix(listening.listener()),
            Socket::Unix(listener) => accept_unix(listener),
            Socket::Tcp(listener) => {
                let (stream, from) = listener.accept()?;
                stream.set_nonblocking(false)?;
                Ok((Stream::Tcp(stream), from.to_string()))
            }
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Socket::Own(listening) => listening.listener().set_nonblocking(true),
            Socket::Unix(listener) => listener.set_nonblocking(true),
            Socket::Tcp(listener) => listener.set_nonblocking(true),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Own(listening) => listening.listener().as_fd(),
            Socket::Unix(listener) => listener.as_fd(),
            Socket::Tcp(listener) => listener.as_fd(),
        }
    }
}

fn accept_unix(listener: &UnixListener) -> io::Result<(Stream, String)> {
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(false)?;
    let who = rustix::net::sockopt::socket_peercred(&stream);
    let who = who.map(|peer| format!("process {}", peer.pid.as_raw_nonzero()));
    let who = who.unwrap_or_else(|_| "somebody".into());
    Ok((Stream::Unix(stream), who))
}

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
#[error("NBD at {place}: {why}")]
pub struct CannotListen {
    place: String,
    why: String,
}

impl Nbd {
    /// Begins to listen.
    ///
    /// # Errors
    /// Why not.
    pub fn listen(
        export: &Export,
        address: &Address,
        allow_remote: bool,
        patience: Duration,
    ) -> Result<Nbd, CannotListen> {
        let place = format!("NBD at {address}");
        let failed = |why: String| CannotListen {
            place: address.to_string(),
            why,
        };
        let of_system = |error: io::Error| failed(driver::system_words(&error));
        let sockets = sockets(address, allow_remote).map_err(failed)?;
        for socket in &sockets {
            socket.set_nonblocking().map_err(of_system)?;
        }
        let (wake, woken) = UnixStream::pair().map_err(of_system)?;
        let connections = Arc::new(Connections {
            export: export.clone(),
            patience,
            open: Mutex::new(Open::default()),
            one_less: Condvar::new(),
            is_ending: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&connections);
        let listening = std::thread::Builder::new()
            .name("nbd-listen".into())
            .spawn(move || accept_all(&sockets, &woken, &accepting))
            .map_err(of_system)?;
        Ok(Nbd {
            place,
            wake,
            listening,
            connections,
        })
    }
}

impl Endpoint for Nbd {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn stop(self: Box<Self>) {
        drop(self.wake);
        // It has accepted its last connection when it ends.
        let _ = self.listening.join();
        self.connections.end_all();
    }
}

fn sockets(address: &Address, allow_remote: bool) -> Result<Vec<Socket>, String> {
    let of_system = |error: io::Error| driver::system_words(&error);
    match address {
        Address::Unix(path) => Ok(vec![Socket::Own(listen(path)?)]),
        Address::Tcp(address) => {
            if !address.ip().is_loopback() && !allow_remote {
                return Err(
                    "other machines could use the disk, without encryption and without a \
                     password: --allow-remote allows that"
                        .into(),
                );
            }
            let listener = TcpListener::bind(address).map_err(of_system)?;
            Ok(vec![Socket::Tcp(listener)])
        }
        Address::Activated => handed_over(),
    }
}

/// The sockets that whoever started the program has opened for it.
fn handed_over() -> Result<Vec<Socket>, String> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        if let Ok(Some(listener)) = handed.take_unix_listener(index) {
            sockets.push(Socket::Unix(listener));
        } else if let Ok(Some(listener)) = handed.take_tcp_listener(index) {
            sockets.push(Socket::Tcp(listener));
        } else {
            return Err(format!(
                "found that descriptor {} is no socket that listens, expected one",
                3 + index
            ));
        }
    }
    match sockets.is_empty() {
        false => Ok(sockets),
        true => Err(
            "found no socket, expected some in LISTEN_FDS and LISTEN_PID, as systemd and \
             nbdinfo [ ... ] pass them"
                .into(),
        ),
    }
}

/// Accepts connections until the other end of `woken` is closed.
fn accept_all(sockets: &[Socket], woken: &UnixStream, connections: &Arc<Connections>) {
    loop {
        let fds = sockets
            .iter()
            .map(|socket| PollFd::new(socket, PollFlags::IN));
        let mut fds: Vec<_> = fds.chain([PollFd::new(woken, PollFlags::IN)]).collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready.last() == Some(&true) {
            return;
        }
        for (socket, _) in sockets.iter().zip(ready).filter(|(_, ready)| *ready) {
            match socket.accept() {
                Ok((stream, from)) => connections.begin(stream, from),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock
                            | ErrorKind::Interrupted
                            | ErrorKind::ConnectionAborted
                    ) => {}
                // There may be too many files open: one connection less helps.
                Err(error) => {
                    let words = driver::system_words(&error);
                    let export = &connections.export;
                    export.tell(&format_args!("NBD: accepting a connection: {words}"));
                    connections.wait_for_one_less();
                }
            }
        }
    }
}

#[derive(Debug)]
struct Connections {
    export: Export,
    patience: Duration,
    open: Mutex<Open>,
    one_less: Condvar,
    /// No more requests are taken.
    is_ending: AtomicBool,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    streams: BTreeMap<u64, Arc<Stream>>,
    /// That there are too many has been said, and nothing has changed since.
    said: bool,
}

/// A connection is open as long as this is there.
struct IsOpen {
    number: u64,
    of: Arc<Connections>,
}

impl Drop for IsOpen {
    fn drop(&mut self) {
        let mut open = self.of.open();
        open.streams.remove(&self.number);
        open.said = false;
        drop(open);
        self.of.one_less.notify_all();
    }
}

impl Connections {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a client on a thread of its own.
    fn begin(self: &Arc<Connections>, stream: Stream, from: String) {
        let name = format!("NBD, {from}");
        let prepared = stream
            .set_patience(self.patience)
            .and_then(|()| stream.set_no_delay());
        if let Err(error) = prepared {
            let words = driver::system_words(&error);
            return self.export.tell(&format_args!("{name}: {words}"));
        }
        let stream = Arc::new(stream);
        let mut open = self.open();
        if open.streams.len() >= MOST_CONNECTIONS {
            let said = std::mem::replace(&mut open.said, true);
            drop(open);
            if !said {
                self.export.tell(&format_args!(
                    "{name}: refused: {MOST_CONNECTIONS} connections are open"
                ));
            }
            return;
        }
        let number = open.next;
        open.next += 1;
        open.streams.insert(number, Arc::clone(&stream));
        drop(open);
        let is_open = IsOpen {
            number,
            of: Arc::clone(self),
        };
        let serve = move || {
            let export = &is_open.of.export;
            let manner = (&is_open.of.is_ending, is_open.of.patience);
            if let Err(cut_off) = connection::serve(export, &stream, &name, manner)
                && !cut_off.is_usual()
            {
                export.tell(&format_args!("{name}: cut off: {cut_off}"));
            }
        };
        let thread = std::thread::Builder::new().name("nbd".into());
        if let Err(error) = thread.stack_size(STACK).spawn(serve) {
            // What was to serve it is dropped, and with it the connection.
            let words = driver::system_words(&error);
            self.export
                .tell(&format_args!("NBD: starting a thread: {words}"));
        }
    }

    fn wait_for_one_less(&self) {
        let open = self.open();
        let before = open.streams.len();
        let is_still = |open: &mut Open| open.streams.len() >= before;
        // Where files are short for another reason, looking once a second costs little.
        drop(
            self.one_less
                .wait_timeout_while(open, Duration::from_secs(1), is_still),
        );
    }

    /// Lets every client go when what it has in flight is answered. One that does not take its
    /// answers in time is cut off.
    fn end_all(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
        let open = self.open();
        for stream in open.streams.values() {
            // It may be waiting for a request.
            stream.shutdown(Shutdown::Read);
        }
        let some_are_left = |open: &mut Open| !open.streams.is_empty();
        let waited = self
            .one_less
            .wait_timeout_while(open, self.patience, some_are_left);
        let (open, _) = waited.unwrap_or_else(PoisonError::into_inner);
        for stream in open.streams.values() {
            stream.shutdown(Shutdown::Both);
        }
        let waited = self.one_less.wait_while(open, some_are_left);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
