//! What a client and the server settle before the first request.

use std::fmt;
use std::io::{self, Read, Write};

use super::message::{
    FIXED_NEWSTYLE, InfoKind, InfoRequest, LONGEST_OPTION, LONGEST_TRANSFER, Malformed,
    MetaRequest, NO_ZEROES, OPTION_HEAD, OPTION_MAGIC, OptionKind, OptionReply, SERVER_MAGIC,
    option_head, option_reply, transmission,
};

/// The most options that a client may send: some try a few dozen at most.
const MOST_OPTIONS: u32 = 1024;

/// Bytes after the old way to begin, for whoever does not go without.
const OLD_PADDING: usize = 124;

/// A meta context: what can be said about extents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaContext {
    /// Holes and zeros.
    Allocation,
    /// What is in the COW file.
    Dirty,
}

impl MetaContext {
    /// All that there are.
    pub const ALL: [MetaContext; 2] = [MetaContext::Allocation, MetaContext::Dirty];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            MetaContext::Allocation => "base:allocation",
            MetaContext::Dirty => "ubdlab:dirty",
        }
    }

    /// Its number in messages.
    pub fn id(self) -> u32 {
        match self {
            MetaContext::Allocation => 1,
            MetaContext::Dirty => 2,
        }
    }

    /// Whether a query is for it: by its name or, of a list, by its name space.
    fn matches(self, query: &[u8], lists: bool) -> bool {
        let name = self.name();
        let colon = name.find(':').map_or(0, |at| at + 1);
        query == name.as_bytes() || (lists && query == &name.as_bytes()[..colon])
    }
}

/// What is told about the export.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What it is, in words.
    pub description: String,
    /// Its flags.
    pub flags: u16,
    /// The transfers that suit it, in bytes.
    pub preferred: u32,
}

/// What was settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Reads are answered with chunks.
    pub structured: bool,
    /// What is said about extents.
    pub contexts: Vec<MetaContext>,
}

