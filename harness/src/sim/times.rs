//! A file's time of last modification: the one that is durable, and those that it has had
//! since. A power cut leaves any of them.

/// The times of one file, in seconds since 1970.
#[derive(Clone, Default)]
pub(crate) struct Times {
    durable: i64,
    /// What the file was given since, oldest first.
    later: Vec<i64>,
}

impl Times {
    /// One time, which is durable.
    pub(crate) fn durable(seconds: i64) -> Times {
        Times {
            durable: seconds,
            later: Vec::new(),
        }
    }

    /// What [`driver::host::Metadata`] reports.
    pub(crate) fn current(&self) -> i64 {
        self.later.last().copied().unwrap_or(self.durable)
    }

    /// Sets the current one, which a power cut can take.
    pub(crate) fn set(&mut self, seconds: i64) {
        self.later.push(seconds);
    }

    /// Makes the current one durable.
    pub(crate) fn settle(&mut self) {
        self.durable = self.current();
        self.later.clear();
    }

    /// All that a power cut can leave, the durable one first and the current one last.
    pub(crate) fn at_stake(&self) -> impl Iterator<Item = i64> {
        std::iter::once(self.durable).chain(self.later.iter().copied())
    }

    /// Whether a power cut leaves the current one for certain.
    pub(crate) fn is_settled(&self) -> bool {
        self.later.is_empty()
    }
}
