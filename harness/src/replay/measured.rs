//! When the requests of a replay were submitted and completed, and how long they took.

use driver::blk::Operation;
use driver::units::SectorCount;
use hdrhistogram::Histogram;

use crate::clock::Clock;
use crate::stamp::Coverage;

use super::in_flight::InFlight;
use super::pace::latency_histogram;
use super::report::{Latencies, Percentiles};
use super::timeline::{Kind, Timeline};

/// With stamps only, the clock is looked at once in this many times: a look takes as long as the
/// driver does for a request. Each request looks when it is submitted and when it is done.
const LOOKS_APART: u32 = 32;

/// What is measured of requests.
pub struct Measured {
    watch: Watch,
    read: Histogram<u64>,
    write: Histogram<u64>,
    flush: Histogram<u64>,
    during_resize: Histogram<u64>,
    began_ns: u64,
    /// When the last request was completed, from the beginning.
    pub requests_elapsed_ns: u64,
    /// Requests over time.
    pub timeline: Timeline,
}

impl Measured {
    /// Begins now, of a device that becomes no larger than this.
    pub(super) fn begin(clock: &dyn Clock, coverage: Coverage, largest: SectorCount) -> Measured {
        let looks_apart = match coverage {
            Coverage::Whole => 1,
            Coverage::Front => LOOKS_APART,
        };
        Measured {
            watch: Watch::new(looks_apart),
            read: latency_histogram(),
            write: latency_histogram(),
            flush: latency_histogram(),
            during_resize: latency_histogram(),
            began_ns: clock.now_ns(),
            requests_elapsed_ns: 0,
            timeline: Timeline::new(largest),
        }
    }

    /// The time of the clock, as it is looked at for requests.
    pub(super) fn now_ns(&mut self, clock: &dyn Clock) -> u64 {
        self.watch.now_ns(clock)
    }

    /// How long after the beginning this time of the clock is.
    pub(super) fn since_begin(&self, ns: u64) -> u64 {
        ns.saturating_sub(self.began_ns)
    }

    /// A request has just been completed.
    pub(super) fn completed(&mut self, flown: &InFlight, resizing: bool, clock: &dyn Clock) {
        let now_ns = self.now_ns(clock);
        let elapsed = now_ns.saturating_sub(flown.started_ns);
        let kind = match flown.operation {
            Operation::Read => Kind::Read,
            Operation::Flush => Kind::Flush,
            Operation::Discard => Kind::Discard,
            Operation::Write { .. } | Operation::WriteZeroes => Kind::Write,
        };
        self.requests_elapsed_ns = self.requests_elapsed_ns.max(self.since_begin(now_ns));
        let began_ns = self.since_begin(flown.started_ns);
        self.timeline.record(began_ns, elapsed, kind, flown.range);
        let histogram = match flown.operation {
            Operation::Read => &mut self.read,
            Operation::Flush => &mut self.flush,
            _ => &mut self.write,
        };
        histogram.saturating_record(elapsed);
        if resizing {
            self.during_resize.saturating_record(elapsed);
        }
    }

    /// The latencies so far.
    pub fn latencies(&self) -> Latencies {
        Latencies {
            read: Percentiles::of(&self.read),
            write: Percentiles::of(&self.write),
            flush: Percentiles::of(&self.flush),
            during_resize: Percentiles::of(&self.during_resize),
        }
    }
}

/// What the clock showed when it was last looked at.
struct Watch {
    /// The clock is looked at once in `apart` times that somebody asks.
    apart: u32,
    left: u32,
    shown_ns: u64,
}

impl Watch {
    fn new(apart: u32) -> Watch {
        Watch {
            apart,
            left: 0,
            shown_ns: 0,
        }
    }

    fn now_ns(&mut self, clock: &dyn Clock) -> u64 {
        if self.left == 0 {
            self.left = self.apart;
            self.shown_ns = clock.now_ns();
        }
        self.left -= 1;
        self.shown_ns
    }
}
