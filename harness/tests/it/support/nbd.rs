//! A client of NBD that says just what a test wants, and a server of it in this process.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driver::device_spec::DeviceSpec;
use driver::open::OpenOptions;
use harness::device::Io;
use harness::replay::ReplayDriver;
use harness::serve::address::Address;
use harness::serve::nbd::Nbd;
use harness::serve::nbd::message::{Command, Request, command_flags};
use harness::serve::{Endpoints, Opening, Tells, Up};

use super::cli::Sandbox;

const OPTION_GO: u32 = 7;
const OPTION_STRUCTURED: u32 = 8;
const OPTION_SET_META_CONTEXT: u32 = 10;
const REPLY_ACK: u32 = 1;
const REPLY_META_CONTEXT: u32 = 4;
const CHUNK_BLOCK_STATUS: u16 = 5;

/// A connection that has been negotiated, without structured replies.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    /// The size and the flags that it was told.
    pub(crate) size: u64,
    pub(crate) flags: u16,
    next: u64,
}

/// Connects, and reads the greeting.
pub(crate) fn greeted(socket: &Path) -> UnixStream {
    try_greeted(socket).expect("it is refused")
}

/// Likewise; `None` where the server refuses the connection.
pub(crate) fn try_greeted(socket: &Path) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).ok()?;
    assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
    stream.write_all(&3u32.to_be_bytes()).unwrap();
    Some(stream)
}

/// Sends an option.
pub(crate) fn send_option(stream: &mut UnixStream, option: u32, data: &[u8]) {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    stream.write_all(&bytes).unwrap();
}

/// The next reply to an option: its kind and its data.
pub(crate) fn option_reply(stream: &mut UnixStream) -> (u32, Vec<u8>) {
    let mut head = [0; 20];
    stream.read_exact(&mut head).unwrap();
    let field = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    let mut data = vec![0; field(16) as usize];
    stream.read_exact(&mut data).unwrap();
    (field(12), data)
}

impl Client {
    /// Connects to the export.
    pub(crate) fn connect(socket: &Path) -> Client {
        Client::go(greeted(socket))
    }

    /// Enters the export.
    fn go(mut stream: UnixStream) -> Client {
        // No name, nothing to be told.
        send_option(&mut stream, OPTION_GO, &[0; 6]);
        let (mut size, mut flags) = (0, 0);
        loop {
            let (kind, data) = option_reply(&mut stream);
            match kind {
                REPLY_ACK => break,
                // The first information is the export.
                3 if data[..2] == [0, 0] => {
                    size = u64::from_be_bytes(data[2..10].try_into().unwrap());
                    flags = u16::from_be_bytes(data[10..12].try_into().unwrap());
                }
                3 => {}
                other => panic!("a reply of kind {other}"),
            }
        }
        Client {
            stream,
            size,
            flags,
            next: 1,
        }
    }

    /// Sends a request, and its data; its cookie.
    pub(crate) fn send(&mut self, command: u16, flags: u16, at: u64, len: u32, data: &[u8]) -> u64 {
        let cookie = self.next;
        self.next += 1;
        let request = Request {
            flags,
            command,
            cookie,
            offset: at,
            length: len,
        };
        let bytes = [&request.print()[..], data].concat();
        self.stream.write_all(&bytes).unwrap();
        cookie
    }

    /// The next reply: its cookie and its error. The data of a read comes after it.
    pub(crate) fn reply(&mut self) -> (u64, u32) {
        self.try_reply()
            .expect("the server has ended the connection")
    }

    /// Likewise; `None` where the server has ended the connection.
    pub(crate) fn try_reply(&mut self) -> Option<(u64, u32)> {
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply).ok()?;
        assert_eq!(reply[..4], 0x6744_6698u32.to_be_bytes());
        let error = u32::from_be_bytes(reply[4..8].try_into().unwrap());
        let cookie = u64::from_be_bytes(reply[8..].try_into().unwrap());
        Some((cookie, error))
    }

    /// Asks for one thing, and waits for it; its error.
    pub(crate) fn ask(&mut self, command: Command, flags: u16, at: u64, len: u32) -> u32 {
        let cookie = self.send(command.number(), flags, at, len, b"");
        let (answered, error) = self.reply();
        assert_eq!(answered, cookie);
        error
    }

    /// Writes; its error.
    pub(crate) fn write(&mut self, flags: u16, at: u64, data: &[u8]) -> u32 {
        let len = data.len() as u32;
        let cookie = self.send(Command::Write.number(), flags, at, len, data);
        let (answered, error) = self.reply();
        assert_eq!(answered, cookie);
        error
    }

    /// Reads what has to be there.
    pub(crate) fn read(&mut self, at: u64, len: u32) -> Vec<u8> {
        assert_eq!(self.ask(Command::Read, 0, at, len), 0, "read at {at}");
        self.data(len)
    }

    /// Reads the data of a read that was answered.
    pub(crate) fn data(&mut self, len: u32) -> Vec<u8> {
        let mut data = vec![0; len as usize];
        self.stream.read_exact(&mut data).unwrap();
        data
    }

    pub(crate) fn flush(&mut self) {
        assert_eq!(self.ask(Command::Flush, 0, 0, 0), 0);
    }

    /// Whether the server has ended the connection; what came before is thrown away.
    pub(crate) fn is_cut_off(&mut self) -> bool {
        is_cut_off(&mut self.stream)
    }
}

