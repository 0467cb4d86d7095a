//! When each request is submitted: as soon as there is room, or at the trace's own times.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::trace::Nanoseconds;

use super::report::Percentiles;

/// A request later than this is counted as late.
const LATE_NS: u64 = 1_000_000;

/// How fast a trace is replayed. Speeds are factors, larger than 0: 2 is twice as fast as
/// recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// As soon as there is room: closed loop, at the depth.
    #[default]
    AsFast,
    /// Each request at its own time: open loop. A device that is too slow makes requests late,
    /// never the schedule.
    Recorded {
        /// How much faster than recorded.
        speed: f64,
    },
    /// Each request the recorded time after the one before it was submitted: closed loop. A
    /// request that has to wait for room delays all after it, as it would have delayed the
    /// program that made them.
    ThinkTimes {
        /// How much faster than recorded.
        speed: f64,
    },
}

/// What keeping the pace came to.
#[derive(Clone, Debug, Serialize)]
pub struct PaceReport {
    /// "recorded" (open loop) or "think-times" (closed loop).
    pub pace: &'static str,
    /// How much faster than recorded.
    pub speed: f64,
    /// Requests that were submitted more than a millisecond after they were due.
    pub late_requests: u64,
    /// How long after they were due the requests were submitted.
    pub lateness: Percentiles,
}

/// Keeps the schedule.
pub(super) struct Pacer {
    pace: Pace,
    /// When the first request was due, and its time in the trace.
    origin: Option<(u64, Nanoseconds)>,
    /// Of the request before: when it was due or submitted, and its time in the trace.
    previous: (u64, Nanoseconds),
    late: u64,
    lateness: Histogram<u64>,
}

fn scaled(ns: u64, speed: f64) -> u64 {
    // Saturates, and speed 1 changes nothing below a hundred days.
    (ns as f64 / speed) as u64
}

impl Pacer {
    pub(super) fn new(pace: Pace, lateness: Histogram<u64>) -> Pacer {
        Pacer {
            pace,
            origin: None,
            previous: (0, Nanoseconds(0)),
            late: 0,
            lateness,
        }
    }

    /// When a request with this time in the trace is due, if there is any time for it. `now_ns`
    /// says what the clock shows; looking at it costs something, and is rarely needed.
    pub(super) fn due(&mut self, time: Nanoseconds, now_ns: impl Fn() -> u64) -> Option<u64> {
        let (before, previous_time) = self.previous;
        let due = match (self.pace, self.origin) {
            (Pace::AsFast, _) => return None,
            (_, None) => {
                let now_ns = now_ns();
                self.origin = Some((now_ns, time));
                now_ns
            }
            (Pace::Recorded { speed }, Some((start, first))) => {
                let since = scaled(time.0.saturating_sub(first.0), speed);
                // A time that steps back is no lateness.
                start.saturating_add(since).max(before)
            }
            (Pace::ThinkTimes { speed }, Some(_)) => {
                let thought = scaled(time.0.saturating_sub(previous_time.0), speed);
                before.saturating_add(thought)
            }
        };
        // Times that step back once do not make the next think time longer.
        self.previous = (due, time.max(previous_time));
        Some(due)
    }

    /// The request that was due at `due_ns` was submitted.
    pub(super) fn submitted(&mut self, due_ns: u64, now_ns: u64) {
        let late_ns = now_ns.saturating_sub(due_ns);
        self.late += u64::from(late_ns > LATE_NS);
        self.lateness.saturating_record(late_ns);
        if let Pace::ThinkTimes { .. } = self.pace {
            self.previous.0 = self.previous.0.max(now_ns);
        }
    }

    /// What it came to; nothing where no pace was to be kept.
    pub(super) fn report(&self) -> Option<PaceReport> {
        let (pace, speed) = match self.pace {
            Pace::AsFast => return None,
            Pace::Recorded { speed } => ("recorded", speed),
            Pace::ThinkTimes { speed } => ("think-times", speed),
        };
        Some(PaceReport {
            pace,
            speed,
            late_requests: self.late,
            lateness: Percentiles::of(&self.lateness),
        })
    }
}

/// From a nanosecond to a minute, two digits of precision.
pub(super) fn latency_histogram() -> Histogram<u64> {
    let histogram = Histogram::new_with_bounds(1, 60_000_000_000, 2);
    histogram.expect("these bounds are valid for hdrhistogram")
}
