//! A device over NBD: with clients that we wrote, which say just what a test wants, and with
//! those that people have.

use std::io::Write;
use std::process::Command as Process;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver::device_spec::DeviceSpec;
use driver::open::OpenOptions;
use driver::units::SECTOR_SIZE;
use harness::device::Io;
use harness::replay::ReplayDriver;
use harness::serve::address::Address;
use harness::serve::nbd::Nbd;
use harness::serve::nbd::crowd::MOST_CONNECTIONS;
use harness::serve::nbd::message::{Command, command_flags, transmission};
use harness::serve::{Endpoint, Opening, Tells, Up};
use rustix::process::Signal;

use crate::support::cli::{SIZE, Sandbox, output};
use crate::support::nbd::{
    Client, ask_for_structured, greeted, is_cut_off, option_reply, send_option, try_greeted,
};
use crate::support::peers::peer;
use crate::support::server::Server;

const INVALID: u32 = 22;
const NO_SPACE: u32 = 28;
const NOT_PERMITTED: u32 = 1;
const NOT_SUPPORTED: u32 = 95;
const OVERFLOW: u32 = 75;

/// A server of the small device with a Unix socket `s`.
fn served(sandbox: &Sandbox, more: &[&str]) -> Server {
    let args = [&["@cow", "--nbd", "@s"][..], more].concat();
    Server::start(sandbox, &args)
}

/// The disk as a client has to see it before anything is written.
fn fresh() -> Vec<u8> {
    (0..SIZE / 8).flat_map(u64::to_le_bytes).collect()
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| seed.wrapping_add((at / 512) as u8))
        .collect()
}

#[test]
fn a_client_reads_what_it_has_written_and_so_does_the_next_server() {
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox, &[]);
    let socket = sandbox.path("s");
    let mut client = Client::connect(&socket);
    assert_eq!(client.size, SIZE);
    let expected = transmission::HAS_FLAGS | transmission::CAN_MULTI_CONN | transmission::SEND_FUA;
    assert_eq!(client.flags & expected, expected);
    assert_eq!(client.flags & transmission::READ_ONLY, 0);
    let mut disk = fresh();
    assert_eq!(client.read(0, SIZE as u32), disk);
    let data = pattern(1, 20_480);
    assert_eq!(client.write(0, 4096, &data), 0);
    disk[4096..24_576].copy_from_slice(&data);
    assert_eq!(
        client.write(command_flags::FUA, SIZE - 512, &data[..512]),
        0
    );
    disk[SIZE as usize - 512..].copy_from_slice(&data[..512]);
    for (at, len) in [(65_536, 8192), (512, 512)] {
        assert_eq!(client.ask(Command::WriteZeroes, 0, at, len), 0);
        disk[at as usize..][..len as usize].fill(0);
    }
    let kept = command_flags::NO_HOLE | command_flags::FUA;
    assert_eq!(client.ask(Command::WriteZeroes, kept, 131_072, 4096), 0);
    disk[131_072..135_168].fill(0);
    assert_eq!(client.ask(Command::Cache, 0, 0, 65_536), 0);
    client.flush();
    // Another connection sees it all.
    assert_eq!(Client::connect(&socket).read(0, SIZE as u32), disk);
    let said = server.stop();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!socket.exists(), "the socket is still there");
    let server = served(&sandbox, &["--read-only"]);
    let mut client = Client::connect(&socket);
    assert_ne!(client.flags & transmission::READ_ONLY, 0);
    assert_eq!(client.read(0, SIZE as u32), disk);
    assert_eq!(client.write(0, 0, &[0; 512]), NOT_PERMITTED);
    assert_eq!(client.ask(Command::Trim, 0, 0, 512), NOT_PERMITTED);
    client.flush();
    server.stop();
}

