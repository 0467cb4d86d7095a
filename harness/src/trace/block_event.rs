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

    /// `223490 + 8 [comm]`; `223490 [error]` where a request of no data has completed; or only
    /// `[comm]` where nothing is transferred.
    fn extent(&self) -> Option<(Sector, SectorCount)> {
        // The command's name or the error at the end shows that nothing is cut off.
        if !self.rest.ends_with(']') {
            return None;
        }
        if self.rest.starts_with('[') {
            return Some((Sector(0), SectorCount(0)));
        }
        let (start, rest) = word(self.rest)?;
        let start = Sector(parse_u64(start)?);
        match word(rest)? {
            ("+", rest) => Some((start, SectorCount(parse_u64(word(rest)?.0)?))),
            (error, _) if error.starts_with('[') && self.action == "C" => {
                Some((start, SectorCount(0)))
            }
            _ => None,
        }
    }

    /// A packet command to the device, whose bytes stand between round brackets: no request for
    /// sectors, whatever its letters say.
    fn is_packet_command(&self) -> bool {
        let fields = self.rest.split('[').next().unwrap_or_default();
        fields.contains('(')
    }

    /// The entry that it makes; `None` if its fields are not what they should be.
    pub(super) fn entry(&self, time: Nanoseconds, device: DeviceNumber) -> Option<Decoded> {
        let Some(event) = self.event().filter(|_| !self.is_packet_command()) else {
            return Some(Decoded::Nothing);
        };
        Some(entry(time, event, device, self.letters, self.extent()?))
    }
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
