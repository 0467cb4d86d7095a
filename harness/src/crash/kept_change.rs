//! The change of a directory as a file has it: its names as text, its bytes compressed.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use driver::host::OperationKind;
use driver::units::{Bytes, FileOffset, FileRange};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::sim::InodeNumber;
use crate::sim::tree::{Attributes, EntryName, Moment, NewNode, Recorded, TreeChange};

/// The most bytes that one write of a file may claim to have: it is decompressed to that.
const LONGEST_WRITE: u64 = 64 << 20;

/// How hard the bytes of writes are compressed.
const COMPRESSION: i32 = 3;

/// A change, and when it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptChange {
    /// What was asked for, by the name of its kind.
    kind: String,
    /// Nanoseconds since 1970.
    at_ns: i64,
    change: Kept,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Kept {
    Write {
        file: u64,
        at: u64,
        len: u64,
        /// Compressed by zstd, in base64.
        zstd: String,
    },
    SetLen {
        file: u64,
        len: u64,
    },
    PunchHole {
        file: u64,
        at: u64,
        len: u64,
    },
    Reserve {
        file: u64,
        at: u64,
        len: u64,
    },
    Create {
        directory: u64,
        name: Text,
        node: u64,
        what: KeptNode,
        attributes: KeptAttributes,
    },
    Link {
        node: u64,
        directory: u64,
        name: Text,
    },
    Remove {
        directory: u64,
        name: Text,
    },
    Rename {
        directory: u64,
        name: Text,
        new_directory: u64,
        new_name: Text,
        exchange: bool,
    },
    SetAttributes {
        node: u64,
        attributes: KeptAttributes,
    },
    SyncFile(u64),
    FailSync(u64),
    SyncDirectory(u64),
    Settle,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KeptNode {
    File,
    Directory,
    SymbolicLink(Text),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptAttributes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accessed_ns: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified_ns: Option<i64>,
}

/// Text that may be no UTF-8: then a list of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Text {
    /// UTF-8.
    Plain(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

/// As it comes, and not in memory once more until it is known which of both it is.
impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a list of bytes")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text::Plain(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Text, E> {
                Ok(Text::Plain(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Text, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = list.next_element()? {
                    bytes.push(byte);
                }
                Ok(Text::Bytes(bytes))
            }
        }
        from.deserialize_any(Either)
    }
}

impl From<&OsStr> for Text {
    fn from(text: &OsStr) -> Text {
        match text.to_str() {
            Some(text) => Text::Plain(text.to_owned()),
            None => Text::Bytes(text.as_bytes().to_vec()),
        }
    }
}

impl Text {
    /// As the system has it.
    pub fn text(&self) -> OsString {
        match self {
            Text::Plain(text) => text.into(),
            Text::Bytes(bytes) => OsString::from_vec(bytes.clone()),
        }
    }
}

impl KeptChange {
    /// What a file has of a change.
    pub(super) fn of(recorded: &Recorded) -> KeptChange {
        let change = match &recorded.change {
            TreeChange::Write { file, at, data } => Kept::Write {
                file: file.0,
                at: at.0,
                len: data.len() as u64,
                // To memory, and of bytes that are there: it does not fail.
                zstd: BASE64.encode(zstd::bulk::compress(data, COMPRESSION).unwrap_or_default()),
            },
            TreeChange::SetLen { file, len } => Kept::SetLen {
                file: file.0,
                len: len.0,
            },
            TreeChange::PunchHole { file, range } => Kept::PunchHole {
                file: file.0,
                at: range.start.0,
                len: range.len.0,
            },
            TreeChange::Reserve { file, range } => Kept::Reserve {
                file: file.0,
                at: range.start.0,
                len: range.len.0,
            },
            TreeChange::Create {
                name,
                node,
                what,
                attributes,
            } => Kept::Create {
                directory: name.directory.0,
                name: name.name.as_os_str().into(),
                node: node.0,
                what: match what {
                    NewNode::File => KeptNode::File,
                    NewNode::Directory => KeptNode::Directory,
                    NewNode::SymbolicLink(target) => {
                        KeptNode::SymbolicLink(target.as_os_str().into())
                    }
                },
                attributes: KeptAttributes::of(attributes),
            },
            TreeChange::Link { node, name } => Kept::Link {
                node: node.0,
                directory: name.directory.0,
                name: name.name.as_os_str().into(),
            },
            TreeChange::Remove(name) => Kept::Remove {
                directory: name.directory.0,
                name: name.name.as_os_str().into(),
            },
            TreeChange::Rename { from, to, exchange } => Kept::Rename {
                directory: from.directory.0,
                name: from.name.as_os_str().into(),
                new_directory: to.directory.0,
                new_name: to.name.as_os_str().into(),
                exchange: *exchange,
            },
            TreeChange::SetAttributes { node, attributes } => Kept::SetAttributes {
                node: node.0,
                attributes: KeptAttributes::of(attributes),
            },
            TreeChange::SyncFile(file) => Kept::SyncFile(file.0),
            TreeChange::FailSync(file) => Kept::FailSync(file.0),
            TreeChange::SyncDirectory(directory) => Kept::SyncDirectory(directory.0),
            TreeChange::Settle => Kept::Settle,
        };
        KeptChange {
            kind: recorded.kind.name().to_owned(),
            at_ns: recorded.at.0,
            change,
        }
    }

