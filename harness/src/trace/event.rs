//! The moments in a request's life that the kernel's tracing tells apart.

/// A moment in a request's life. The order is that of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// Handed to the driver, after merging: `block_rq_issue`, blkparse's `D`. If the device has
    /// no FUA, a preflush and FUA have become flushes of their own here.
    Issue,
    /// As the file system asked, before merging and splitting: `block_bio_queue`, blkparse's
    /// `Q`.
    Queue,
    /// Finished: `block_rq_complete`, blkparse's `C`. A write with preflush may show twice here.
    Complete,
}

impl Event {
    /// All of them, the preferred first.
    pub const ALL: [Event; 3] = [Event::Issue, Event::Queue, Event::Complete];

    /// The name of the kernel's event.
    pub const fn name(self) -> &'static str {
        match self {
            Event::Issue => "block_rq_issue",
            Event::Queue => "block_bio_queue",
            Event::Complete => "block_rq_complete",
        }
    }

    /// The word for it in options and reports.
    pub const fn word(self) -> &'static str {
        match self {
            Event::Issue => "issue",
            Event::Queue => "queue",
            Event::Complete => "complete",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Event> {
        Event::ALL.into_iter().find(|event| event.name() == name)
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Event::Issue => 0,
            Event::Queue => 1,
            Event::Complete => 2,
        }
    }
}
