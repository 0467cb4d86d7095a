//! The files of several CPUs as one trace, merged by time.
//!
//! Each file is in order by itself, or nearly so. Of every file only the next entry is held.

use super::super::entry::{Decoded, Decoder, Entry};
use super::super::{Place, TraceError};

/// Several decoders as one.
pub(in super::super) struct Merged<D> {
    sources: Vec<Source<D>>,
    /// Which one the last entry or error came from.
    last: usize,
}

struct Source<D> {
    decoder: D,
    next: Option<Entry>,
    has_ended: bool,
}

impl<D: Decoder> Merged<D> {
    /// Of at least one decoder; of two entries with the same time, that of the first comes
    /// first.
    pub(in super::super) fn new(decoders: impl IntoIterator<Item = D>) -> Merged<D> {
        let sources = decoders.into_iter().map(|decoder| Source {
            decoder,
            next: None,
            has_ended: false,
        });
        Merged {
            sources: sources.collect(),
            last: 0,
        }
    }
}

impl<D: Decoder> Decoder for Merged<D> {
    fn decode(&mut self) -> Result<Decoded, TraceError> {
        // Looked at only now, so that until now the place was that of what was given out.
        for (index, source) in self.sources.iter_mut().enumerate() {
            while source.next.is_none() && !source.has_ended {
                self.last = index;
                match source.decoder.decode()? {
                    Decoded::Entry(entry) => source.next = Some(entry),
                    Decoded::End => source.has_ended = true,
                    Decoded::Nothing => {}
                    Decoded::Lost(words) => return Ok(Decoded::Lost(words)),
                }
            }
        }
        let entries = self.sources.iter().enumerate();
        let times = entries.filter_map(|(index, source)| Some((source.next.as_ref()?.time, index)));
        let Some((_, first)) = times.min() else {
            return Ok(Decoded::End);
        };
        self.last = first;
        let entry = self.sources[first].next.take();
        Ok(entry.map_or(Decoded::Nothing, Decoded::Entry))
    }

    fn place(&self) -> Place {
        self.sources[self.last].decoder.place()
    }
}
