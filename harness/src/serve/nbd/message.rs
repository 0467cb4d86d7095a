//! The messages of the protocol as values: parsing what a client sends, printing what it is sent.
//! All numbers are big endian.

use std::fmt;

/// The longest read or write, in bytes: what most clients take for the limit anyway.
pub const LONGEST_TRANSFER: u32 = 32 << 20;

/// The most data of an option, in bytes. A name may have 4,096, and so may each query.
pub const LONGEST_OPTION: u32 = 64 << 10;

/// The longest name of an export and the longest query, in bytes, as the protocol says.
pub const LONGEST_STRING: u32 = 4096;

/// What a server begins with.
pub const SERVER_MAGIC: u64 = 0x4e42_444d_4147_4943;
/// What an option begins with, and the second half of a server's first words.
pub const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
/// What a reply to an option begins with.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Handshake flag: options may be refused without an end of the connection.
pub const FIXED_NEWSTYLE: u16 = 1;
/// Handshake flag: no 124 zeros after the old way to begin.
pub const NO_ZEROES: u16 = 2;

/// Numbers with a name, on the wire.
macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident: $of:ty { $($(#[$variant_meta:meta])* $variant:ident = $number:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            /// Its number on the wire.
            pub fn number(self) -> $of {
                match self { $($name::$variant => $number,)* }
            }

            /// The one with this number.
            pub fn numbered(number: $of) -> Option<$name> {
                $(if number == $number { return Some($name::$variant); })*
                None
            }
        }
    };
}

numbered! {
    /// What a client may ask before it uses an export.
    OptionKind: u32 {
        /// Use this export; what is wrong ends the connection.
        ExportName = 1,
        /// End.
        Abort = 2,
        /// Name the exports.
        List = 3,
        /// Tell about an export.
        Info = 6,
        /// Use this export.
        Go = 7,
        /// Structured replies from now on.
        StructuredReply = 8,
        /// Name the meta contexts that match.
        ListMetaContext = 9,
        /// Use the meta contexts that match.
        SetMetaContext = 10,
    }
}

numbered! {
    /// What a server answers an option with.
    OptionReply: u32 {
        /// Done.
        Ack = 1,
        /// An export.
        Server = 2,
        /// Something about an export.
        Info = 3,
        /// A meta context.
        MetaContext = 4,
        /// There is no such option.
        Unsupported = 0x8000_0001,
        /// It is malformed, or not the time for it.
        Invalid = 0x8000_0003,
        /// There is no such export.
        Unknown = 0x8000_0006,
        /// The server is ending.
        Shutdown = 0x8000_0007,
        /// It is too long.
        TooBig = 0x8000_0009,
    }
}

numbered! {
    /// What can be told about an export.
    InfoKind: u16 {
        /// Size and flags.
        Export = 0,
        /// Its name.
        Name = 1,
        /// What it is.
        Description = 2,
        /// Which requests it takes.
        BlockSize = 3,
    }
}

numbered! {
    /// What a client asks for.
    Command: u16 {
        /// Read.
        Read = 0,
        /// Write.
        Write = 1,
        /// End, when what is in flight is done.
        Disconnect = 2,
        /// Make durable what is done.
        Flush = 3,
        /// The content is not needed any more.
        Trim = 4,
        /// It will be read soon.
        Cache = 5,
        /// Make it read as zeros.
        WriteZeroes = 6,
        /// Say how it is allocated.
        BlockStatus = 7,
    }
}

numbered! {
    /// Why a request has failed.
    Error: u32 {
        /// It may not do that.
        NotPermitted = 1,
        /// The host has failed.
        Io = 5,
        /// It is malformed, or past the end.
        Invalid = 22,
        /// There is no space.
        NoSpace = 28,
        /// It is longer than can be served.
        Overflow = 75,
        /// It cannot be done like this.
        NotSupported = 95,
        /// The server is ending.
        Shutdown = 108,
    }
}

/// Flags of an export.
pub mod transmission {
    /// There are flags.
    pub const HAS_FLAGS: u16 = 1;
    /// It takes no writes.
    pub const READ_ONLY: u16 = 1 << 1;
    /// It knows flushes.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// It knows FUA.
    pub const SEND_FUA: u16 = 1 << 3;
    /// It knows trims.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// It knows writes of zeros.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
    /// A read may ask not to be answered in pieces.
    pub const SEND_DF: u16 = 1 << 7;
    /// A flush of one connection covers the writes of all.
    pub const CAN_MULTI_CONN: u16 = 1 << 8;
    /// It knows what will be read soon.
    pub const SEND_CACHE: u16 = 1 << 10;
    /// It knows writes of zeros that have to be fast.
    pub const SEND_FAST_ZERO: u16 = 1 << 11;
}

/// Flags of a request.
pub mod command_flags {
    /// Durable when done.
    pub const FUA: u16 = 1;
    /// Zeros with their space kept.
    pub const NO_HOLE: u16 = 1 << 1;
    /// Not in pieces.
    pub const DF: u16 = 1 << 2;
    /// One extent only.
    pub const REQ_ONE: u16 = 1 << 3;
    /// Only if that is faster than to write them.
    pub const FAST_ZERO: u16 = 1 << 4;
}

