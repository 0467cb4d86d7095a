//! A part of a trace: from one request to another, or from one time to another.

use super::{Description, Nanoseconds, Notes, Record, Served, TraceError, TraceSource};

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
        }
    }
}

impl TraceSource for Selected {
    fn description(&self) -> &Description {
        self.source.description()
    }

    fn notes(&self) -> &Notes {
        self.source.notes()
    }

    fn payload(&self) -> Option<&[u8]> {
        self.source.payload()
    }

    fn tells_served(&self) -> bool {
        self.source.tells_served()
    }

    fn served(&self) -> Option<Served> {
        self.source.served()
    }
}
