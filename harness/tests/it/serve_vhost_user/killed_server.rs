//! The server is killed under a client that keeps notes of what is in flight, and goes on with the
//! next server; or is told that it cannot.

use super::front_end::{DEPTH, FLUSH, FrontEnd, Kind, OUT, READ, SIMPLE};
use super::one_client::{all_places, sorted};
use crate::support::cli::Sandbox;
use crate::support::server::Server;

pub(super) const ARGS: [&str; 3] = ["@cow", "--vhost-user", "@s"];

/// Kills a server, and starts the next one.
pub(super) fn replaced(server: Server, sandbox: &Sandbox) -> Server {
    server.kill();
    Server::start(sandbox, &ARGS)
}

/// A client that relies on each write loses nothing with the server, and so it goes on, whatever
/// was in flight.
#[test]
fn each_request_in_flight_is_answered_once() {
    let sandbox = Sandbox::with_device();
    let mut server = Server::start(&sandbox, &ARGS);
    let kind = Kind {
        flushes: false,
        keeps_notes: true,
        ..SIMPLE
    };
    let socket = sandbox.path("s");
    let mut client = FrontEnd::of_kind(&socket, kind);
    // The notes have begun.
    assert_eq!(client.request(OUT, 0, [0xff; 4096]).0, 0);
    for round in 0..16u8 {
        let content = |place: u16| (place as u8).wrapping_mul(5).wrapping_add(round);
        let mut back = match round % 4 {
            // None, some or all have been taken, and none has been answered. When a running server
            // is killed, all may have been answered.
            0 => {
                client.stop_queue(0);
                client.offer_all(OUT, content);
                let taken = u16::from(round) * DEPTH / 12;
                client.note_taken(taken);
                assert_eq!(client.noted(), usize::from(taken));
                Vec::new()
            }
            // None, some or most of them have come back.
            part => {
                client.offer_all(OUT, content);
                client.queue(0).wait_for(usize::from(part - 1) * 12)
            }
        };
        server = replaced(server, &sandbox);
        client = client.reconnect(&socket);
        back.extend(client.wait());
        assert_eq!(sorted(back), all_places(), "round {round}");
        // An answer shows before its note goes, and all has gone when the queue is stopped.
        client.stop_queue(0);
        assert_eq!(client.noted(), 0);
        client.start_queue(0);
        for place in 0..DEPTH {
            assert_eq!(client.answer(place).0, 0);
        }
        // Reads may be in flight too.
        client.offer_all(READ, |_| 0xff);
        let mut back = client.back();
        server = replaced(server, &sandbox);
        client = client.reconnect(&socket);
        back.extend(client.wait());
        assert_eq!(sorted(back), all_places(), "round {round}");
        for place in 0..DEPTH {
            let expected = (0, [content(place); 4096]);
            assert!(client.answer(place) == expected, "round {round}: {place}");
        }
    }
    drop(client);
    let said = server.stop();
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_was_flushed_is_there_and_without_a_flush_the_client_is_told() {
    let sandbox = Sandbox::with_device();
    let server = Server::start(&sandbox, &ARGS);
    let kind = Kind {
        keeps_notes: true,
        ..SIMPLE
    };
    let socket = sandbox.path("s");
    let mut client = FrontEnd::of_kind(&socket, kind);
    assert_eq!(client.request(OUT, 0, [1; 4096]).0, 0);
    assert_eq!(client.request(FLUSH, 0, [0; 4096]).0, 0);
    let server = replaced(server, &sandbox);
    let mut client = client.reconnect(&socket);
    assert_eq!(client.request(READ, 0, [0; 4096]), (0, [1; 4096]));

    // A connection that ends, and a server that is stopped, leave nothing that is not durable.
    assert_eq!(client.request(OUT, 0, [2; 4096]).0, 0);
    let mut client = client.reconnect(&socket);
    assert_eq!(client.request(OUT, 8, [3; 4096]).0, 0);
    server.stop();
    let server = Server::start(&sandbox, &ARGS);
    let mut client = client.reconnect(&socket);
    assert_eq!(client.request(READ, 0, [0; 4096]), (0, [2; 4096]));
    assert_eq!(client.request(READ, 8, [0; 4096]), (0, [3; 4096]));

    // A guest that went on now would find what it wrote gone, and so it is told.
    assert_eq!(client.request(OUT, 16, [4; 4096]).0, 0);
    let server = replaced(server, &sandbox);
    assert!(client.try_reconnect(&socket).is_err());
    // One that was started anew goes on.
    let mut client = FrontEnd::of_kind(&socket, kind);
    assert_eq!(client.request(READ, 8, [0; 4096]), (0, [3; 4096]));
    assert_eq!(client.request(FLUSH, 0, [0; 4096]).0, 0);
    drop(client);
    let said = server.stop();
    assert!(
        said.contains("1 changes were answered and not flushed when its server was killed"),
        "{said}"
    );
}