    pub(super) fn recorded(&self) -> Result<Recorded, String> {
        let kind = OperationKind::from_name(&self.kind);
        Ok(Recorded {
            kind: kind.ok_or_else(|| format!("found the kind {:?}, which is none", self.kind))?,
            at: Moment(self.at_ns),
            change: self.change.change()?,
        })
    }
}

impl Kept {
    fn change(&self) -> Result<TreeChange, String> {
        let entry = |directory: &u64, name: &Text| EntryName {
            directory: InodeNumber(*directory),
            name: name.text(),
        };
        Ok(match self {
            Kept::Write {
                file,
                at,
                len,
                zstd,
            } => TreeChange::Write {
                file: InodeNumber(*file),
                at: FileOffset(*at),
                data: unpacked(*len, zstd)?,
            },
            Kept::SetLen { file, len } => TreeChange::SetLen {
                file: InodeNumber(*file),
                len: Bytes(*len),
            },
            Kept::PunchHole { file, at, len } => TreeChange::PunchHole {
                file: InodeNumber(*file),
                range: FileRange::new(FileOffset(*at), Bytes(*len)),
            },
            Kept::Reserve { file, at, len } => TreeChange::Reserve {
                file: InodeNumber(*file),
                range: FileRange::new(FileOffset(*at), Bytes(*len)),
            },
            Kept::Create {
                directory,
                name,
                node,
                what,
                attributes,
            } => TreeChange::Create {
                name: entry(directory, name),
                node: InodeNumber(*node),
                what: match what {
                    KeptNode::File => NewNode::File,
                    KeptNode::Directory => NewNode::Directory,
                    KeptNode::SymbolicLink(target) => NewNode::SymbolicLink(target.text().into()),
                },
                attributes: attributes.attributes(),
            },
            Kept::Link {
                node,
                directory,
                name,
            } => TreeChange::Link {
                node: InodeNumber(*node),
                name: entry(directory, name),
            },
            Kept::Remove { directory, name } => TreeChange::Remove(entry(directory, name)),
            Kept::Rename {
                directory,
                name,
                new_directory,
                new_name,
                exchange,
            } => TreeChange::Rename {
                from: entry(directory, name),
                to: entry(new_directory, new_name),
                exchange: *exchange,
            },
            Kept::SetAttributes { node, attributes } => TreeChange::SetAttributes {
                node: InodeNumber(*node),
                attributes: attributes.attributes(),
            },
            Kept::SyncFile(file) => TreeChange::SyncFile(InodeNumber(*file)),
            Kept::FailSync(file) => TreeChange::FailSync(InodeNumber(*file)),
            Kept::SyncDirectory(directory) => TreeChange::SyncDirectory(InodeNumber(*directory)),
            Kept::Settle => TreeChange::Settle,
        })
    }
}

fn unpacked(len: u64, packed: &str) -> Result<Arc<[u8]>, String> {
    if len > LONGEST_WRITE {
        return Err(format!(
            "found a write of {len} bytes, expected at most {LONGEST_WRITE}"
        ));
    }
    let packed = BASE64
        .decode(packed)
        .map_err(|_| "found bytes that are no base64")?;
    let data = zstd::bulk::decompress(&packed, len as usize);
    let data = data.map_err(|error| format!("decompressing: {error}"))?;
    match data.len() as u64 == len {
        true => Ok(data.into()),
        false => Err(format!("found {} bytes, expected {len}", data.len())),
    }
}

impl KeptAttributes {
    fn of(attributes: &Attributes) -> KeptAttributes {
        KeptAttributes {
            mode: attributes.mode,
            user: attributes.user,
            group: attributes.group,
            accessed_ns: attributes.accessed.map(|at| at.0),
            modified_ns: attributes.modified.map(|at| at.0),
        }
    }

    fn attributes(self) -> Attributes {
        Attributes {
            mode: self.mode,
            user: self.user,
            group: self.group,
            accessed: self.accessed_ns.map(Moment),
            modified: self.modified_ns.map(Moment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_what_is_no_base64_is_refused() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"\xff\xfe\xfd", "//79"),
        ] {
            assert_eq!(BASE64.encode(bytes), text);
            assert_eq!(BASE64.decode(text).as_deref(), Ok(bytes));
        }
        for text in ["Z", "Zg=", "Zh==", "Z=g=", "====", "Zm9v\n", "Zm 9"] {
            assert!(BASE64.decode(text).is_err(), "{text:?}");
        }
    }
}
