//! What a service manager hears of a server, by the socket in `NOTIFY_SOCKET`.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::support::cli::{Sandbox, ubdlab_that_heeds_signals};
use crate::support::nbd::Client;
use crate::support::server::Server;

fn served(sandbox: &Sandbox) -> Server {
    let mut command = ubdlab_that_heeds_signals();
    command
        .args(sandbox.args(&["serve", "@cow", "--nbd", "@s"]))
        .env("NOTIFY_SOCKET", sandbox.path("notify"));
    Server::of(command)
}

/// The next message to the manager.
fn heard(manager: &UnixDatagram) -> String {
    let mut message = [0; 64];
    let len = manager.recv(&mut message).unwrap();
    String::from_utf8(message[..len].to_vec()).unwrap()
}

/// Sends a manager messages until it has room for no more.
fn fill(path: &Path) {
    let others = UnixDatagram::unbound().unwrap();
    others.set_nonblocking(true).unwrap();
    others.connect(path).unwrap();
    while others.send(b"from another").is_ok() {}
}

#[test]
fn it_is_told_that_the_server_is_ready_and_that_it_stops() {
    let sandbox = Sandbox::with_device();
    let manager = UnixDatagram::bind(sandbox.path("notify")).unwrap();
    let server = served(&sandbox);
    assert_eq!(heard(&manager), "READY=1\n");
    server.stop();
    assert_eq!(heard(&manager), "STOPPING=1\n");
}

#[test]
fn one_that_does_not_read_keeps_neither_the_clients_nor_the_end() {
    let sandbox = Sandbox::with_device();
    let manager = UnixDatagram::bind(sandbox.path("notify")).unwrap();
    fill(&sandbox.path("notify"));
    let server = served(&sandbox);
    let mut client = Client::connect(&sandbox.path("s"));
    client.read(0, 512);
    drop(client);
    // It hears of the server when it reads.
    while heard(&manager) != "READY=1\n" {}
    fill(&sandbox.path("notify"));
    server.stop();
}
