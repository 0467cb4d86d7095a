//! The endpoint: the sockets that connections come from.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::super::acceptor::Acceptor;
use super::super::address::Address;
use super::super::export::Export;
use super::super::handed_over;
use super::super::server::Endpoint;
use super::super::socket::{Listening, listen};
use super::abilities::Abilities;
use super::crowd::Crowd;
use super::stream::Stream;

/// How long a client may stop in the middle of a message, or not take its replies.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// NBD clients of an export, wherever they come from.
#[derive(Debug)]
pub struct Nbd {
    place: String,
    sockets: Vec<Arc<Socket>>,
    /// One for each socket.
    accepting: Vec<JoinHandle<()>>,
    crowd: Arc<Crowd>,
}

/// A socket that listens.
#[derive(Debug)]
enum Socket {
    /// At a path of its own.
    Own(Listening),
    Unix(Acceptor<UnixListener>),
    Tcp(Acceptor<TcpListener>),
}

impl Socket {
    /// Waits for a client: its connection, and who it is. `None` when it has been stopped.
    fn accept(&self) -> io::Result<Option<(Stream, String)>> {
        let accepted = match self {
            Socket::Own(listening) => listening.accept()?.map(of_unix),
            Socket::Unix(acceptor) => acceptor.accept()?.map(of_unix),
            Socket::Tcp(acceptor) => acceptor
                .accept()?
                .map(|(stream, from)| (Stream::Tcp(stream), from.to_string())),
        };
        Ok(accepted)
    }

    fn stop(&self) {
        match self {
            Socket::Own(listening) => listening.stop(),
            Socket::Unix(acceptor) => acceptor.stop(),
            Socket::Tcp(acceptor) => acceptor.stop(),
        }
    }
}

fn of_unix(stream: UnixStream) -> (Stream, String) {
    // Of one in another container the kernel says 0, which rustix takes for no number.
    let peer = getsockopt(&stream, PeerCredentials).map(|peer| peer.pid());
    let who = match peer {
        Ok(pid) if pid > 0 => format!("process {pid}"),
        _ => "somebody".into(),
    };
    (Stream::Unix(stream), who)
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
        let failed = |why: String| CannotListen {
            place: address.to_string(),
            why,
        };
        let sockets = sockets(address, allow_remote).map_err(failed)?;
        let abilities = Abilities::of(export).map_err(|error| failed(error.to_string()))?;
        let mut nbd = Nbd {
            place: format!("NBD at {}", place(address, &sockets)),
            sockets: sockets.into_iter().map(Arc::new).collect(),
            accepting: Vec::new(),
            crowd: Crowd::new(export.clone(), abilities, patience),
        };
        for socket in &nbd.sockets {
            let (socket, crowd) = (Arc::clone(socket), Arc::clone(&nbd.crowd));
            let thread = std::thread::Builder::new().name("nbd-listen".into());
            let spawned = thread.spawn(move || accept_all(&socket, &crowd));
            let spawned = spawned.map_err(|error| failed(driver::system_words(&error)))?;
            nbd.accepting.push(spawned);
        }
        Ok(nbd)
    }
}

impl Endpoint for Nbd {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn stop(self: Box<Self>) {
        drop(self);
    }
}

/// However an endpoint goes, its clients are answered and its socket is removed.
impl Drop for Nbd {
    fn drop(&mut self) {
        for socket in &self.sockets {
            socket.stop();
        }
        for thread in self.accepting.drain(..) {
            // It has accepted its last connection when it ends.
            let _ = thread.join();
        }
        self.crowd.end_all();
    }
}

/// Where it listens. Of a TCP port that the system was to choose, where that is.
fn place(address: &Address, sockets: &[Socket]) -> String {
    match (address, sockets) {
        (Address::Tcp(_), [Socket::Tcp(acceptor)]) => acceptor
            .listener()
            .local_addr()
            .map_or_else(|_| address.to_string(), |chosen| chosen.to_string()),
        _ => address.to_string(),
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
            let acceptor = Acceptor::new(listener).map_err(of_system)?;
            Ok(vec![Socket::Tcp(acceptor)])
        }
        Address::Activated => handed_over(),
    }
}

/// The sockets that whoever started the program has opened for it.
fn handed_over() -> Result<Vec<Socket>, String> {
    let of_system = |error: io::Error| driver::system_words(&error);
    let mut handed = match handed_over::count()? {
        0 => listenfd::ListenFd::empty(),
        _ => listenfd::ListenFd::from_env(),
    };
    let mut sockets = Vec::new();
    for index in 0..handed.len() {
        if let Ok(Some(listener)) = handed.take_unix_listener(index)
            && listens(&listener)
        {
            let acceptor = Acceptor::new(listener).map_err(of_system)?;
            sockets.push(Socket::Unix(acceptor));
        } else if let Ok(Some(listener)) = handed.take_tcp_listener(index)
            && listens(&listener)
        {
            let acceptor = Acceptor::new(listener).map_err(of_system)?;
            sockets.push(Socket::Tcp(acceptor));
        } else {
            return Err(format!(
                "found that descriptor {} is no socket that listens, expected one",
                handed_over::FIRST + index
            ));
        }
    }
    match sockets.is_empty() {
        false => Ok(sockets),
        true => Err(
            "found no socket, expected some in LISTEN_FDS and LISTEN_PID, as systemd and \
             nbdinfo -- [ ... ] pass them"
                .into(),
        ),
    }
}

/// Whether connections can come in at a socket.
fn listens(socket: &impl AsFd) -> bool {
    rustix::net::sockopt::socket_acceptconn(socket).unwrap_or(false)
}

/// Accepts connections until the socket is stopped. An error is said once, until a client comes.
fn accept_all(socket: &Socket, crowd: &Arc<Crowd>) {
    let mut said = None;
    loop {
        match socket.accept() {
            Ok(Some((stream, from))) => {
                said = None;
                crowd.begin(stream, from);
            }
            Ok(None) => return,
            Err(error) => {
                let words = driver::system_words(&error);
                if said.as_ref() != Some(&words) {
                    crowd.tell(&format_args!("NBD: accepting a connection: {words}"));
                    said = Some(words);
                }
                // There may be too many files open: one connection less helps.
                crowd.wait_for_one_less();
            }
        }
    }
}
