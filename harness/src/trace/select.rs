//! A part of a trace: from one request to another, from one time to another, or one device's.

use std::path::{Path, PathBuf};

use super::{
    Description, DeviceChoice, Nanoseconds, Notes, Record, Served, TraceError, TraceOperation,
    TraceSource,
};

/// What a part of a trace leaves out of what was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Requests, by their number or their time.
    pub requests: u64,
    /// The latest time of one of them, since the start of the trace.
    pub last: Nanoseconds,
    /// The device whose requests are taken, if not those of all.
    pub device: Option<DeviceChoice>,
    /// Requests that a driver does not know.
    pub unsupported: u64,
}

/// A source that gives a part of another one, and what that one tells of its requests.
trait PartOf {
    fn whole(&self) -> &dyn TraceSource;

    /// What was left out until now, by it and by the other one.
    fn leaves_out(&self) -> LeftOut;
}

impl<P: PartOf + Iterator<Item = Result<Record, TraceError>> + Send> TraceSource for P {
    fn description(&self) -> &Description {
        self.whole().description()
    }

    fn notes(&self) -> &Notes {
        self.whole().notes()
    }

    fn payload(&self) -> Option<&[u8]> {
        self.whole().payload()
    }

    fn tells_served(&self) -> bool {
        self.whole().tells_served()
    }

    fn served(&self) -> Option<Served> {
        self.whole().served()
    }

    fn left_out(&self) -> LeftOut {
        self.leaves_out()
    }
}

/// Which requests are known to the driver that gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Discards and writes of zeros; it knows all others.
    pub discards: bool,
}

impl Known {
    /// `source` without the requests that are not known.
    pub fn of(self, source: Box<dyn TraceSource>) -> Box<dyn TraceSource> {
        match self.discards {
            true => source,
            false => Box::new(WithoutDiscards {
                source,
                unsupported: 0,
            }),
        }
    }
}

struct WithoutDiscards {
    source: Box<dyn TraceSource>,
    unsupported: u64,
}

impl Iterator for WithoutDiscards {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = self.source.next()?;
            let is_unknown = record.as_ref().is_ok_and(|record| {
                matches!(
                    record.operation,
                    TraceOperation::Discard | TraceOperation::WriteZeroes
                )
            });
            if !is_unknown {
                return Some(record);
            }
            self.unsupported += 1;
        }
    }
}

impl PartOf for WithoutDiscards {
    fn whole(&self) -> &dyn TraceSource {
        &*self.source
    }

    fn leaves_out(&self) -> LeftOut {
        LeftOut {
            unsupported: self.unsupported,
            ..self.source.left_out()
        }
    }
}

/// Which part of a trace is taken. All conditions have to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Requests that are left out at the start; of those that the times let through.
    pub skip: u64,
    /// The most requests that are taken.
    pub limit: Option<u64>,
    /// Only those at this time or later, since the start of the trace.
    pub from: Option<Nanoseconds>,
    /// Only those before this time.
    pub to: Option<Nanoseconds>,
}

impl Selection {
    /// Whether it is everything.
    pub fn is_all(&self) -> bool {
        *self == Selection::default()
    }

    /// The part of `source`. Its times count from its own first request.
    pub fn of(self, source: Box<dyn TraceSource>) -> Box<dyn TraceSource> {
        match self.is_all() {
            true => source,
            false => Box::new(Selected {
                source,
                selection: self,
                passed: 0,
                taken: 0,
                first_time: None,
                left_out: LeftOut::default(),
            }),
        }
    }
}

struct Selected {
    source: Box<dyn TraceSource>,
    selection: Selection,
    passed: u64,
    taken: u64,
    first_time: Option<Nanoseconds>,
    left_out: LeftOut,
}

impl Selected {
    fn is_wanted(&mut self, record: &Record) -> bool {
        let Selection { skip, from, to, .. } = self.selection;
        let in_time =
            from.is_none_or(|from| record.time >= from) && to.is_none_or(|to| record.time < to);
        let is_past = self.passed >= skip;
        self.passed += u64::from(in_time);
        in_time && is_past
    }
}

impl Iterator for Selected {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self
            .selection
            .limit
            .is_some_and(|limit| self.taken >= limit)
        {
            return None;
        }
        loop {
            let mut record = match self.source.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            // Times may step back a little, so one past the end ends nothing.
            if self.is_wanted(&record) {
                self.taken += 1;
                let first = *self.first_time.get_or_insert(record.time);
                record.time.0 = record.time.0.saturating_sub(first.0);
                return Some(Ok(record));
            }
            self.left_out.requests += 1;
            self.left_out.last = self.left_out.last.max(record.time);
        }
    }
}

impl PartOf for Selected {
    fn whole(&self) -> &dyn TraceSource {
        &*self.source
    }

    fn leaves_out(&self) -> LeftOut {
        LeftOut {
            device: self.source.left_out().device,
            ..self.left_out.clone()
        }
    }
}

/// One device's requests, of a trace of which the reader takes only those.
pub(super) struct OfDevice {
    source: Box<dyn TraceSource>,
    /// What errors call the trace.
    name: PathBuf,
    choice: DeviceChoice,
    /// There was an error.
    ended: bool,
}

impl OfDevice {
    /// The part of `source`, which errors call `name`.
    pub(super) fn of(
        source: Box<dyn TraceSource>,
        name: &Path,
        choice: &DeviceChoice,
    ) -> Box<dyn TraceSource> {
        Box::new(OfDevice {
            source,
            name: name.to_owned(),
            choice: choice.clone(),
            ended: false,
        })
    }
}

impl Iterator for OfDevice {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.source.next();
        let tells = !self.source.notes().devices.is_empty();
        match next {
            Some(Ok(_)) if !tells => {
                self.ended = true;
                Some(Err(TraceError::NoDevices {
                    file: self.name.clone(),
                    choice: self.choice.clone(),
                }))
            }
            next => next,
        }
    }
}

impl PartOf for OfDevice {
    fn whole(&self) -> &dyn TraceSource {
        &*self.source
    }

    fn leaves_out(&self) -> LeftOut {
        LeftOut {
            device: Some(self.choice.clone()),
            ..self.source.left_out()
        }
    }
}