/// Why a connection does not come to its first request.
#[derive(Debug, thiserror::Error)]
pub enum NotSettled {
    /// The client has ended it, as it may, or the server is ending.
    #[error("the negotiation was ended")]
    Ended,
    /// The connection is broken, or took too long.
    #[error("{}", driver::system_words(.0))]
    Io(#[from] io::Error),
    /// It sent something that is no message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It asked for an export that is not there, in the way that has no answer for that.
    #[error("found the export {found:?}, expected the empty name")]
    NoSuchExport {
        /// What it asked for.
        found: String,
    },
    /// It sent more than anybody needs to.
    #[error("found {found}, expected at most {expected}")]
    TooMuch {
        /// What it sent.
        found: String,
        /// What it may send.
        expected: u32,
    },
    /// It set a flag that there is not.
    #[error("found the flags {found:#x}, expected no more than {:#x}", NO_ZEROES | FIXED_NEWSTYLE)]
    Flags {
        /// Its flags.
        found: u32,
    },
}

/// Settles with a client what it wants; `size` is asked when it is told, and is `None` once the
/// server is ending. The server has one export, whose name is empty.
///
/// # Errors
/// Why there will be no request.
pub fn negotiate(
    mut input: impl Read,
    mut output: impl Write,
    offer: &Offer,
    size: impl Fn() -> Option<u64>,
) -> Result<Settled, NotSettled> {
    let mut greeting = Vec::new();
    greeting.extend(SERVER_MAGIC.to_be_bytes());
    greeting.extend(OPTION_MAGIC.to_be_bytes());
    greeting.extend((FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    output.write_all(&greeting)?;
    let found = u32::from_be_bytes(array(&mut input)?);
    if found > u32::from(FIXED_NEWSTYLE | NO_ZEROES) {
        return Err(NotSettled::Flags { found });
    }
    let mut talk = Talk {
        input,
        output,
        offer,
        size: &size,
        no_zeroes: found & u32::from(NO_ZEROES) != 0,
        settled: Settled::default(),
    };
    for _ in 0..MOST_OPTIONS {
        if talk.option()? {
            return Ok(talk.settled);
        }
    }
    Err(NotSettled::TooMuch {
        found: "more options".into(),
        expected: MOST_OPTIONS,
    })
}

struct Talk<'a, I, O> {
    input: I,
    output: O,
    offer: &'a Offer,
    size: &'a dyn Fn() -> Option<u64>,
    no_zeroes: bool,
    settled: Settled,
}

impl<I: Read, O: Write> Talk<'_, I, O> {
    /// Answers one option. Whether the requests begin.
    fn option(&mut self) -> Result<bool, NotSettled> {
        let (option, length) = option_head(array::<_, OPTION_HEAD>(&mut self.input)?)?;
        if length > LONGEST_OPTION {
            return Err(NotSettled::TooMuch {
                found: format!("an option of {length} bytes"),
                expected: LONGEST_OPTION,
            });
        }
        let mut data = vec![0; length as usize];
        self.input.read_exact(&mut data)?;
        let kind = OptionKind::numbered(option);
        let size = match ((self.size)(), kind) {
            (Some(size), _) => size,
            // This one has no answer that says why.
            (None, Some(OptionKind::ExportName)) => return Err(NotSettled::Ended),
            (None, Some(OptionKind::Abort)) => 0,
            (None, _) => {
                self.refuse(option, OptionReply::Shutdown, "the server is ending")?;
                return Ok(false);
            }
        };
        match kind {
            Some(OptionKind::ExportName) => {
                self.begin_the_old_way(&data, size)?;
                return Ok(true);
            }
            Some(OptionKind::Go) => return self.tell(option, &data, size),
            Some(OptionKind::Info) => drop(self.tell(option, &data, size)?),
            Some(OptionKind::Abort) => {
                // Some do not wait for the answer.
                let _ = self.reply(option, OptionReply::Ack, b"");
                return Err(NotSettled::Ended);
            }
            Some(OptionKind::List | OptionKind::StructuredReply) if !data.is_empty() => {
                self.refuse(option, OptionReply::Invalid, "this option has no data")?;
            }
            Some(OptionKind::List) => {
                let name_len = 0u32.to_be_bytes();
                let export = [&name_len[..], self.offer.description.as_bytes()].concat();
                self.reply(option, OptionReply::Server, &export)?;
                self.reply(option, OptionReply::Ack, b"")?;
            }
            Some(OptionKind::StructuredReply) => {
                self.settled.structured = true;
                self.reply(option, OptionReply::Ack, b"")?;
            }
            Some(OptionKind::ListMetaContext) => self.contexts(option, &data, true)?,
            Some(OptionKind::SetMetaContext) => self.contexts(option, &data, false)?,
            None => self.refuse(option, OptionReply::Unsupported, "there is no such option")?,
        }
        Ok(false)
    }

    /// The export's flags. Where reads are not answered with chunks, none can ask for only one.
    fn flags(&self) -> u16 {
        match self.settled.structured {
            true => self.offer.flags | transmission::SEND_DF,
            false => self.offer.flags,
        }
    }

    fn begin_the_old_way(&mut self, name: &[u8], size: u64) -> Result<(), NotSettled> {
        if !name.is_empty() {
            let found = String::from_utf8_lossy(name).into_owned();
            return Err(NotSettled::NoSuchExport { found });
        }
        let mut begin = Vec::new();
        begin.extend(size.to_be_bytes());
        begin.extend(self.flags().to_be_bytes());
        if !self.no_zeroes {
            begin.extend([0; OLD_PADDING]);
        }
        Ok(self.output.write_all(&begin)?)
    }

    /// Tells about the export. Whether it is there.
    fn tell(&mut self, option: u32, data: &[u8], size: u64) -> Result<bool, NotSettled> {
        let asked = match InfoRequest::parse(data) {
            Ok(asked) => asked,
            Err(error) => {
                self.refuse(option, OptionReply::Invalid, &error.to_string())?;
                return Ok(false);
            }
        };
        if !asked.name.is_empty() {
            self.refuse(option, OptionReply::Unknown, NO_SUCH_EXPORT)?;
            return Ok(false);
        }
        let mut export = size.to_be_bytes().to_vec();
        export.extend(self.flags().to_be_bytes());
        self.info(option, InfoKind::Export, &export)?;
        // Whether it was asked for or not: some clients believe it all the same.
        let sizes = [512, self.offer.preferred, LONGEST_TRANSFER];
        let sizes: Vec<u8> = sizes.iter().flat_map(|size| size.to_be_bytes()).collect();
        self.info(option, InfoKind::BlockSize, &sizes)?;
        if asked.kinds.contains(&InfoKind::Name) {
            self.info(option, InfoKind::Name, b"")?;
        }
        if asked.kinds.contains(&InfoKind::Description) {
            let description = self.offer.description.clone();
            self.info(option, InfoKind::Description, description.as_bytes())?;
        }
        self.reply(option, OptionReply::Ack, b"")?;
        Ok(true)
    }

    fn contexts(&mut self, option: u32, data: &[u8], lists: bool) -> Result<(), NotSettled> {
        if !lists {
            // Whatever comes of this one, it takes the place of those before.
            self.settled.contexts.clear();
        }
        let asked = match MetaRequest::parse(data) {
            Ok(asked) => asked,
            Err(error) => return self.refuse(option, OptionReply::Invalid, &error.to_string()),
        };
        if !self.settled.structured {
            let first = "structured replies come first";
            return self.refuse(option, OptionReply::Invalid, first);
        }
        if !asked.name.is_empty() {
            return self.refuse(option, OptionReply::Unknown, NO_SUCH_EXPORT);
        }
        let all = lists && asked.queries.is_empty();
        let is_asked = |context: &MetaContext| {
            let mut queries = asked.queries.iter();
            all || queries.any(|query| context.matches(query, lists))
        };
        let found: Vec<_> = MetaContext::ALL.into_iter().filter(is_asked).collect();
        for context in &found {
            let id = if lists { 0 } else { context.id() };
            let data = [&id.to_be_bytes()[..], context.name().as_bytes()].concat();
            self.reply(option, OptionReply::MetaContext, &data)?;
        }
        if !lists {
            self.settled.contexts = found;
        }
        self.reply(option, OptionReply::Ack, b"")
    }

    fn info(&mut self, option: u32, kind: InfoKind, data: &[u8]) -> Result<(), NotSettled> {
        let data = [&kind.number().to_be_bytes()[..], data].concat();
        self.reply(option, OptionReply::Info, &data)
    }

    fn refuse(
        &mut self,
        option: u32,
        reply: OptionReply,
        why: &(impl fmt::Display + ?Sized),
    ) -> Result<(), NotSettled> {
        self.reply(option, reply, why.to_string().as_bytes())
    }

    fn reply(&mut self, option: u32, reply: OptionReply, data: &[u8]) -> Result<(), NotSettled> {
        Ok(self.output.write_all(&option_reply(option, reply, data))?)
    }
}

const NO_SUCH_EXPORT: &str = "there is one export, and its name is empty";

fn array<R: Read, const N: usize>(input: &mut R) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An option without data, as a client sends it.
    fn option(kind: OptionKind) -> Vec<u8> {
        let magic = OPTION_MAGIC.to_be_bytes();
        [&magic[..], &kind.number().to_be_bytes(), &[0; 4]].concat()
    }

