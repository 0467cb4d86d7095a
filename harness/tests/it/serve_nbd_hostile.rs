//! NBD clients that want no good, or have gone wrong: each is cut off with a line that says why,
//! memory stays bounded, and others go on.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use harness::device::Io;
use harness::open_files::may_open;
use harness::serve::nbd::crowd::MOST_CONNECTIONS;
use harness::serve::nbd::message::Command;

use crate::support::cli::{SIZE, Sandbox};
use crate::support::nbd::{Client, InProcess, greeted, is_cut_off, send_option, try_greeted};
use crate::support::peers::skip;
use crate::support::server::Server;
use crate::support::share::share;

/// How long the servers of these tests let their clients keep them waiting.
const SHORT: Duration = Duration::from_millis(200);

fn served(sandbox: &Sandbox) -> Server {
    Server::start(sandbox, &["@cow", "--nbd", "@s"])
}

/// The disk as a client has to see it before anything is written.
fn fresh() -> Vec<u8> {
    (0..SIZE / 8).flat_map(u64::to_le_bytes).collect()
}

#[test]
fn a_client_that_sends_rubbish_is_cut_off_with_a_word_and_others_go_on() {
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox);
    let socket = sandbox.path("s");
    let mut other = Client::connect(&socket);
    // Flags that there are not.
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream.write_all(&u32::MAX.to_be_bytes()).unwrap();
    assert!(is_cut_off(&mut stream));
    // No option.
    let mut stream = greeted(&socket);
    stream.write_all(&[b'x'; 64]).unwrap();
    assert!(is_cut_off(&mut stream));
    // An option of 4 GiB.
    let mut stream = greeted(&socket);
    let head = [
        b"IHAVEOPT".as_slice(),
        &7u32.to_be_bytes(),
        &u32::MAX.to_be_bytes(),
    ]
    .concat();
    stream.write_all(&head).unwrap();
    assert!(is_cut_off(&mut stream));
    // A name that is not there, in the way that has no answer for that.
    let mut stream = greeted(&socket);
    send_option(&mut stream, 1, b"other");
    assert!(is_cut_off(&mut stream));
    // No request.
    let mut client = Client::connect(&socket);
    client.stream.write_all(&[0; 28]).unwrap();
    assert!(client.is_cut_off());
    // A write of 4 GiB.
    let mut client = Client::connect(&socket);
    client.send(Command::Write.number(), 0, 0, u32::MAX, b"");
    assert!(client.is_cut_off());
    // The end in the middle of a write.
    let mut client = Client::connect(&socket);
    client.send(Command::Write.number(), 0, 0, 4096, &[1; 100]);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.is_cut_off());
    assert_eq!(other.read(0, SIZE as u32), fresh());
    let said = server.stop();
    for why in [
        "found the flags 0xffffffff, expected no more than 0x3",
        "found 0x7878787878787878, expected an option",
        "found an option of 4294967295 bytes, expected at most 65536",
        "found the export \"other\", expected the empty name",
        "found 0x00000000, expected a request",
        "found a write of 4294967295 bytes, expected at most 33554432",
        "it stopped in the middle of a message",
    ] {
        assert!(said.contains(why), "{why}: {said}");
    }
}

#[test]
fn a_client_that_stops_in_the_middle_or_does_not_read_is_cut_off_after_a_time() {
    let sandbox = Sandbox::with_device();
    let server = InProcess::start(&sandbox, Io::Inline, SHORT);
    let socket = sandbox.path("s");
    let mut other = Client::connect(&socket);
    // In the middle of an option, of a request, of the data of a write.
    let mut stream = greeted(&socket);
    stream.write_all(b"IHAVE").unwrap();
    assert!(is_cut_off(&mut stream));
    let mut client = Client::connect(&socket);
    client.stream.write_all(&[0x25, 0x60]).unwrap();
    assert!(client.is_cut_off());
    for len in [4096, 1 << 20] {
        let mut client = Client::connect(&socket);
        client.send(Command::Write.number(), 0, 0, len, &[1; 100]);
        assert!(client.is_cut_off());
    }
    // It asks for more than the socket holds, and takes nothing of it.
    let mut client = Client::connect(&socket);
    for _ in 0..64 {
        client.send(Command::Read.number(), 0, 0, SIZE as u32, b"");
    }
    server
        .said
        .wait_for("cut off: it does not take its replies");
    // Whoever says nothing between two requests may do so for ever.
    assert_eq!(other.read(0, SIZE as u32), fresh());
    let said = server.stop();
    let in_the_middle = "it stopped in the middle of a message";
    let cut_off = said.iter().filter(|line| line.ends_with(in_the_middle));
    assert_eq!(cut_off.count(), 4, "{said:?}");
}

