//! A trace's own pace, by a simulated clock: what is due when, what is late, and that nothing
//! of it depends on a real one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Cursor;
use std::path::Path;
use std::rc::Rc;

use driver::blk::{Completion, Limits, Request, Status};
use driver::memory::MemoryFile;
use driver::ordered::Statistics;
use driver::resize::ResizeOutcome;
use driver::units::{Sector, SectorCount};
use harness::clock::Clock;
use harness::device::{BlockDevice, DeviceError, SentResize};
use harness::oracle::{Initial, Oracle};
use harness::replay::pace::{Pace, PaceReport};
use harness::replay::run::{Manner, Run};
use harness::replay::{PastEnd, Placing};
use harness::trace::{ReadOptions, open_stream};

/// A clock that moves only when somebody waits.
#[derive(Clone, Default)]
struct Simulated(Rc<Cell<u64>>);

impl Clock for Simulated {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }

    fn sleep_until_ns(&self, ns: u64) {
        self.0.set(self.0.get().max(ns));
    }
}

/// A device that takes the same time for each request, one after the other.
struct Slow {
    clock: Simulated,
    service_ns: u64,
    free_at_ns: u64,
    queue: VecDeque<(u64, Request)>,
    submitted: Rc<RefCell<Vec<u64>>>,
}

impl Slow {
    fn pop(&mut self) -> Option<Completion> {
        let (_, request) = self.queue.pop_front()?;
        Some(Completion {
            request,
            status: Status::Ok,
            failure: None,
        })
    }
}

impl BlockDevice for Slow {
    type File = MemoryFile;

    fn submit(&mut self, request: Request) -> Result<(), DeviceError> {
        let now = self.clock.now_ns();
        self.submitted.borrow_mut().push(now);
        self.free_at_ns = self.free_at_ns.max(now) + self.service_ns;
        self.queue.push_back((self.free_at_ns, request));
        Ok(())
    }

    fn complete(&mut self) -> Result<Completion, DeviceError> {
        let done = self.queue.front().ok_or(DeviceError::Idle)?.0;
        self.clock.sleep_until_ns(done);
        self.pop().ok_or(DeviceError::Idle)
    }

    fn complete_before(
        &mut self,
        deadline_ns: u64,
        clock: &dyn Clock,
    ) -> Result<Option<Completion>, DeviceError> {
        match self.queue.front() {
            Some((done, _)) if *done < deadline_ns => {
                clock.sleep_until_ns(*done);
                Ok(self.pop())
            }
            _ => {
                clock.sleep_until_ns(deadline_ns);
                Ok(None)
            }
        }
    }

    fn capacity(&self) -> SectorCount {
        SectorCount(u64::MAX)
    }

    fn limits(&self) -> Limits {
        Limits::ORDERED
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }

    fn resize(&mut self, _: SentResize<MemoryFile>) -> Result<(), DeviceError> {
        unreachable!("nobody resizes it")
    }

    fn resized(&mut self, _: bool) -> Result<Option<ResizeOutcome>, DeviceError> {
        Ok(None)
    }
}

struct Anything;

impl Initial for Anything {
    fn is_in(&mut self, _: Sector, _: &[u8]) -> bool {
        true
    }

    fn describe(&self, _: Sector) -> String {
        String::new()
    }
}

/// Replays writes at these times of the trace; when each was submitted, and what the pace came
/// to.
fn replay(
    times_us: &[u64],
    pace: Pace,
    depth: usize,
    service_us: u64,
) -> (Vec<u64>, Option<PaceReport>) {
    let mut csv = "time_ns,operation,preflush,fua,start_sector,sectors\n".to_owned();
    for time in times_us {
        csv += &format!("{},write,0,0,0,8\n", time * 1000);
    }
    let clock = Simulated::default();
    clock.sleep_until_ns(5_000_000);
    let submitted = Rc::default();
    let mut target = Slow {
        clock: clock.clone(),
        service_ns: service_us * 1000,
        free_at_ns: 0,
        queue: VecDeque::new(),
        submitted: Rc::clone(&submitted),
    };
    let mut oracle = Oracle::new(SectorCount(64), Anything);
    let manner = Manner {
        depth,
        placing: Placing {
            past_end: PastEnd::Refuse,
            recorded: SectorCount(0),
        },
        pace,
    };
    let mut run = Run::new(&mut target, &mut oracle, manner, Vec::new(), &clock);
    let options = ReadOptions::default();
    let mut trace = open_stream(Path::new("t"), Cursor::new(csv.into_bytes()), &options).unwrap();
    run.replay(trace.as_mut(), |_| {}).unwrap();
    let report = run.pace_report();
    drop(run);
    drop(target);
    let submitted = submitted.take();
    let first = submitted[0];
    (
        submitted.iter().map(|ns| (ns - first) / 1000).collect(),
        report,
    )
}

const RECORDED: Pace = Pace::Recorded { speed: 1.0 };
const THINKING: Pace = Pace::ThinkTimes { speed: 1.0 };

#[test]
fn a_fast_device_is_given_each_request_at_its_time() {
    let times = [0, 100, 100, 5000, 5001];
    for pace in [RECORDED, THINKING] {
        let (submitted, report) = replay(&times, pace, 8, 1);
        assert_eq!(submitted, times);
        let report = report.unwrap();
        assert_eq!((report.late_requests, report.lateness.max_ns), (0, 0));
        assert_eq!(report.lateness.count, 5);
    }
}

#[test]
fn speed_is_a_factor() {
    let twice = Pace::Recorded { speed: 2.0 };
    assert_eq!(replay(&[0, 100, 5000], twice, 8, 1).0, [0, 50, 2500]);
    let half = Pace::ThinkTimes { speed: 0.5 };
    assert_eq!(replay(&[0, 100, 5000], half, 8, 1).0, [0, 200, 10_000]);
}

#[test]
fn the_open_loop_catches_up_and_tells_how_late_it_was() {
    // One at a time, 3 ms each: the second and third wait, the last is in time again.
    let (submitted, report) = replay(&[0, 1000, 2000, 20_000], RECORDED, 1, 3000);
    assert_eq!(submitted, [0, 3000, 6000, 20_000]);
    let report = report.unwrap();
    assert_eq!(report.late_requests, 2);
    // Two digits of precision.
    assert!(
        (4_000_000..4_100_000).contains(&report.lateness.max_ns),
        "{report:?}"
    );
}

#[test]
fn at_depth_the_open_loop_does_not_wait_for_the_device() {
    let (submitted, report) = replay(&[0, 1000, 2000, 20_000], RECORDED, 8, 3000);
    assert_eq!(submitted, [0, 1000, 2000, 20_000]);
    assert_eq!(report.unwrap().late_requests, 0);
}

#[test]
fn the_closed_loop_keeps_think_times_and_shifts_what_follows() {
    let (submitted, _) = replay(&[0, 1000, 2000, 20_000], THINKING, 1, 3000);
    assert_eq!(submitted, [0, 3000, 6000, 24_000]);
}

#[test]
fn times_that_step_back_are_no_lateness() {
    for pace in [RECORDED, THINKING] {
        let (submitted, report) = replay(&[0, 5000, 4000, 6000], pace, 8, 1);
        assert_eq!(submitted, [0, 5000, 5000, 6000]);
        assert_eq!(report.unwrap().late_requests, 0);
    }
}

#[test]
fn without_a_pace_the_device_sets_it() {
    let (submitted, report) = replay(&[0, 1000, 2000], Pace::AsFast, 1, 3000);
    assert_eq!(submitted, [0, 3000, 6000]);
    assert!(report.is_none());
}
