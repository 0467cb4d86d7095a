//! The bytes of a write, which every copy of the write shares.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use driver::units::FileOffset;

use super::content::FileContent;

/// Bytes that a change has alone, or that it shares with others, which may be other threads.
#[derive(Clone)]
pub(crate) enum Payload {
    Own(Rc<[u8]>),
    /// They go when the change is settled.
    Sent(Arc<[u8]>),
    /// They are in a list of changes that is kept as long as what is made of it, and so the pages
    /// that hold them need no copy.
    Listed(Arc<[u8]>),
}

impl Payload {
    /// Writes all of it.
    pub(super) fn write_to(&self, content: &mut FileContent, at: FileOffset) {
        match self {
            Payload::Listed(data) => content.write_listed(data, at),
            _ => content.write_at(self, at),
        }
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Payload::Own(data) => data,
            Payload::Sent(data) | Payload::Listed(data) => data,
        }
    }
}

impl From<&[u8]> for Payload {
    fn from(data: &[u8]) -> Payload {
        Payload::Own(data.into())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(data: Vec<u8>) -> Payload {
        Payload::Own(data.into())
    }
}