#[test]
fn what_a_device_cannot_have_is_refused_and_the_connection_goes_on() {
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox, &[]);
    let mut client = Client::connect(&sandbox.path("s"));
    let sectors = |count: u64| (count * SECTOR_SIZE) as u32;
    for (command, flags, at, len, error) in [
        (Command::Read, 0, SIZE, 512, INVALID),
        (Command::Read, 0, 1, 512, INVALID),
        (Command::Read, 0, 0, 511, INVALID),
        (Command::Read, 0, u64::MAX - 511, 512, INVALID),
        (Command::Read, 0, 0, u32::MAX, OVERFLOW),
        (Command::Read, command_flags::FAST_ZERO, 0, 512, INVALID),
        (Command::Trim, 0, SIZE - 512, 1024, INVALID),
        (Command::WriteZeroes, 0, SIZE, 512, NO_SPACE),
        (Command::WriteZeroes, 0, 3, 512, INVALID),
        // Zeros that keep their space cannot be had faster than by writing them.
        (
            Command::WriteZeroes,
            command_flags::FAST_ZERO | command_flags::NO_HOLE,
            0,
            sectors(8),
            NOT_SUPPORTED,
        ),
        (Command::WriteZeroes, command_flags::FAST_ZERO, 0, 512, 0),
        // Nothing was settled about extents.
        (Command::BlockStatus, 0, 0, 512, INVALID),
        (Command::Trim, 0, 0, 0, 0),
    ] {
        let found = client.ask(command, flags, at, len);
        assert_eq!(found, error, "{command:?} {flags} {at} {len}");
    }
    assert_eq!(client.write(0, SIZE - 512, &[1; 1024]), NO_SPACE);
    assert_eq!(client.write(0, 7, &[1; 512]), INVALID);
    let cookie = client.send(77, 0, 0, 0, b"");
    assert_eq!(client.reply(), (cookie, INVALID));
    let mut disk = fresh();
    disk[..512].fill(0);
    assert_eq!(client.read(0, SIZE as u32), disk);
    server.stop();
}

#[test]
fn requests_that_came_before_a_stop_are_answered() {
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox, &[]);
    let mut client = Client::connect(&sandbox.path("s"));
    let data = pattern(9, 4096);
    let mut cookies = Vec::new();
    for block in 0..64 {
        cookies.push(client.send(Command::Write.number(), 0, block * 4096, 4096, &data));
    }
    // The last has been read when this one is answered, because it comes after it.
    cookies.push(client.send(Command::Flush.number(), 0, 0, 0, b""));
    let mut answered: Vec<u64> = Vec::new();
    while answered.len() < cookies.len() {
        let (cookie, error) = client.reply();
        assert_eq!(error, 0);
        answered.push(cookie);
    }
    answered.sort_unstable();
    assert_eq!(answered, cookies);
    server.send(Signal::INT);
    assert!(client.is_cut_off());
    let (status, said) = server.wait();
    assert_eq!(status, Some(0), "{said}");
    let mut disk = fresh();
    for block in disk[..64 * 4096].chunks_mut(4096) {
        block.copy_from_slice(&data);
    }
    sandbox.succeeds(&["image", "convert", "@cow", "@raw", "--to", "raw"]);
    assert!(sandbox.read("raw") == disk);
}

#[test]
fn a_client_that_sends_rubbish_is_cut_off_with_a_word_and_others_go_on() {
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox, &[]);
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
fn options_are_answered_as_the_protocol_says() {
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox, &[]);
    let mut stream = greeted(&sandbox.path("s"));
    let name = |name: &str| [&(name.len() as u32).to_be_bytes(), name.as_bytes()].concat();
    // Unknown, and TLS, which is not served.
    for option in [5, 99] {
        send_option(&mut stream, option, b"");
        assert_eq!(option_reply(&mut stream).0, 0x8000_0001);
    }
    // An export that is not there.
    let data = [&name("other")[..], &[0, 0]].concat();
    for option in [6, 7] {
        send_option(&mut stream, option, &data);
        assert_eq!(option_reply(&mut stream).0, 0x8000_0006);
    }
    // Malformed.
    send_option(&mut stream, 7, &[1]);
    assert_eq!(option_reply(&mut stream).0, 0x8000_0003);
    // Meta contexts need structured replies.
    let list = [&name("")[..], &0u32.to_be_bytes()].concat();
    send_option(&mut stream, 9, &list);
    assert_eq!(option_reply(&mut stream).0, 0x8000_0003);
    ask_for_structured(&mut stream);
    send_option(&mut stream, 9, &list);
    let mut contexts = Vec::new();
    while let (4, data) = option_reply(&mut stream) {
        contexts.push(String::from_utf8(data[4..].to_vec()).unwrap());
    }
    assert_eq!(contexts, ["base:allocation", "ubdlab:dirty"]);
    // A list has one export, whose name is empty.
    send_option(&mut stream, 3, b"");
    let (kind, data) = option_reply(&mut stream);
    assert_eq!((kind, &data[..4]), (2, &[0; 4][..]));
    assert_eq!(option_reply(&mut stream).0, 1);
    send_option(&mut stream, 2, b"");
    assert_eq!(option_reply(&mut stream).0, 1);
    assert!(is_cut_off(&mut stream));
    let said = server.stop();
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn more_connections_than_there_may_be_are_refused_and_others_go_on() {
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox, &[]);
    let socket = sandbox.path("s");
    let mut client = Client::connect(&socket);
    let others: Vec<_> = (1..MOST_CONNECTIONS).map(|_| greeted(&socket)).collect();
    let mut refused = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    assert!(is_cut_off(&mut refused));
    client.flush();
    drop(others);
    // There is room again as soon as the server has noticed.
    while try_greeted(&socket).is_none() {
        std::thread::yield_now();
    }
    let said = server.stop();
    assert!(
        said.contains("refused: 1024 connections are open"),
        "{said}"
    );
}

