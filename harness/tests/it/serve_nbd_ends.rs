//! The end of a server over NBD: what is not begun by then is refused with a word of its own, and
//! a request of 4 GiB keeps nobody.

use std::io::Write;
use std::time::Duration;

use driver::units::SECTOR_SIZE;
use harness::device::Io;
use harness::serve::nbd::message::{Command, Request, command_flags};

use crate::support::cli::{SIZE, Sandbox};
use crate::support::nbd::{Client, InProcess};
use crate::support::server::Server;

const SHUTDOWN: u32 = 108;
const GIB: u64 = 1 << 30;

/// The longest request without data: 4 GiB less a sector.
const LONGEST: u32 = u32::MAX - (SECTOR_SIZE as u32 - 1);

/// Long enough for whatever a client here does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Many more than can be done in the time that it takes to stop. Every one that the server took is
/// answered: those that were begun as they ended, the others with the word for that.
#[test]
fn what_was_not_begun_when_the_server_ends_is_refused_with_that() {
    const WRITES: u64 = 100_000;
    let sandbox = Sandbox::with_device();
    let server = InProcess::start(&sandbox, Io::Inline, PATIENCE);
    let mut client = Client::connect(&sandbox.path("s"));
    let mut sends = client.stream.try_clone().unwrap();
    let request = move |n: u64| {
        let request = Request {
            flags: command_flags::FUA,
            command: Command::Write.number(),
            cookie: n,
            offset: (n % (SIZE / 512)) * 512,
            length: 512,
        };
        [&request.print()[..], &[n as u8; 512]].concat()
    };
    let sending = std::thread::spawn(move || {
        // Until the server takes no more.
        (0..WRITES)
            .take_while(|&n| sends.write_all(&request(n)).is_ok())
            .count() as u64
    });
    // It is in the middle of it.
    let first = client.reply();
    assert_eq!(first.1, 0);
    let reading = std::thread::spawn(move || {
        let later = std::iter::from_fn(|| client.try_reply());
        std::iter::once(first).chain(later).collect::<Vec<_>>()
    });
    let said = server.stop();
    let mut answers = reading.join().unwrap();
    let sent = sending.join().unwrap();
    assert_eq!(said, Vec::<String>::new());
    let count = answers.len() as u64;
    assert!(count <= sent, "{count} answers to {sent} requests");
    // The server takes requests in their order, so those that it took are the first ones.
    answers.sort_unstable();
    for (expected, &(cookie, error)) in (0_u64..).zip(&answers) {
        assert_eq!(cookie, expected, "of {count} answers");
        assert!([0, SHUTDOWN].contains(&error), "{error}");
    }
    let is_refused = |&(_, error): &(u64, u32)| error == SHUTDOWN;
    assert!(answers.iter().any(is_refused), "of {count} answers");
}

#[test]
fn trims_and_zeros_of_four_gib_are_served_while_others_go_on() {
    let sandbox = Sandbox::with_hole(5 * GIB);
    let server = Server::start(&sandbox, &["@cow", "--nbd", "@s"]);
    let socket = sandbox.path("s");
    let mut client = Client::connect(&socket);
    let mut other = Client::connect(&socket);
    let far = u64::from(LONGEST) + 1024;
    for at in [512, u64::from(LONGEST), far] {
        assert_eq!(client.write(0, at, &[7; 512]), 0);
    }
    for (command, flags) in [
        (Command::Trim, 0),
        (Command::Trim, command_flags::FUA),
        (Command::WriteZeroes, 0),
        (Command::WriteZeroes, command_flags::FUA),
    ] {
        let sent = client.send(command.number(), flags, 512, LONGEST, b"");
        // The other one does not wait for it.
        assert_eq!(other.write(0, far, &[8; 512]), 0);
        assert_eq!(other.read(far, 512), [8; 512]);
        assert_eq!(client.reply(), (sent, 0), "{command:?} {flags}");
    }
    for at in [512, u64::from(LONGEST)] {
        assert_eq!(other.read(at, 512), [0; 512], "at {at}");
    }
    assert_eq!(client.ask(Command::Trim, 0, 0, LONGEST), 0);
    let most = server.most_memory();
    assert!(most < 256, "{most} MiB");
    server.kill();
}

/// What is quick does not wait for what is slow on the same connection.
#[test]
fn a_reply_overtakes_those_of_slow_requests_before_it() {
    const SLOW: usize = 8;
    let sandbox = Sandbox::with_hole(5 * GIB);
    let server = InProcess::start(&sandbox, Io::Threads, PATIENCE);
    let mut client = Client::connect(&sandbox.path("s"));
    let far = u64::from(LONGEST) + 1024;
    assert_eq!(client.write(0, far, &[7; 512]), 0);
    let slow = [(); SLOW].map(|()| {
        let zeros = Command::WriteZeroes.number();
        client.send(zeros, 0, 512, LONGEST, b"")
    });
    let quick = client.send(Command::Read.number(), 0, far, 512, b"");
    let mut order = Vec::new();
    while order.len() <= SLOW {
        let (cookie, error) = client.reply();
        assert_eq!(error, 0);
        if cookie == quick {
            assert_eq!(client.data(512), [7; 512]);
        }
        order.push(cookie);
    }
    assert_ne!(order.last(), Some(&quick), "{order:?}");
    order.sort_unstable();
    assert_eq!(order, [&slow[..], &[quick]].concat());
    drop(client);
    assert_eq!(server.stop(), [""; 0]);
}

/// Nobody waits for 256 GiB of zeros.
#[test]
fn a_server_that_ends_does_not_finish_what_is_long() {
    const REQUESTS: usize = 64;
    let sandbox = Sandbox::with_hole(5 * GIB);
    let server = InProcess::start(&sandbox, Io::Inline, PATIENCE);
    let mut client = Client::connect(&sandbox.path("s"));
    for _ in 0..REQUESTS {
        client.send(Command::WriteZeroes.number(), 0, 512, LONGEST, b"");
    }
    let reading = std::thread::spawn(move || {
        let answers = std::iter::from_fn(|| client.try_reply());
        answers.map(|(_, error)| error).collect::<Vec<_>>()
    });
    server.stop();
    let answers = reading.join().unwrap();
    assert_eq!(answers.len(), REQUESTS);
    let refused = answers.iter().filter(|&&error| error == SHUTDOWN).count();
    assert!(answers.iter().all(|error| [0, SHUTDOWN].contains(error)));
    assert!(refused > 0);
}
