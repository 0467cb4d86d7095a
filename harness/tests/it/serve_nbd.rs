//! A device over NBD: with clients that we wrote, which say just what a test wants, and with
//! those that people have.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command as Process;

use driver::units::SECTOR_SIZE;
use harness::serve::nbd::message::{Command, command_flags, transmission};
use rustix::process::Signal;

use crate::support::cli::{SIZE, Sandbox, output};
use crate::support::nbd::{
    Client, ask_for_structured, greeted, is_cut_off, option_reply, send_option,
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

/// They are written a few MiB at a time, however many are asked for at once.
#[test]
fn zeros_that_keep_their_space_may_be_of_any_length() {
    const LONG: u32 = 100 << 20;
    let sandbox = Sandbox::with_hole(2 * u64::from(LONG));
    let server = served(&sandbox, &[]);
    let mut client = Client::connect(&sandbox.path("s"));
    let at = u64::from(LONG) - 512;
    assert_eq!(client.write(0, at - 512, &[7; 1024]), 0);
    let kept = command_flags::NO_HOLE | command_flags::FUA;
    assert_eq!(client.ask(Command::WriteZeroes, kept, at, LONG), 0);
    let [before, zeros] = [client.read(at - 512, 512), client.read(at, 4096)];
    assert_eq!((before, zeros), (vec![7; 512], vec![0; 4096]));
    assert_eq!(client.read(at + u64::from(LONG) - 512, 512), [0; 512]);
    let most = server.most_memory();
    server.stop();
    assert!(most < 80, "{most} MiB");
    let path = sandbox.path("cow");
    let allocated = std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap()) * 512;
    assert!(allocated > u64::from(LONG), "{allocated}");
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

/// Whoever reaches the port can use the disk.
#[test]
fn a_port_is_of_this_machine_alone_unless_others_are_allowed() {
    let sandbox = Sandbox::with_device();
    let refused = "ubdlab: NBD at 0.0.0.0:0: other machines could use the disk, without encryption \
                   and without a password: --allow-remote allows that\n";
    sandbox.fails(&["serve", "@cow", "--nbd", "0.0.0.0:0"], 3, refused);
    for args in [&["127.0.0.1:0"][..], &["0.0.0.0:0", "--allow-remote"]] {
        let server = Server::start(&sandbox, &[&["@cow", "--nbd"], args].concat());
        let said = server.begun().to_owned();
        let port = said.trim_end().rsplit(':').next().unwrap();
        let mut client = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
        let mut greeting = [0; 18];
        client.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting[..8], b"NBDMAGIC");
        server.stop();
        assert_eq!(client.read(&mut greeting).unwrap(), 0);
    }
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
    // Over as many connections as it likes, because a flush of one covers all.
    let copied = output(
        Process::new(&nbdcopy)
            .args(["--connections=4", "--threads=4", "--requests=32", "--flush"])
            .arg(sandbox.path("new"))
            .arg(&uri),
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