/// Its requests end, nobody is told how, and the device is as before for the other one.
#[test]
fn of_two_clients_one_dies_with_all_that_it_may_have_in_flight() {
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox);
    let socket = sandbox.path("s");
    let mut survives = Client::connect(&socket);
    assert_eq!(survives.write(0, 0, &[1; 4096]), 0);
    for round in 0..share(100, 10) {
        let mut dies = Client::connect(&socket);
        for n in 128..256 {
            // The rest of a write that is cut short never comes.
            let sent = if n == 255 { 100 } else { 512 };
            dies.send(Command::Write.number(), 0, n * 4096, 512, &[9; 512][..sent]);
        }
        drop(dies);
        survives.flush();
        assert_eq!(survives.read(0, 4096), [1; 4096], "round {round}");
    }
    for n in 1..128 {
        assert_eq!(survives.write(0, n * 4096, &[2; 4096]), 0);
        assert_eq!(survives.read(n * 4096, 4096), [2; 4096]);
    }
    server.stop();
}

/// A byte at a time, each in good time, would go on for days.
#[test]
fn a_negotiation_that_never_ends_is_ended() {
    /// The client says something this often: a server that is not busy never waits for long.
    const PAUSE: Duration = Duration::from_millis(20);
    /// Far more than it can say in the time that it has.
    const MOST_SAID: usize = 10_000;
    let sandbox = Sandbox::with_device();
    let server = InProcess::start(&sandbox, Io::Inline, SHORT);
    let socket = sandbox.path("s");
    let mut stream = greeted(&socket);
    stream.set_read_timeout(Some(PAUSE)).unwrap();
    stream.write_all(b"IHAVEOPT").unwrap();
    stream.write_all(&99u32.to_be_bytes()).unwrap();
    stream.write_all(&65_536u32.to_be_bytes()).unwrap();
    let mut said = 0;
    let is_open = |stream: &mut UnixStream| match stream.read(&mut [0]) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    };
    while is_open(&mut stream) && stream.write_all(&[0]).is_ok() {
        said += 1;
        assert!(said < MOST_SAID, "nobody ends it");
    }
    Client::connect(&socket).flush();
    let lines = server.stop();
    // A machine that was so busy that the client was late all the same has ended it for that.
    let ends = [
        "its negotiation has not ended after 600ms",
        "in the middle of a message",
    ];
    let is_expected = |line: &String| ends.iter().any(|end| line.ends_with(end));
    assert!(lines.iter().any(is_expected), "{lines:?}");
}

/// What a client with open requests and closed ears may cost.
#[test]
fn one_that_asks_for_gigabytes_and_never_reads_costs_bounded_memory() {
    /// The budgets of the export twice, and the program.
    const MOST_MIB: u64 = 2 * 320 + 64;
    let sandbox = Sandbox::new();
    let file = std::fs::File::create(sandbox.path("backing")).unwrap();
    file.set_len(64 << 20).unwrap();
    sandbox.touch("backing", 1_050_000_000);
    sandbox.create_cow("cow", "backing");
    let server = served(&sandbox);
    let socket = sandbox.path("s");
    let mut other = Client::connect(&socket);
    let mut deaf: Vec<_> = (0..4).map(|_| Client::connect(&socket)).collect();
    for client in &mut deaf {
        for _ in 0..64 {
            client.send(Command::Read.number(), 0, 0, 32 << 20, b"");
        }
    }
    // The first has its first answer: the memory is being used.
    assert_eq!(deaf[0].reply().1, 0);
    for at in 0..64 {
        assert_eq!(other.read(at * 4096, 4096), [0; 4096]);
    }
    let most = server.most_memory();
    assert!(most < MOST_MIB, "{most} MiB");
    // It would wait for them for some time.
    server.kill();
}

#[test]
fn of_ten_thousand_connections_some_are_refused_and_those_that_are_there_go_on() {
    /// Descriptors for the other tests.
    const LEFT: u64 = 2000;
    let wanted = share(10_000, 4000);
    if !may_open(wanted + LEFT) {
        skip(&format!(
            "a process may not have {} files open",
            wanted + LEFT
        ));
        return;
    }
    let wanted = wanted as usize;
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox);
    let socket = sandbox.path("s");
    let before = server.most_memory();
    let mut first = Client::connect(&socket);
    let mut clients: Vec<_> = (1..MOST_CONNECTIONS)
        .map(|_| Client::connect(&socket))
        .collect();
    let mut refused = Vec::with_capacity(wanted);
    for number in MOST_CONNECTIONS..wanted {
        refused.push(UnixStream::connect(&socket).unwrap());
        if number % 100 == 0 {
            first.flush();
        }
    }
    for stream in &mut refused {
        assert!(is_cut_off(stream));
    }
    for client in clients.iter_mut().chain([&mut first]) {
        assert_eq!(client.read(0, 512), fresh()[..512]);
    }
    let most = server.most_memory();
    assert!(most < before + 64, "{before} and then {most} MiB");
    drop(clients);
    // There is room again as soon as the server has noticed.
    while try_greeted(&socket).is_none() {
        std::thread::yield_now();
    }
    let said = server.stop();
    let refusals = said.lines().filter(|line| line.contains("refused"));
    let lines: Vec<_> = refusals.collect();
    assert!(!lines.is_empty() && lines.len() < 100, "{lines:?}");
    let all_say_why = lines
        .iter()
        .all(|line| line.ends_with("refused: 1024 connections are open"));
    assert!(all_say_why, "{lines:?}");
}
