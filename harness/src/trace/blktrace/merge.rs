//! The files of several CPUs as one trace, merged by time.
//!
//! The order of requests decides which write is the last one, so it has to be that of time. A file
//! may be out of order itself: one stream can hold the events of all CPUs, a buffer of each after
//! the other. Of every file a window of entries is held, and the earliest of all is next. What
//! comes later than the window keeps its place in the file, and the reader counts it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use driver::units::FileOffset;

use super::super::entry::{Decoded, Decoder, Entry};
use super::super::{Nanoseconds, Place, TraceError};

/// The entries that are held of all files together.
const WINDOWS: usize = 65_536;

/// The entries of one file that are held at most. blkparse takes 512 events of a CPU at a time.
const WINDOW: usize = 4096;

/// Several decoders as one.
pub(in super::super) struct Merged<D> {
    sources: Vec<Source<D>>,
    /// The entries of one file that are held.
    window: usize,
    /// Where the last entry or error came from: the file, and the offset of an entry in it.
    last: (usize, Option<FileOffset>),
}

struct Source<D> {
    decoder: D,
    window: BinaryHeap<Reverse<Held>>,
    decoded: u64,
    has_ended: bool,
}

/// An entry in a window, in the order of time and, at one time, of the file.
struct Held {
    order: (Nanoseconds, u64),
    offset: FileOffset,
    entry: Entry,
}

impl PartialEq for Held {
    fn eq(&self, other: &Held) -> bool {
        self.order == other.order
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Held) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Held) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl<D: Decoder> Merged<D> {
    /// Of at least one decoder; of two entries with the same time, that of the first comes
    /// first.
    pub(in super::super) fn new(decoders: impl IntoIterator<Item = D>) -> Merged<D> {
        let sources = decoders.into_iter().map(|decoder| Source {
            decoder,
            window: BinaryHeap::new(),
            decoded: 0,
            has_ended: false,
        });
        let sources: Vec<_> = sources.collect();
        Merged {
            window: (WINDOWS / sources.len().max(1)).clamp(1, WINDOW),
            sources,
            last: (0, None),
        }
    }
}

impl<D: Decoder> Source<D> {
    fn fill(&mut self, most: usize) -> Result<Option<String>, TraceError> {
        while self.window.len() < most && !self.has_ended {
            match self.decoder.decode()? {
                Decoded::Entry(entry) => {
                    let offset = self.decoder.place().offset;
                    let order = (entry.time, self.decoded);
                    self.decoded += 1;
                    self.window.push(Reverse(Held {
                        order,
                        offset,
                        entry,
                    }));
                }
                Decoded::End => self.has_ended = true,
                Decoded::Nothing => {}
                Decoded::Lost(words) => return Ok(Some(words)),
            }
        }
        Ok(None)
    }
}

impl<D: Decoder> Decoder for Merged<D> {
    fn decode(&mut self) -> Result<Decoded, TraceError> {
        // Looked at only now, so that until now the place was that of what was given out.
        for (index, source) in self.sources.iter_mut().enumerate() {
            self.last = (index, None);
            if let Some(words) = source.fill(self.window)? {
                return Ok(Decoded::Lost(words));
            }
        }
        let earliest = |(index, source): (usize, &Source<D>)| {
            let Reverse(held) = source.window.peek()?;
            Some((held.order.0, index))
        };
        let Some((_, first)) = self.sources.iter().enumerate().filter_map(earliest).min() else {
            return Ok(Decoded::End);
        };
        let Some(Reverse(held)) = self.sources[first].window.pop() else {
            return Ok(Decoded::Nothing);
        };
        self.last = (first, Some(held.offset));
        Ok(Decoded::Entry(held.entry))
    }

    fn place(&self) -> Place {
        let (source, offset) = self.last;
        let place = self.sources[source].decoder.place();
        Place {
            offset: offset.unwrap_or(place.offset),
            ..place
        }
    }
}