#[test]
fn libnbd_reads_writes_and_is_told_what_is_there() {
    let (Some(nbdinfo), Some(nbdcopy)) = (peer("nbdinfo"), peer("nbdcopy")) else {
        return;
    };
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox, &[]);
    let uri = format!("nbd+unix:///?socket={}", sandbox.path("s").display());
    let info = output(Process::new(&nbdinfo).args(["--json", &uri]));
    assert!(info.status.success(), "{info:?}");
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(info["structured"], true);
    let export = &info["exports"][0];
    assert_eq!(export["export-size"], SIZE);
    assert_eq!(export["can_multi_conn"], true);
    assert_eq!(export["block_size_minimum"], 512);
    let new = pattern(3, SIZE as usize / 2);
    let mut disk = fresh();
    disk[..new.len()].copy_from_slice(&new);
    sandbox.write("new", &disk);
    let copied = output(
        Process::new(&nbdcopy)
            .arg(sandbox.path("new"))
            .args([&uri, "--flush"]),
    );
    assert!(copied.status.success(), "{copied:?}");
    let copied = output(Process::new(&nbdcopy).arg(&uri).arg(sandbox.path("copy")));
    assert!(copied.status.success(), "{copied:?}");
    assert!(sandbox.read("copy") == disk);
    let map = output(Process::new(&nbdinfo).args(["--map=ubdlab:dirty", "--json", &uri]));
    let map: serde_json::Value = serde_json::from_slice(&map.stdout).unwrap();
    assert_eq!(map[0]["type"], 1, "{map}");
    server.stop();
}

/// What a server in this process has said.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

impl Tells for Said {
    fn tell(&self, line: &dyn std::fmt::Display) {
        self.0.lock().unwrap().push(line.to_string());
    }
}

/// The small device, served in this process to clients who may keep it waiting for a moment only.
fn served_impatiently(sandbox: &Sandbox) -> (Up, Box<Nbd>, Said) {
    let said = Said::default();
    let opening = Opening {
        spec: DeviceSpec::of(sandbox.path("cow")),
        options: OpenOptions::default(),
        driver: ReplayDriver::Ordered,
        io: Io::Inline,
        allow_shrink: false,
    };
    let (ends, _) = crossbeam_channel::bounded(1);
    let up = opening.bring_up(Box::new(said.clone()), ends).unwrap();
    let address = Address::Unix(sandbox.path("s"));
    let nbd = Nbd::listen(&up.export, &address, false, Duration::from_millis(200)).unwrap();
    (up, Box::new(nbd), said)
}

#[test]
fn a_client_that_stops_in_the_middle_or_does_not_read_is_cut_off_after_a_time() {
    let sandbox = Sandbox::with_device();
    let (up, nbd, said) = served_impatiently(&sandbox);
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
    let does_not_read = |line: &String| line.ends_with("cut off: it does not take its replies");
    while !said.0.lock().unwrap().iter().any(does_not_read) {
        std::thread::yield_now();
    }
    // Whoever says nothing between two requests may do so for ever.
    assert_eq!(other.read(0, SIZE as u32), fresh());
    nbd.stop();
    let status = up.export.status().unwrap();
    assert_eq!((status.in_flight, status.buffered_bytes), (0, 0));
    assert_eq!(status.clients, []);
    up.close().unwrap();
    let said = said.0.lock().unwrap();
    let in_the_middle = "it stopped in the middle of a message";
    let cut_off = said.iter().filter(|line| line.ends_with(in_the_middle));
    assert_eq!(cut_off.count(), 4, "{said:?}");
}
