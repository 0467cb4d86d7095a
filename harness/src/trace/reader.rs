//! What is the same for all foreign formats: which requests are taken, times from the start
//! of the trace on, units, the rules of a record, and what becomes of bad ones.

use super::device::{Device, Devices};
use super::entry::{Decoded, Decoder, Entry};
use super::notes::Notes;
use super::record::RecordFault;
use super::{
    Description, Event, Nanoseconds, ReadOptions, Record, ToDevice, TraceError, TraceOperation,
    TraceSource,
};

/// Reads a trace of any format that has a decoder.
pub(super) struct Reader<D> {
    decoder: D,
    description: Description,
    options: ReadOptions,
    notes: Notes,
    first_device: Option<Device>,
    first_time: Option<Nanoseconds>,
    last_time: Nanoseconds,
    /// The device of the last record, if each is read by itself, and whether it was rounded.
    last_device: Option<(Device, bool)>,
    ended: bool,
}

/// The event to take where several are in a trace: the preferred one of those that `decoder`,
/// which is given the first part of the trace only, finds there.
pub(super) fn preferred_event(mut decoder: impl Decoder) -> Option<Event> {
    let mut preferred = None;
    loop {
        match decoder.decode() {
            Ok(Decoded::Entry(entry)) => {
                preferred = match (preferred, entry.event) {
                    (Some(one), Some(other)) => Some(other.min(one)),
                    (one, other) => one.or(other),
                };
            }
            // The window may end in the middle of a line; and what is wrong before that, the
            // real reader will say.
            Ok(Decoded::End) | Err(TraceError::Io { .. }) => return preferred,
            Ok(_) | Err(_) => {}
        }
    }
}

impl<D: Decoder> Reader<D> {
    /// A reader of what `decoder` decodes. `event` is taken if the options leave it open.
    pub(super) fn new(
        decoder: D,
        description: Description,
        options: &ReadOptions,
        event: Option<Event>,
    ) -> Reader<D> {
        Reader {
            decoder,
            description,
            options: options.clone(),
            notes: Notes {
                event: options.event.or(event),
                ..Notes::default()
            },
            first_device: None,
            first_time: None,
            last_time: Nanoseconds(0),
            last_device: None,
            ended: false,
        }
    }

    fn read(&mut self) -> Result<Option<Record>, TraceError> {
        loop {
            let taken = match self.decoder.decode() {
                Ok(Decoded::End) => return Ok(None),
                Ok(Decoded::Nothing) => {
                    self.notes.others += 1;
                    continue;
                }
                Ok(Decoded::Lost(found)) => {
                    self.notes.lost += 1;
                    if !self.options.allow_lost_events {
                        return Err(self.bad(RecordFault {
                            found,
                            expected: "a recording without gaps".to_owned(),
                        }));
                    }
                    continue;
                }
                Ok(Decoded::Entry(entry)) => self.take(&entry),
                Err(error) => Err(error),
            };
            match taken {
                Ok(Some(record)) => return Ok(Some(record)),
                Ok(None) => {}
                Err(error) if self.options.skip_bad && error.is_bad_content() => {
                    self.notes.count_skipped(&error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The record of an entry, if it is wanted.
    fn take(&mut self, entry: &Entry) -> Result<Option<Record>, TraceError> {
        if let Some(event) = entry.event {
            self.notes.events[event.index()] += 1;
            if *self.notes.event.get_or_insert(event) != event {
                return Ok(None);
            }
        }
        if entry.is_empty() {
            self.notes.empty += 1;
            return Ok(None);
        }
        let converted = self.convert(entry);
        if let Some(device) = &entry.device {
            let most = self.options.devices.most_listed();
            let record = converted.as_ref().ok().map(|(record, _)| record);
            self.notes.count_device(device, most, record);
            match &self.options.devices {
                Devices::All | Devices::Each => {}
                Devices::Only(choice) if choice.is(device) => {}
                Devices::Only(_) => return Ok(None),
                Devices::TheOnly => {
                    let first = self.first_device.get_or_insert_with(|| device.clone());
                    if first != device {
                        return Err(TraceError::SeveralDevices {
                            place: self.decoder.place(),
                            first: first.clone(),
                            second: device.clone(),
                        });
                    }
                }
            }
        }
        let (mut record, rounded) = converted?;
        self.notes.rounded += u64::from(rounded);
        if self.options.devices == Devices::Each {
            self.last_device = entry.device.clone().map(|device| (device, rounded));
        }
        let first = *self.first_time.get_or_insert(record.time);
        self.notes.count_time(record.time, self.last_time);
        self.last_time = record.time;
        // The clocks of two CPUs may differ by a little, and a record may be written late.
        record.time.0 = record.time.0.saturating_sub(first.0);
        Ok(Some(record))
    }

    /// The entry in our units, its time still by the recorder's clock.
    fn convert(&self, entry: &Entry) -> Result<(Record, bool), TraceError> {
        if let Some(fault) = &entry.fault {
            return Err(self.bad(fault.clone()));
        }
        if entry.operation == TraceOperation::Flush {
            return Ok((Record::flush(entry.time), false));
        }
        let convert = || {
            let (start, count, rounded) = entry.extent.sectors()?;
            let record = Record {
                time: entry.time,
                operation: entry.operation,
                preflush: entry.preflush,
                fua: entry.fua,
                start,
                count,
            };
            record.check()?;
            Ok((record, rounded))
        };
        convert().map_err(|fault| self.bad(fault))
    }

    fn bad(&self, fault: RecordFault) -> TraceError {
        TraceError::Bad {
            place: self.decoder.place(),
            found: fault.found,
            expected: fault.expected,
        }
    }
}

impl<D: Decoder> Iterator for Reader<D> {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<D: Decoder> TraceSource for Reader<D> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn notes(&self) -> &Notes {
        &self.notes
    }

    fn payload(&self) -> Option<&[u8]> {
        self.decoder.payload()
    }

    fn to_device(&self) -> Option<ToDevice<'_>> {
        let (device, rounded) = self.last_device.as_ref()?;
        Some(ToDevice {
            device,
            time: self.last_time,
            rounded: *rounded,
        })
    }
}