/// Whether the other side has ended the connection; what came before is thrown away.
pub(crate) fn is_cut_off(stream: &mut UnixStream) -> bool {
    let mut rest = Vec::new();
    // A connection that is reset has been cut off as well.
    stream.read_to_end(&mut rest).map_or_else(
        |error| error.kind() == std::io::ErrorKind::ConnectionReset,
        |_| true,
    )
}

/// Asks for structured replies.
pub(crate) fn ask_for_structured(stream: &mut UnixStream) {
    send_option(stream, OPTION_STRUCTURED, b"");
    assert_eq!(option_reply(stream).0, REPLY_ACK);
}

/// Extents of a meta context: lengths in bytes, and flags.
pub(crate) type Extents = Vec<(u32, u32)>;

/// A client that has asked for structured replies, and for what there is to know about extents.
pub(crate) struct Looker(Client);

impl Looker {
    /// Connects to the export.
    pub(crate) fn connect(socket: &Path) -> Looker {
        let mut stream = greeted(socket);
        ask_for_structured(&mut stream);
        let queries = ["base:allocation", "ubdlab:dirty"];
        // The empty name.
        let mut data = 0u32.to_be_bytes().to_vec();
        data.extend((queries.len() as u32).to_be_bytes());
        for query in queries {
            data.extend((query.len() as u32).to_be_bytes());
            data.extend(query.as_bytes());
        }
        send_option(&mut stream, OPTION_SET_META_CONTEXT, &data);
        for (number, query) in (1u32..).zip(queries) {
            let (kind, context) = option_reply(&mut stream);
            let expected = [&number.to_be_bytes(), query.as_bytes()].concat();
            assert_eq!((kind, context), (REPLY_META_CONTEXT, expected));
        }
        assert_eq!(option_reply(&mut stream).0, REPLY_ACK);
        Looker(Client::go(stream))
    }

    /// What is said of these bytes: about allocation, and about what is in the COW file. The error
    /// if there is one.
    pub(crate) fn look(&mut self, at: u64, len: u32, one: bool) -> Result<[Extents; 2], u32> {
        let flags = if one { command_flags::REQ_ONE } else { 0 };
        let sent = self
            .0
            .send(Command::BlockStatus.number(), flags, at, len, b"");
        let mut found = [Vec::new(), Vec::new()];
        loop {
            let (flags, kind, cookie, payload) = self.chunk();
            assert_eq!(cookie, sent);
            let field = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            if kind >> 15 == 1 {
                assert_eq!(flags & 1, 1);
                return Err(field(0));
            }
            assert_eq!(kind, CHUNK_BLOCK_STATUS);
            let extents = &mut found[field(0) as usize - 1];
            assert!(extents.is_empty(), "a context comes once");
            extents.extend(
                (4..payload.len())
                    .step_by(8)
                    .map(|at| (field(at), field(at + 4))),
            );
            if flags & 1 == 1 {
                return Ok(found);
            }
        }
    }

    /// The next chunk: its flags, its kind, its cookie and what is in it.
    fn chunk(&mut self) -> (u16, u16, u64, Vec<u8>) {
        let mut head = [0; 20];
        self.0.stream.read_exact(&mut head).unwrap();
        assert_eq!(head[..4], 0x668e_33efu32.to_be_bytes());
        let short = |at: usize| u16::from_be_bytes(head[at..at + 2].try_into().unwrap());
        let cookie = u64::from_be_bytes(head[8..16].try_into().unwrap());
        let len = u32::from_be_bytes(head[16..].try_into().unwrap());
        (short(4), short(6), cookie, self.0.data(len))
    }
}

/// What a server in this process has said.
#[derive(Clone, Default)]
pub(crate) struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    /// The lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Waits until a line ends like this.
    pub(crate) fn wait_for(&self, end: &str) {
        while !self.lines().iter().any(|line| line.ends_with(end)) {
            std::thread::yield_now();
        }
    }
}

impl Tells for Said {
    fn tell(&self, line: &dyn std::fmt::Display) {
        self.0.lock().unwrap().push(line.to_string());
    }
}

/// The device `cow` of a sandbox, served in this process at the socket `s`.
pub(crate) struct InProcess {
    pub(crate) up: Up,
    endpoints: Endpoints,
    pub(crate) said: Said,
}

impl InProcess {
    /// Serves it to clients who may keep it waiting for this long.
    pub(crate) fn start(sandbox: &Sandbox, io: Io, patience: Duration) -> InProcess {
        let said = Said::default();
        let opening = Opening {
            spec: DeviceSpec::of(sandbox.path("cow")),
            options: OpenOptions::default(),
            driver: ReplayDriver::Ordered,
            io,
            allow_shrink: false,
        };
        let (ends, _) = crossbeam_channel::bounded(1);
        let up = opening.bring_up(Box::new(said.clone()), ends).unwrap();
        let address = Address::Unix(sandbox.path("s"));
        let nbd = Nbd::listen(&up.export, &address, false, patience).unwrap();
        let mut endpoints = Endpoints::of(up.export.clone());
        endpoints.add(nbd);
        InProcess {
            up,
            endpoints,
            said,
        }
    }

    /// Stops it: no request and no client is left. What it has said.
    pub(crate) fn stop(self) -> Vec<String> {
        drop(self.endpoints);
        let status = self.up.export.status().unwrap();
        assert_eq!((status.in_flight, status.buffered_bytes), (0, 0));
        assert_eq!(status.clients, []);
        self.up.close().unwrap();
        self.said.lines()
    }
}
