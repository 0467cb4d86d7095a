//! The bytes of a write, which every copy of the write shares.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes that a change has alone, or that it shares with a list of changes which other threads have
/// too.
#[derive(Clone)]
pub(crate) enum Payload {
    Own(Rc<[u8]>),
    OfList(Arc<[u8]>),
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Payload::Own(data) => data,
            Payload::OfList(data) => data,
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

impl From<&Arc<[u8]>> for Payload {
    fn from(data: &Arc<[u8]>) -> Payload {
        Payload::OfList(Arc::clone(data))
    }
}
