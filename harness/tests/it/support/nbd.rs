//! A client of NBD that says just what a test wants.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use harness::serve::nbd::message::{Command, Request};

const OPTION_GO: u32 = 7;
const OPTION_STRUCTURED: u32 = 8;
const REPLY_ACK: u32 = 1;

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
        let mut stream = greeted(socket);
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
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..4], 0x6744_6698u32.to_be_bytes());
        let error = u32::from_be_bytes(reply[4..8].try_into().unwrap());
        (u64::from_be_bytes(reply[8..].try_into().unwrap()), error)
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