    #[test]
    fn a_server_that_is_ending_says_so_to_each_option() {
        let offer = Offer {
            description: String::new(),
            flags: 1,
            preferred: 4096,
        };
        let mut sent = 3u32.to_be_bytes().to_vec();
        let kinds = [
            OptionKind::List,
            OptionKind::Go,
            OptionKind::StructuredReply,
        ];
        for kind in kinds {
            sent.extend(option(kind));
        }
        sent.extend(option(OptionKind::Abort));
        let mut said = Vec::new();
        let settled = negotiate(&sent[..], &mut said, &offer, || None);
        assert!(matches!(settled, Err(NotSettled::Ended)), "{settled:?}");
        let mut expected = Vec::new();
        for kind in kinds {
            let why = b"the server is ending";
            expected.extend(option_reply(kind.number(), OptionReply::Shutdown, why));
        }
        expected.extend(option_reply(2, OptionReply::Ack, b""));
        assert_eq!(said[18..], expected);
        // The way that has no answer that says why.
        let sent = [&3u32.to_be_bytes()[..], &option(OptionKind::ExportName)].concat();
        let mut said = Vec::new();
        let settled = negotiate(&sent[..], &mut said, &offer, || None);
        assert!(matches!(settled, Err(NotSettled::Ended)), "{settled:?}");
        assert_eq!(said.len(), 18);
    }
}
