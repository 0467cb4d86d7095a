//! What the rules say, one after the other.

use super::super::disk_contents::DiskContents;
use super::super::violation::Kind;
use super::*;
use crate::stamp::Stamp;

fn range(start: u64, count: u64) -> SectorRange {
    SectorRange::new(Sector(start), SectorCount(count))
}

fn content(stamp: u32) -> Vec<u8> {
    let mut content = vec![0; 512];
    Stamp(stamp).fill(Sector(0), &mut content);
    content
}

/// One sector that holds the backing file's, and what is asked about it.
struct One(History);

impl One {
    fn new() -> One {
        One(History::new([Held::Stamp(Stamp::BACKING)].into_iter()))
    }

    fn submit(&mut self, stamp: u32) -> Moment {
        let change = Change::Write(Held::Stamp(Stamp(stamp)));
        self.0.submitted(range(0, 1), change)
    }

    fn end(&mut self, moment: Moment, outcome: RequestOutcome) {
        self.0.ended(range(0, 1), moment, outcome);
    }

    fn write(&mut self, stamp: u32) {
        let moment = self.submit(stamp);
        self.end(moment, RequestOutcome::Acknowledged);
    }

    fn flush(&mut self) {
        let moment = self.0.submitted(SectorRange::default(), Change::Nothing);
        self.0.flushed(moment);
    }

    fn shows(&mut self, moment: Moment, content: &[u8]) -> Result<(), Kind> {
        let parts = std::iter::once(content);
        let read = self.0.read(range(0, 1), moment, parts, "");
        read.map_err(|violation| violation.kind)
    }

    /// A read of its own.
    fn read(&mut self, stamp: u32) -> Result<(), Kind> {
        let moment = self.0.read_submitted();
        self.shows(moment, &content(stamp))
    }

    fn crash(&self, content: &[u8]) -> Result<(), Kind> {
        let mut found = Vec::new();
        let seen = DiskContents::of(content, &mut found);
        let check = self.0.check_crash(SectorCount(1), seen, "");
        check.map_err(|violation| violation.kind)
    }

    /// The stamps of these that a crash may show.
    fn crash_shows(&self, stamps: &[u32]) -> Vec<u32> {
        let may = |stamp: &&u32| self.crash(&content(**stamp)).is_ok();
        stamps.iter().filter(may).copied().collect()
    }
}

#[test]
fn an_acknowledged_write_shows_and_may_be_lost_until_it_is_flushed() {
    let mut one = One::new();
    one.write(1);
    assert_eq!(one.read(0), Err(Kind::StaleRead));
    assert_eq!(one.read(1), Ok(()));
    assert_eq!(one.crash_shows(&[0, 1]), [0, 1]);
    one.flush();
    assert_eq!(one.crash(&content(0)), Err(Kind::LostWrite));
    assert_eq!(one.crash(&[0; 512]), Err(Kind::Zeros));
}

#[test]
fn a_flush_covers_only_what_was_acknowledged_before_it_was_submitted() {
    let mut one = One::new();
    let write = one.submit(1);
    let flush = one.0.submitted(SectorRange::default(), Change::Nothing);
    one.end(write, RequestOutcome::Acknowledged);
    one.0.flushed(flush);
    assert_eq!(one.crash_shows(&[0, 1]), [0, 1]);
}

#[test]
fn of_two_writes_in_flight_together_the_one_submitted_later_wins() {
    for acknowledged_first in [0, 1] {
        let mut one = One::new();
        let mut writes = [one.submit(1), one.submit(2)];
        writes.rotate_left(acknowledged_first);
        for write in writes {
            one.end(write, RequestOutcome::Acknowledged);
        }
        assert_eq!(one.read(1), Err(Kind::StaleRead));
        one.flush();
        assert_eq!(one.crash_shows(&[0, 1, 2]), [2]);
    }
}

#[test]
fn a_read_does_not_go_back_to_before_what_another_returned() {
    let mut one = One::new();
    let (first, _second) = (one.submit(1), one.submit(2));
    assert_eq!(one.read(0), Ok(()), "both are in flight");
    assert_eq!(one.read(1), Ok(()));
    assert_eq!(one.read(0), Err(Kind::StaleRead));
    assert_eq!(one.read(2), Ok(()));
    one.end(first, RequestOutcome::Acknowledged);
    assert_eq!(one.read(1), Err(Kind::StaleRead));
}

#[test]
fn a_read_that_was_in_flight_before_may() {
    let mut one = One::new();
    let early = one.0.read_submitted();
    one.write(1);
    one.flush();
    assert_eq!(one.read(1), Ok(()));
    assert_eq!(one.shows(early, &content(0)), Ok(()));
}

#[test]
fn what_was_read_and_flushed_is_there_after_a_crash() {
    let mut one = One::new();
    let failed = one.submit(1);
    one.end(failed, RequestOutcome::Failed);
    one.flush();
    assert_eq!(one.crash_shows(&[0, 1]), [0, 1]);
    assert_eq!(one.read(1), Ok(()));
    // It had been there when the flush was submitted.
    assert_eq!(one.crash_shows(&[0, 1]), [1]);
}

#[test]
fn a_failed_write_may_show_or_not_and_a_read_tells() {
    for shown in [0, 1] {
        let mut one = One::new();
        let failed = one.submit(1);
        one.end(failed, RequestOutcome::Failed);
        assert_eq!(one.read(shown), Ok(()));
        assert_eq!(one.read(1 - shown), Err(Kind::StaleRead));
    }
}

#[test]
fn a_discard_leaves_what_was_there_or_zeros_and_a_read_tells() {
    for zeros in [false, true] {
        let mut one = One::new();
        one.write(1);
        let discard = one.0.submitted(range(0, 1), Change::Discard);
        one.end(discard, RequestOutcome::Acknowledged);
        one.flush();
        assert_eq!(one.crash_shows(&[0, 1]), [1]);
        assert_eq!(one.crash(&[0; 512]), Ok(()));
        let shown = if zeros { vec![0; 512] } else { content(1) };
        let read = one.0.read_submitted();
        assert_eq!(one.shows(read, &shown), Ok(()));
        let read = one.0.read_submitted();
        let other = if zeros { content(1) } else { vec![0; 512] };
        assert!(one.shows(read, &other).is_err());
    }
}

#[test]
fn what_is_found_after_a_crash_is_read_from_then_on_and_durable_once_flushed() {
    let mut one = One::new();
    one.write(1);
    one.0.crashed();
    one.0.settle(&content(0), false);
    assert_eq!(one.read(1), Err(Kind::StaleRead));
    assert_eq!(one.read(0), Ok(()));
    assert_eq!(one.crash_shows(&[0, 1]), [0, 1]);
    one.flush();
    assert_eq!(one.crash_shows(&[0, 1]), [0]);
}

#[test]
fn a_read_brings_just_what_was_asked_for() {
    let mut one = One::new();
    let whole = content(0);
    for wrong in [
        &whole[..0],
        &whole[..511],
        &[whole.clone(), whole.clone()].concat(),
    ] {
        let read = one.0.read_submitted();
        assert_eq!(one.shows(read, wrong), Err(Kind::WrongLength));
        assert_eq!(one.crash(wrong), Err(Kind::WrongLength));
    }
    let read = one.0.read_submitted();
    let halves = whole.chunks(256);
    let halves = one.0.read(range(0, 1), read, halves, "");
    assert_eq!(halves.unwrap_err().kind, Kind::WrongLength);
}
