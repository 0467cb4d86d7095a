//! What blkparse, the kernel's `blk` tracer and the kernel's block events have in common: the
//! fields of an action in text, and the entry that they make.

use driver::units::{Sector, SectorCount};

use super::device::{Device, DeviceNumber};
use super::entry::{Decoded, Entry, Extent};
use super::error::excerpt;
use super::number::parse_u64;
use super::record::RecordFault;
use super::{Event, Nanoseconds, TraceOperation, rwbs};

/// The actions that blkparse and the `blk` tracer print.
const ACTIONS: [&str; 16] = [
    "Q", "M", "F", "G", "S", "R", "D", "C", "P", "U", "UT", "I", "X", "B", "A", "m",
];

/// What an action does to which request: `Q W 223490 + 8 [kjournald]`, its device apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Action<'a> {
    action: &'a str,
    letters: &'a str,
    rest: &'a str,
}

impl<'a> Action<'a> {
    /// The action that `text` is, or `None`.
    pub(super) fn parse(text: &'a str) -> Option<Action<'a>> {
        let (action, rest) = word(text)?;
        let action = ACTIONS.contains(&action).then_some(action)?;
        let (letters, rest) = word(rest)?;
        Some(Action {
            action,
            letters,
            rest: rest.trim(),
        })
    }

    fn event(&self) -> Option<Event> {
        match self.action {
            "Q" => Some(Event::Queue),
            "D" => Some(Event::Issue),
            "C" => Some(Event::Complete),
            _ => None,
        }
    }

    /// What stands after the letters; `None` if it is cut off, or is none of these:
    ///
    /// ```text
    /// 223490 + 8 [comm]                   a request for sectors
    /// 223490 [error]                      a request of no data has completed
    /// [comm]                              nothing is transferred
    /// 36 (12 00 00 00 24 00 ..) [comm]    a packet command: its bytes of data, and its own
    /// 36 [comm]                           the same where the kernel does not record its own
    /// (12 00 00 00 24 00 ..) [error]      a packet command has completed
    /// ```
    ///
    /// `blkparse -t` puts the time since the step before into round brackets, in front of the
    /// square ones of a request for sectors: `223490 + 8 (    2000) [comm]`.
    fn transfer(&self) -> Option<Transfer> {
        // The command's name or the error at the end shows that nothing is cut off.
        if !self.rest.ends_with(']') {
            return None;
        }
        let (fields, _) = self.rest.split_once('[')?;
        let (fields, bracketed) = match fields.split_once('(') {
            Some((fields, bracketed)) => (fields, Some(bracketed.trim_end().strip_suffix(')')?)),
            None => (fields, None),
        };
        // A number alone is a time: the shortest packet command has several bytes.
        if bracketed.is_some_and(|text| parse_u64(text.trim()).is_none()) {
            return Some(Transfer::Packet);
        }
        let mut words = fields.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (None, ..) => Some(Transfer::Sectors(Sector(0), SectorCount(0))),
            (Some(start), Some("+"), Some(count)) => {
                let (start, count) = (parse_u64(start)?, parse_u64(count)?);
                Some(Transfer::Sectors(Sector(start), SectorCount(count)))
            }
            (Some(start), None, None) if self.action == "C" => {
                Some(Transfer::Sectors(Sector(parse_u64(start)?), SectorCount(0)))
            }
            (Some(bytes), None, None) => parse_u64(bytes).map(|_| Transfer::Packet),
            _ => None,
        }
    }

    /// The entry that it makes; `None` if its fields are not what they should be.
    pub(super) fn entry(&self, time: Nanoseconds, device: DeviceNumber) -> Option<Decoded> {
        let Some(event) = self.event() else {
            return Some(Decoded::Nothing);
        };
        Some(match self.transfer()? {
            Transfer::Sectors(start, count) => {
                entry(time, event, device, self.letters, (start, count))
            }
            Transfer::Packet => Decoded::Nothing,
        })
    }
}

/// What an action is about.
enum Transfer {
    /// A request for sectors, perhaps for none.
    Sectors(Sector, SectorCount),
    /// A packet command to the device: no request for sectors, whatever its letters say.
    Packet,
}

/// The first word of `text`, and what follows it.
pub(super) fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The entry of a block event whose letters say what it is.
pub(super) fn entry(
    time: Nanoseconds,
    event: Event,
    device: DeviceNumber,
    letters: &str,
    (start, count): (Sector, SectorCount),
) -> Decoded {
    let parsed = rwbs::parse(letters, count.0);
    let operation = match parsed {
        Some(rwbs) => match rwbs.operation {
            Some(operation) => operation,
            None => return Decoded::Nothing,
        },
        None => TraceOperation::Write,
    };
    // The flush machinery completes a write's flush before the write itself, with no sectors.
    if event == Event::Complete && count.0 == 0 && operation != TraceOperation::Flush {
        return Decoded::Nothing;
    }
    let fault = parsed.is_none().then(|| RecordFault {
        found: excerpt(letters.as_bytes()),
        expected: rwbs::EXPECTED.to_owned(),
    });
    Decoded::Entry(Entry {
        device: Some(Device::Number(device)),
        event: Some(event),
        preflush: parsed.is_some_and(|rwbs| rwbs.preflush),
        fua: parsed.is_some_and(|rwbs| rwbs.fua),
        fault,
        ..Entry::new(time, operation, Extent::Sectors(start, count))
    })
}
