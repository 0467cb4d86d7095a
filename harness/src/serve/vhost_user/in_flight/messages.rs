//! The two messages by which a client borrows memory for what is in flight and gives it back. The
//! library refuses both, so that they are answered here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vhost::vhost_user::VhostUserProtocolFeatures;

use super::super::relay::{Message, RelayError};
use super::{InFlightNotes, NoNotes, NotedQueues};

const SET_PROTOCOL_FEATURES: u32 = 16;
const GET_INFLIGHT_FD: u32 = 31;
const SET_INFLIGHT_FD: u32 = 32;

/// The body of both: length and offset of the memory in 8 bytes each, the number of queues and
/// their length in 2 bytes each. Some clients send 4 bytes more, and expect as many.
const BODY: usize = 20;

/// What a client and the server have agreed on, as far as it is about this.
#[derive(Debug, Default)]
pub(in super::super) struct Lender {
    features: AtomicU64,
}

/// What a message is for.
#[derive(Debug)]
pub(in super::super) enum Met {
    /// For the library.
    Library,
    /// It is done with these notes, and answered if there is an answer.
    Notes(Arc<InFlightNotes>, Option<Message>),
}

impl Lender {
    /// Looks at a message of the client. Before notes are lent or looked at, `prepare` has the
    /// device ready for them.
    pub(in super::super) fn meet(
        &self,
        message: &mut Message,
        prepare: impl FnOnce() -> Result<(), NoNotes>,
    ) -> Result<Met, RelayError> {
        let request = message.request();
        if request == SET_PROTOCOL_FEATURES
            && let Some(features) = message.body().first_chunk()
        {
            let features = u64::from_le_bytes(*features);
            self.features.store(features, Ordering::Relaxed);
        }
        let is_ours = matches!(request, GET_INFLIGHT_FD | SET_INFLIGHT_FD);
        // Who has not agreed on it is refused by the library.
        if !is_ours || !self.has(VhostUserProtocolFeatures::INFLIGHT_SHMFD) {
            return Ok(Met::Library);
        }
        let area = Area::parse(message.body())?;
        let descriptor = message.take_descriptor();
        prepare()?;
        if request == GET_INFLIGHT_FD {
            let (notes, file) = InFlightNotes::new(area.shape)?;
            let answer = message.reply(area.lent(message.body().len()), Some(file));
            return Ok(Met::Notes(Arc::new(notes), Some(answer)));
        }
        let file = descriptor.ok_or(RelayError::NoDescriptor)?;
        let notes = InFlightNotes::given_back(file, area.offset, area.len, area.shape)?;
        let wants_reply = message.wants_reply() && self.has(VhostUserProtocolFeatures::REPLY_ACK);
        let done = 0u64.to_le_bytes().to_vec();
        let answer = wants_reply.then(|| message.reply(done, None));
        Ok(Met::Notes(Arc::new(notes), answer))
    }

    fn has(&self, feature: VhostUserProtocolFeatures) -> bool {
        self.features.load(Ordering::Relaxed) & feature.bits() != 0
    }
}

/// Where in a file the memory is, and what it is for.
struct Area {
    len: u64,
    offset: u64,
    shape: NotedQueues,
}

impl Area {
    fn parse(body: &[u8]) -> Result<Area, RelayError> {
        let Some(fields) = body.first_chunk::<BODY>() else {
            return Err(RelayError::ShortBody(body.len()));
        };
        let double = |at: usize| {
            let bytes = std::array::from_fn(|n| fields[at + n]);
            u64::from_le_bytes(bytes)
        };
        let half = |at: usize| u16::from_le_bytes([fields[at], fields[at + 1]]);
        Ok(Area {
            len: double(0),
            offset: double(8),
            shape: NotedQueues::new(half(16), half(18))?,
        })
    }

    /// The body of the message by which it is lent, as long as the client's.
    fn lent(&self, len: usize) -> Vec<u8> {
        let mut body = (self.shape.bytes() as u64).to_le_bytes().to_vec();
        body.extend(0u64.to_le_bytes());
        body.extend(self.shape.queues.to_le_bytes());
        body.extend(self.shape.len.to_le_bytes());
        body.resize(len, 0);
        body
    }
}
