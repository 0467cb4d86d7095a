//! Notes of what is in flight that are lent and given back on one connection, as by a QEMU whose
//! guest is reset or paused; and when a killed server has lost nothing.

use std::sync::Arc;

use super::front_end::{FLUSH, FrontEnd, Kind, OUT, READ, SIMPLE};
use super::killed_server::{ARGS, replaced};
use super::one_client::served;
use crate::support::cli::Sandbox;
use crate::support::server::Server;

const KEEPS_NOTES: Kind = Kind {
    keeps_notes: true,
    ..SIMPLE
};

/// A guest that crashes has not flushed. When it has started again, it reads what it wrote, and
/// nothing takes that away.
#[test]
fn what_a_guest_wrote_before_its_reset_outlives_the_server() {
    let sandbox = Sandbox::with_device();
    let server = Server::start(&sandbox, &ARGS);
    let socket = sandbox.path("s");
    let mut client = FrontEnd::of_kind(&socket, KEEPS_NOTES);
    assert_eq!(client.request(OUT, 0, [1; 4096]).0, 0);
    client.stop_queue(0);
    client.borrow_notes();
    client.give_notes().unwrap();
    client.start_queue(0);
    assert_eq!(client.request(READ, 0, [0; 4096]), (0, [1; 4096]));
    let server = replaced(server, &sandbox);
    let mut client = client.reconnect(&socket);
    assert_eq!(client.request(READ, 0, [0; 4096]), (0, [1; 4096]));

    // The new notes count too.
    assert_eq!(client.request(OUT, 8, [2; 4096]).0, 0);
    let server = replaced(server, &sandbox);
    assert!(client.try_reconnect(&socket).is_err());
    server.stop();
}

/// QEMU gives the notes back whenever it starts its queues.
#[test]
fn a_guest_that_was_paused_goes_on_with_its_notes() {
    let sandbox = Sandbox::with_device();
    let server = Server::start(&sandbox, &ARGS);
    let socket = sandbox.path("s");
    let mut client = FrontEnd::of_kind(&socket, KEEPS_NOTES);
    for round in 1..4 {
        assert_eq!(client.request(OUT, 0, [round; 4096]).0, 0);
        client.stop_queue(0);
        client.give_notes().unwrap();
        client.start_queue(0);
        assert_eq!(client.request(READ, 0, [0; 4096]), (0, [round; 4096]));
    }
    assert_eq!(client.request(FLUSH, 0, [0; 4096]).0, 0);
    let server = replaced(server, &sandbox);
    let mut client = client.reconnect(&socket);
    assert_eq!(client.request(READ, 0, [0; 4096]), (0, [3; 4096]));
    drop(client);
    let said = server.stop();
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn notes_are_not_exchanged_under_a_queue_that_is_running() {
    let served = served();
    let told = Arc::clone(&served.told);
    let mut client = FrontEnd::of_kind(&served.socket(), KEEPS_NOTES);
    assert_eq!(client.request(READ, 0, [0; 4096]), (0, [1; 4096]));
    assert!(client.give_notes().is_err());
    drop(client);
    served.close();
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("found a queue that is running"),
        "{told:?}"
    );
}

#[test]
fn a_synchronous_device_loses_nothing_with_its_server() {
    let sandbox = Sandbox::with_device();
    let args = ["ubdas=@cow", "--vhost-user", "@s"];
    let server = Server::start(&sandbox, &args);
    let socket = sandbox.path("s");
    let mut client = FrontEnd::of_kind(&socket, KEEPS_NOTES);
    assert_eq!(client.request(OUT, 0, [1; 4096]).0, 0);
    server.kill();
    let server = Server::start(&sandbox, &args);
    let mut client = client.reconnect(&socket);
    assert_eq!(client.request(READ, 0, [0; 4096]), (0, [1; 4096]));
    drop(client);
    server.stop();
}
