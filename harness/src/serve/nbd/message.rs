//! The messages of the protocol as values: parsing what a client sends, printing what it is sent.
//! All numbers are big endian.

mod replies;
#[cfg(test)]
mod tests;

use std::fmt;

pub use replies::{block_status_chunk, data_chunk, empty_chunk, error_chunk, simple_reply};

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
