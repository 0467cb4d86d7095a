//! The requests to some of a trace's devices, held in memory: the trace is read once for all of
//! them, and each is then read as often as it has to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    Description, Device, DeviceChoice, LeftOut, Nanoseconds, Notes, Record, TraceError, TraceSource,
};

/// What the recorder says of a request to one of several devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToDevice<'a> {
    /// Which.
    pub device: &'a Device,
    /// When, by the recorder's clock, which starts anywhere.
    pub time: Nanoseconds,
    /// Whether its offset or end was rounded outward.
    pub rounded: bool,
}

/// A request as it is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Its time is that of the recorder's clock.
    record: Record,
    rounded: bool,
}

/// What a request takes of the memory, in bytes.
pub const BYTES_OF_REQUEST: u64 = size_of::<Held>() as u64;

/// The requests to some devices.
pub struct ByDevice {
    description: Description,
    requests: BTreeMap<Device, Arc<Vec<Held>>>,
}

impl ByDevice {
    /// Reads all of `source`, which was opened with [`Devices::Each`](super::Devices::Each), and
    /// holds the requests to each of these devices, of which it is known how many there are. `None`
    /// if a request goes to no device: it is then a part of what goes to any of them.
    ///
    /// # Errors
    /// What is wrong with the trace.
    pub fn read(
        source: &mut dyn TraceSource,
        devices: impl IntoIterator<Item = (Device, u64)>,
    ) -> Result<Option<ByDevice>, TraceError> {
        let with_room = |(device, requests)| {
            (
                device,
                Vec::with_capacity(usize::try_from(requests).unwrap_or(0)),
            )
        };
        let mut held: BTreeMap<Device, Vec<Held>> = devices.into_iter().map(with_room).collect();
        while let Some(record) = source.next() {
            let record = record?;
            let Some(to) = source.to_device() else {
                return Ok(None);
            };
            if let Some(requests) = held.get_mut(to.device) {
                let time = to.time;
                requests.push(Held {
                    record: Record { time, ..record },
                    rounded: to.rounded,
                });
            }
        }
        let held = held.into_iter();
        Ok(Some(ByDevice {
            description: source.description().clone(),
            requests: held
                .map(|(device, requests)| (device, Arc::new(requests)))
                .collect(),
        }))
    }

    /// The requests to one of the devices, as they come from the trace where only those are asked
    /// for.
    pub fn source(&self, device: &Device) -> Option<Box<dyn TraceSource>> {
        let requests = Arc::clone(self.requests.get(device)?);
        Some(Box::new(OfOne {
            description: self.description.clone(),
            choice: DeviceChoice::from(device),
            requests,
            next: 0,
            last_time: Nanoseconds(0),
            notes: Notes::default(),
        }))
    }
}

/// Reads what is held of one device.
struct OfOne {
    description: Description,
    choice: DeviceChoice,
    requests: Arc<Vec<Held>>,
    next: usize,
    last_time: Nanoseconds,
    notes: Notes,
}

impl Iterator for OfOne {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        let Held {
            mut record,
            rounded,
        } = *self.requests.get(self.next)?;
        self.next += 1;
        self.notes.rounded += u64::from(rounded);
        self.notes.count_time(record.time, self.last_time);
        self.last_time = record.time;
        let first = self.requests[0].record.time;
        record.time.0 = record.time.0.saturating_sub(first.0);
        Some(Ok(record))
    }
}

impl TraceSource for OfOne {
    fn description(&self) -> &Description {
        &self.description
    }

    fn notes(&self) -> &Notes {
        &self.notes
    }

    fn left_out(&self) -> LeftOut {
        LeftOut {
            device: Some(self.choice.clone()),
            ..LeftOut::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Devices, ReadOptions, open_stream};
    use super::*;

    fn open(text: &'static str, devices: Devices) -> Box<dyn TraceSource> {
        let options = ReadOptions {
            devices,
            ..ReadOptions::default()
        };
        open_stream("t.csv".as_ref(), text.as_bytes(), &options).unwrap()
    }

    /// All requests, each with what was noticed until then.
    fn read(mut source: Box<dyn TraceSource>) -> Vec<(Record, [u64; 3])> {
        let mut all = Vec::new();
        while let Some(record) = source.next() {
            let notes = source.notes();
            let noticed = [notes.rounded, notes.earlier, notes.earlier_by_at_most.0];
            all.push((record.unwrap(), noticed));
        }
        all
    }

    /// Offsets within sectors, and times before those of other requests, of the trace's first too.
    const TRACE: &str = "\
        1,W,0,512,5000\n\
        2,R,100,700,4000\n\
        1,R,512,512,4990\n\
        2,W,4096,4096,3990\n\
        1,W,1000,1,6000\n\
        3,W,0,512,7000\n\
        2,R,0,512,4100\n\
        1,W,0,512,5999\n";

    #[test]
    fn what_is_held_of_a_device_is_what_is_read_of_it_alone() {
        let wanted = [1, 2].map(|id| (Device::Id(id), 3));
        let held = ByDevice::read(open(TRACE, Devices::Each).as_mut(), wanted);
        let held = held.unwrap().unwrap();
        for device in [1, 2].map(Device::Id) {
            let alone = read(open(TRACE, Devices::Only(DeviceChoice::from(&device))));
            assert!(alone.len() > 2);
            assert!(alone.last().unwrap().1.iter().all(|&noticed| noticed > 0));
            // As often as one likes.
            for _ in 0..2 {
                assert_eq!(read(held.source(&device).unwrap()), alone);
            }
        }
        assert!(held.source(&Device::Id(3)).is_none());
    }

    #[test]
    fn a_trace_that_does_not_tell_devices_is_not_dealt_out() {
        let text = "time_ns,operation,preflush,fua,start_sector,sectors\n0,read,0,0,0,8\n";
        let held = ByDevice::read(open(text, Devices::Each).as_mut(), []);
        assert!(held.unwrap().is_none());
    }

    #[test]
    fn what_is_wrong_with_the_trace_is_told() {
        let text = "1,W,0,512,5000\n1,W,0,512,6000\n1,W,0,512\n";
        let held = ByDevice::read(open(text, Devices::Each).as_mut(), []);
        assert!(held.err().unwrap().is_bad_content());
    }
}
