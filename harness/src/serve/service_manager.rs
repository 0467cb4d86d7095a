//! The service manager that has started the server, and wants to hear when it is ready and when it
//! stops: `NOTIFY_SOCKET`, as systemd has it.
//!
//! The server never waits for a manager. One that does not read its socket hears that the server is
//! ready when it reads again.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Names the socket: a path, or `@` and the name of an abstract one.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Says that the server is ready. Where there is no manager, nothing is said.
///
/// # Errors
/// The system's: the manager will not hear of it.
pub fn ready() -> io::Result<()> {
    let Some((manager, sent)) = say(b"READY=1\n")? else {
        return Ok(());
    };
    match sent {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            manager.set_nonblocking(false)?;
            // Nobody waits for this thread, and it ends with the process.
            let thread = std::thread::Builder::new().name("service-manager".into());
            thread.spawn(move || manager.send(b"READY=1\n")).map(drop)
        }
        sent => sent,
    }
}

/// Says that the server stops. A manager that does not hear it sees the process end.
pub fn stopping() {
    let _ = say(b"STOPPING=1\n");
}

/// Sends the manager a message, if there is one: its socket, and what became of the message.
fn say(message: &[u8]) -> io::Result<Option<(UnixDatagram, io::Result<()>)>> {
    let Some(name) = std::env::var_os(SOCKET) else {
        return Ok(None);
    };
    let manager = UnixDatagram::unbound()?;
    manager.set_nonblocking(true)?;
    manager.connect_addr(&address(&name)?)?;
    let sent = manager.send(message).map(drop);
    Ok(Some((manager, sent)))
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}