/// Why what a client has sent is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found}, expected {expected}")]
pub struct Malformed {
    found: String,
    expected: &'static str,
}

fn malformed(found: impl fmt::Display, expected: &'static str) -> Malformed {
    Malformed {
        found: found.to_string(),
        expected,
    }
}

/// Reads numbers off the front of bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let ended = || malformed(format_args!("{} bytes", self.0.len()), "more data");
        let (front, rest) = self.0.split_at_checked(count).ok_or_else(ended)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A length, and that number of bytes of text.
    fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u32()?;
        if len > LONGEST_STRING {
            return Err(malformed(
                format_args!("a string of {len} bytes"),
                "at most 4096",
            ));
        }
        self.bytes(len as usize)
    }

    fn end(self) -> Result<(), Malformed> {
        match self.0 {
            [] => Ok(()),
            more => Err(malformed(
                format_args!("{} bytes more", more.len()),
                "the end of the option",
            )),
        }
    }
}

/// Bytes of the front of an option.
pub const OPTION_HEAD: usize = 16;

/// The front of an option: which, and how many bytes of data follow.
///
/// # Errors
/// It does not begin like one.
pub fn option_head(bytes: [u8; OPTION_HEAD]) -> Result<(u32, u32), Malformed> {
    let mut fields = Fields(&bytes);
    match fields.u64()? {
        OPTION_MAGIC => Ok((fields.u32()?, fields.u32()?)),
        other => Err(malformed(format_args!("{other:#018x}"), "an option")),
    }
}

/// The data of [`OptionKind::Info`] and [`OptionKind::Go`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoRequest<'a> {
    /// The name of the export.
    pub name: &'a [u8],
    /// What is asked about it beside size and flags; unknown kinds are left out.
    pub kinds: Vec<InfoKind>,
}

impl<'a> InfoRequest<'a> {
    /// Parses it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(data: &'a [u8]) -> Result<InfoRequest<'a>, Malformed> {
        let mut fields = Fields(data);
        let name = fields.string()?;
        let count = fields.u16()?;
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.extend(InfoKind::numbered(fields.u16()?));
        }
        fields.end()?;
        Ok(InfoRequest { name, kinds })
    }
}

/// The data of [`OptionKind::ListMetaContext`] and [`OptionKind::SetMetaContext`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaRequest<'a> {
    /// The name of the export.
    pub name: &'a [u8],
    /// What the contexts have to match.
    pub queries: Vec<&'a [u8]>,
}

impl<'a> MetaRequest<'a> {
    /// Parses it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(data: &'a [u8]) -> Result<MetaRequest<'a>, Malformed> {
        let mut fields = Fields(data);
        let name = fields.string()?;
        let count = fields.u32()?;
        let mut queries = Vec::new();
        // Each takes four bytes at least, so that what does not fit ends it early.
        for _ in 0..count {
            queries.push(fields.string()?);
        }
        fields.end()?;
        Ok(MetaRequest { name, queries })
    }
}

/// A reply to an option.
pub fn option_reply(option: u32, reply: OptionReply, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(20 + data.len());
    bytes.extend(OPTION_REPLY_MAGIC.to_be_bytes());
    bytes.extend(option.to_be_bytes());
    bytes.extend(reply.number().to_be_bytes());
    bytes.extend((data.len() as u32).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// Bytes of a request, without the data of a write.
pub const REQUEST_LEN: usize = 28;

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its flags.
    pub flags: u16,
    /// What it asks for, by its number.
    pub command: u16,
    /// The client's name for it.
    pub cookie: u64,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u32,
}

impl Request {
    /// Parses one.
    ///
    /// # Errors
    /// It does not begin like one: nobody knows where the next begins.
    pub fn parse(bytes: [u8; REQUEST_LEN]) -> Result<Request, Malformed> {
        let mut fields = Fields(&bytes);
        match fields.u32()? {
            REQUEST_MAGIC => Ok(Request {
                flags: fields.u16()?,
                command: fields.u16()?,
                cookie: fields.u64()?,
                offset: fields.u64()?,
                length: fields.u32()?,
            }),
            other => Err(malformed(format_args!("{other:#010x}"), "a request")),
        }
    }

    /// Prints it, as a client does.
    pub fn print(&self) -> [u8; REQUEST_LEN] {
        let mut bytes = [0; REQUEST_LEN];
        bytes[..4].copy_from_slice(&REQUEST_MAGIC.to_be_bytes());
        bytes[4..6].copy_from_slice(&self.flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&self.command.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_be_bytes());
        bytes[24..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }
}

/// Prints a reply that is not structured; the data of a read comes after it.
pub fn simple_reply(out: &mut Vec<u8>, cookie: u64, error: Option<Error>) {
    out.extend(SIMPLE_REPLY_MAGIC.to_be_bytes());
    out.extend(error.map_or(0, Error::number).to_be_bytes());
    out.extend(cookie.to_be_bytes());
}

const CHUNK_DONE: u16 = 1;
const CHUNK_NONE: u16 = 0;
const CHUNK_OFFSET_DATA: u16 = 1;
const CHUNK_BLOCK_STATUS: u16 = 5;
const CHUNK_ERROR: u16 = 1 << 15 | 1;

fn chunk(out: &mut Vec<u8>, flags: u16, kind: u16, cookie: u64, length: u32) {
    out.extend(CHUNK_MAGIC.to_be_bytes());
    out.extend(flags.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend(cookie.to_be_bytes());
    out.extend(length.to_be_bytes());
}

/// Prints the front of the only chunk that answers a read; `length` bytes of data come after it.
pub fn data_chunk(out: &mut Vec<u8>, cookie: u64, offset: u64, length: u32) {
    chunk(out, CHUNK_DONE, CHUNK_OFFSET_DATA, cookie, length + 8);
    out.extend(offset.to_be_bytes());
}

/// Prints the only chunk that answers a read of nothing.
pub fn empty_chunk(out: &mut Vec<u8>, cookie: u64) {
    chunk(out, CHUNK_DONE, CHUNK_NONE, cookie, 0);
}

/// Prints the only chunk that answers a request that has failed.
pub fn error_chunk(out: &mut Vec<u8>, cookie: u64, error: Error) {
    chunk(out, CHUNK_DONE, CHUNK_ERROR, cookie, 6);
    out.extend(error.number().to_be_bytes());
    out.extend(0u16.to_be_bytes());
}

/// Prints a chunk about the extents in one meta context: the length of each, and its flags.
pub fn block_status_chunk(
    out: &mut Vec<u8>,
    cookie: u64,
    context: u32,
    extents: &[(u32, u32)],
    is_last: bool,
) {
    let flags = if is_last { CHUNK_DONE } else { 0 };
    let length = 4 + 8 * extents.len() as u32;
    chunk(out, flags, CHUNK_BLOCK_STATUS, cookie, length);
    out.extend(context.to_be_bytes());
    for (length, flags) in extents {
        out.extend(length.to_be_bytes());
        out.extend(flags.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_parsed_as_it_was_printed_and_nothing_else_is_one() {
        let request = Request {
            flags: command_flags::FUA,
            command: Command::Write.number(),
            cookie: 0x0102_0304_0506_0708,
            offset: 1 << 40,
            length: 4096,
        };
        let bytes = request.print();
        assert_eq!(Request::parse(bytes), Ok(request));
        let mut wrong = bytes;
        wrong[0] = 0;
        let error = Request::parse(wrong).unwrap_err().to_string();
        assert_eq!(error, "found 0x00609513, expected a request");
    }

    #[test]
    fn what_an_option_says_of_its_lengths_is_checked() {
        let info = |name_len: u32, name: &[u8], kinds: &[u16]| {
            let mut data = name_len.to_be_bytes().to_vec();
            data.extend(name);
            data.extend((kinds.len() as u16).to_be_bytes());
            data.extend(kinds.iter().flat_map(|kind| kind.to_be_bytes()));
            data
        };
        let data = info(4, b"disk", &[3, 77]);
        let parsed = InfoRequest::parse(&data).unwrap();
        assert_eq!(parsed.name, b"disk");
        assert_eq!(parsed.kinds, [InfoKind::BlockSize]);
        for (data, why) in [
            (info(5, b"disk", &[]), "found 1 bytes, expected more data"),
            (info(3, b"disk", &[]), "found"),
            (
                info(5000, b"disk", &[]),
                "found a string of 5000 bytes, expected at most 4096",
            ),
            (b"".to_vec(), "found 0 bytes, expected more data"),
        ] {
            let error = InfoRequest::parse(&data).unwrap_err().to_string();
            assert!(error.starts_with(why), "{error}");
        }
        // Four thousand million queries in eight bytes.
        let mut data = 0u32.to_be_bytes().to_vec();
        data.extend(u32::MAX.to_be_bytes());
        assert!(MetaRequest::parse(&data).is_err());
    }

    #[test]
    fn replies_have_the_bytes_of_the_protocol() {
        let mut out = Vec::new();
        simple_reply(&mut out, 7, Some(Error::NoSpace));
        assert_eq!(
            out,
            [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 7]
        );
        out.clear();
        data_chunk(&mut out, 7, 512, 1024);
        let chunk = [
            0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 4, 8,
        ];
        assert_eq!(out[..20], chunk);
        assert_eq!(out[20..], 512u64.to_be_bytes());
        out.clear();
        error_chunk(&mut out, 7, Error::Io);
        assert_eq!(out[4..8], [0, 1, 0x80, 1]);
        assert_eq!(out[20..], [0, 0, 0, 5, 0, 0]);
        out.clear();
        block_status_chunk(&mut out, 7, 1, &[(512, 3)], false);
        assert_eq!(out[4..8], [0, 0, 0, 5]);
        assert_eq!(out[16..], [0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0, 3]);
    }
}
