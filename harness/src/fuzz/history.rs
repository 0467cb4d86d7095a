//! What each sector may show, now and after a crash. The history knows requests, completions
//! and time, and nothing of how a driver works.
//!
//! A sector has *versions*: what it held at first, and what each request would make of it, in
//! the order of submission, because a driver keeps the order of requests that overlap. A
//! request takes effect at one moment between its submission and its completion. An
//! acknowledged write has taken effect. A write that failed or was cut off by a crash, and a
//! discard in any case, has taken effect or has not: sector by sector, once and for all.
//!
//! 1. A read shows the latest version in effect at one moment between its submission and its
//!    completion. So it shows none older than a version known to be *in effect* when the read
//!    was submitted.
//! 2. A version is known to be in effect from when its write is acknowledged, or from when a
//!    read that returned it has ended. A read that returns an older version, and was submitted
//!    after a request had ended, shows that this request has had no effect: no read shows its
//!    version from then on.
//! 3. A successful flush makes durable what was in effect when it was submitted, of requests
//!    that had ended by then. A successful FUA write is durable itself.
//! 4. After a crash a sector shows the latest durable version or a later one: also one still
//!    in flight, and also one whose request failed or was not seen to have an effect, for the
//!    disk may have taken what memory has not.
//! 5. What is found after a crash is in effect from then on, as if it had been written and
//!    acknowledged. It is durable at once if the host had nothing unsynced, or else from the
//!    next flush on.
//!
//! Where two versions of a sector have the same content, a read does not tell which of them it
//! has returned, and only what follows from both counts. The module `orders` has a model that
//! tries every order instead, and a test that compares the two.

#[cfg(test)]
mod orders;

use std::collections::BTreeSet;

use crate::stamp::{Content, Stamp};
use driver::exact_count;
use driver::units::{SECTOR_SIZE, Sector, SectorCount, SectorRange};

use super::seen::Seen;
use super::signature::{Act, Promise};
use super::violation::{Kind, Shown, Violation};

/// What a sector may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Zeros.
    Zeros,
    /// What a stamp made of it.
    Stamp(Stamp),
    /// The first bytes of what a stamp made of it, and how many they are; then zeros. This was
    /// the partial last sector of a smaller device.
    Front(Stamp, u16),
}

impl Held {
    #[inline]
    fn is_in(self, sector: Sector, content: &[u8]) -> bool {
        match self {
            Held::Stamp(stamp) => stamp.is_in(sector, content),
            Held::Zeros => crate::stamp::is_zero(content),
            Held::Front(stamp, bytes) => is_front(stamp, bytes, sector, content),
        }
    }

    /// Whether a sector has it in which `found` was found.
    #[inline]
    fn was_found(self, sector: Sector, content: &[u8], found: Content) -> bool {
        match self.content(sector) {
            Some(expected) => found == expected,
            None => self.is_in(sector, content),
        }
    }

    /// What a look at the sector calls it; a part of a write has no name.
    fn content(self, sector: Sector) -> Option<Content> {
        match self {
            Held::Zeros => Some(Content::Zeros),
            Held::Stamp(stamp) => Some(Content::Stamped(stamp, sector)),
            Held::Front(..) => None,
        }
    }
}

/// Few sectors need this, and it is kept out of the way of the others.
#[cold]
#[inline(never)]
fn is_front(stamp: Stamp, bytes: u16, sector: Sector, content: &[u8]) -> bool {
    content == front(stamp, bytes, sector)
}

/// The first bytes of what a stamp makes of a sector, and zeros.
pub fn front(stamp: Stamp, bytes: u16, sector: Sector) -> [u8; SECTOR_SIZE as usize] {
    let mut content = [0; SECTOR_SIZE as usize];
    stamp.fill(sector, &mut content);
    content[usize::from(bytes).min(SECTOR_SIZE as usize)..].fill(0);
    content
}

/// What a request makes of its sectors if it takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: it is a read or a flush.
    Nothing,
    /// They hold this; and they certainly do once it is acknowledged.
    Write(Held),
    /// Zeros, or what they held before.
    Discard,
}

/// How a request ended that changes sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// With an error, or in a crash.
    Failed,
    /// It was acknowledged.
    Acknowledged,
    /// It was acknowledged, and had been submitted with FUA.
    Durable,
}

/// A moment that has not come, or is not known.
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct Version {
    held: Held,
    /// Also its place in the order.
    submitted: u64,
    /// When its request ended; [`NEVER`] while that is in flight.
    ended: u64,
    /// When it had taken effect at the latest; [`NEVER`] if it is not known whether it has.
    in_effect: u64,
    /// Acknowledged is as good as in effect. Not so for a discard.
    is_write: bool,
    /// It was seen not to have taken effect.
    absent: bool,
    /// A later version is durable: a crash does not show it.
    overwritten: bool,
}

/// The history of all sectors.
#[derive(Clone, Debug)]
pub struct History {
    now: u64,
    sectors: Vec<Vec<Version>>,
    /// When the reads in flight were submitted.
    reads: BTreeSet<u64>,
    /// When the latest flush was submitted that has succeeded.
    flushed: u64,
    /// The partial last sector of the device as it is, and what a grow makes of it.
    partial: Option<(u64, Held)>,
}

/// When a request was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl History {
    /// Sectors that hold this, durably.
    pub fn new(held: impl Iterator<Item = Held>) -> History {
        let sectors = held.map(|held| vec![Version::durable(held)]);
        History {
            now: 1,
            sectors: sectors.collect(),
            reads: BTreeSet::new(),
            flushed: 0,
            partial: None,
        }
    }

    /// A device that has a partial last sector, of which a grow makes this.
    #[must_use]
    pub fn with_partial(mut self, grown: Held) -> History {
        self.partial = Some((self.len(), grown));
        self
    }

    /// The number of the partial last sector, if the device has one.
    pub fn partial(&self) -> Option<u64> {
        self.partial.map(|(sector, _)| sector)
    }

    /// How many sectors there are.
    pub fn len(&self) -> u64 {
        self.sectors.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sectors.is_empty()
    }

    /// The device may have more sectors from now on; new ones hold zeros, but for what was a
    /// partial one.
    pub fn extend_to(&mut self, sectors: u64) {
        if let Some((partial, held)) = self.partial
            && partial == self.len()
            && partial < sectors
        {
            self.sectors.push(vec![Version::durable(held)]);
        }
        let missing = (sectors as usize).saturating_sub(self.sectors.len());
        let new = std::iter::repeat_n(vec![Version::durable(Held::Zeros)], missing);
        self.sectors.extend(new);
    }

    /// The device has no more sectors than this.
    pub fn truncate(&mut self, sectors: u64) {
        self.sectors.truncate(sectors as usize);
        self.partial = self.partial.filter(|(partial, _)| *partial <= sectors);
    }

    /// The device has exactly `sectors` whole sectors. It has no partial last sector, unless it
    /// had one right after these.
    pub fn resized_to(&mut self, sectors: u64) {
        self.truncate(sectors);
        self.has_now(sectors);
    }

    /// The device has `sectors` whole sectors now, whatever is under way.
    pub fn has_now(&mut self, sectors: u64) {
        self.partial = self.partial.filter(|(partial, _)| *partial == sectors);
    }

    /// The device has no partial last sector any more: a resize has cut it off.
    pub fn drop_partial(&mut self) {
        self.partial = None;
    }

    /// What is submitted from now on comes after this moment.
    pub fn now(&self) -> Moment {
        Moment(self.now)
    }

    fn next(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// A request is submitted now; what it would make of its sectors may show from here.
    pub fn submitted(&mut self, range: SectorRange, change: Change) -> Moment {
        let now = self.next();
        let (held, is_write) = match change {
            Change::Nothing => return Moment(now),
            Change::Write(held) => (held, true),
            Change::Discard => (Held::Zeros, false),
        };
        for sector in self.of(range) {
            sector.push(Version {
                held,
                submitted: now,
                ended: NEVER,
                in_effect: NEVER,
                is_write,
                absent: false,
                overwritten: false,
            });
        }
        Moment(now)
    }

    /// A read is submitted now: until it ends, what it may show is kept.
    pub fn read_submitted(&mut self) -> Moment {
        let now = self.next();
        self.reads.insert(now);
        Moment(now)
    }

    /// The request submitted at `moment` was not taken, and comes again later if at all.
    pub fn withdrawn(&mut self, range: SectorRange, moment: Moment) {
        self.reads.remove(&moment.0);
        for sector in self.of(range) {
            sector.retain(|version| version.submitted != moment.0);
        }
    }

    /// The request submitted at `moment`, which changes `range`, has ended.
    pub fn ended(&mut self, range: SectorRange, moment: Moment, outcome: RequestOutcome) {
        let now = self.next();
        let reader = self.earliest_reader();
        for sector in self.of(range) {
            let Some(version) = sector.iter_mut().find(|v| v.submitted == moment.0) else {
                continue;
            };
            version.ended = now;
            if outcome != RequestOutcome::Failed && version.is_write {
                version.in_effect = version.in_effect.min(now);
            }
            if outcome == RequestOutcome::Durable {
                overwrite(sector, moment.0);
                forget(sector, reader);
            }
        }
    }

    /// A flush submitted at `moment` has succeeded.
    pub fn flushed(&mut self, moment: Moment) {
        self.next();
        self.flushed = self.flushed.max(moment.0);
        let (flushed, reader) = (self.flushed, self.earliest_reader());
        for sector in self.sectors.iter_mut().filter(|sector| sector.len() > 1) {
            make_durable(sector, flushed);
            forget(sector, reader);
        }
    }

    /// What was in flight is not any more, and never was acknowledged.
    pub fn crashed(&mut self) {
        let now = self.next();
        self.reads.clear();
        for version in self.sectors.iter_mut().flatten() {
            version.ended = version.ended.min(now);
        }
    }

    /// What was found after a crash, from the first sector on, is in effect from now on: what
    /// was acknowledged and is not there will not come back. If it is not `durable`, the next
    /// crash may still take it, until it is flushed.
    pub fn settle(&mut self, content: &[u8], durable: bool) {
        let now = self.next();
        let sectors = content.chunks_exact(SECTOR_SIZE as usize);
        for (number, (sector, content)) in (0..).zip(self.sectors.iter_mut().zip(sectors)) {
            let found = sector
                .iter()
                .find(|v| v.held.is_in(Sector(number), content));
            match found.map(|version| version.held) {
                Some(held) if durable => *sector = vec![Version::durable(held)],
                Some(held) if sector.len() > 1 => sector.push(Version {
                    submitted: now,
                    ended: now,
                    in_effect: now,
                    ..Version::durable(held)
                }),
                _ => {}
            }
        }
    }

    /// The read of `range` submitted at `moment` has failed.
    pub fn read_failed(&mut self, moment: Moment) {
        self.next();
        self.reads.remove(&moment.0);
    }

    /// The read of `range` submitted at `moment` has ended and brought these parts, one after
    /// the other. What they show is known to be in effect from now on.
    ///
    /// # Errors
    /// What is wrong with them first: the length, or the content of a sector.
    pub fn read<'c>(
        &mut self,
        range: SectorRange,
        moment: Moment,
        parts: impl Iterator<Item = &'c [u8]> + Clone,
        when: &str,
    ) -> Result<(), Violation> {
        let now = self.next();
        self.reads.remove(&moment.0);
        check_length(range.count, parts.clone(), when).map_err(|wrong| wrong.by(Act::Read))?;
        let (flushed, reader) = (self.flushed, self.earliest_reader());
        let contents = parts.flat_map(|part| part.chunks(SECTOR_SIZE as usize));
        for (number, content) in (range.start.0..range.end().0).zip(contents) {
            let number = Sector(number);
            let Some(versions) = self.sectors.get_mut(number.0 as usize) else {
                let what = "the read has brought a sector past the end of the device";
                let wrong = Violation::new(Kind::WrongStatus, when, what).of_sector(number.0);
                return Err(wrong.by(Act::Read).with_error(what));
            };
            if !show(versions, number, content, moment.0, now) {
                let versions = &*versions;
                let allowed = |v: &Version| is_readable(versions, v, moment.0);
                let past = Kind::StaleRead;
                let wrong = violation(versions, number, content, when, allowed, past);
                return Err(wrong.breaking(Promise::ReadsShowTheLatest).by(Act::Read));
            }
            if versions.len() > 1 {
                make_durable(versions, flushed);
                forget(versions, reader);
            }
        }
        Ok(())
    }

    /// Compares what is there after a crash: the whole device, of `capacity`.
    ///
    /// # Errors
    /// What is wrong with it first: the length, or the content of a sector.
    pub fn check_crash(
        &self,
        capacity: SectorCount,
        seen: Seen,
        when: &str,
    ) -> Result<(), Violation> {
        check_length(capacity, std::iter::once(seen.bytes()), when)?;
        let Some(sectors) = self.sectors.get(..capacity.0 as usize) else {
            let what = format!(
                "found {}, expected at most {}",
                exact_count(capacity.0, "sector"),
                self.len()
            );
            return Err(Violation::new(Kind::WrongSize, when, what));
        };
        for (number, (versions, (content, found))) in (0..).zip(sectors.iter().zip(seen.sectors()))
        {
            let number = Sector(number);
            let mut allowed = versions.iter().rev().filter(|v| !v.overwritten);
            if !allowed.any(|v| v.held.was_found(number, content, found)) {
                let allowed = |v: &Version| !v.overwritten;
                let past = Kind::LostWrite;
                return Err(violation(versions, number, content, when, allowed, past));
            }
        }
        Ok(())
    }

    /// The submission of the earliest read in flight, or of the next if there is none.
    fn earliest_reader(&self) -> u64 {
        self.reads.first().copied().unwrap_or(self.now + 1)
    }

    fn of(&mut self, range: SectorRange) -> &mut [Vec<Version>] {
        let end = self.sectors.len().min(range.end().0 as usize);
        &mut self.sectors[end.min(range.start.0 as usize)..end]
    }
}

/// Whether a read of `count` sectors brought just that, in parts of whole sectors.
fn check_length<'c>(
    count: SectorCount,
    parts: impl Iterator<Item = &'c [u8]>,
    when: &str,
) -> Result<(), Violation> {
    let (mut found, mut whole) = (0, true);
    for part in parts {
        found += part.len() as u64;
        whole &= (part.len() as u64).is_multiple_of(SECTOR_SIZE);
    }
    let expected = count.bytes().0;
    let what = match found == expected {
        true if whole => return Ok(()),
        true => format!(
            "the read brought {} in parts of sectors",
            exact_count(found, "byte")
        ),
        false => format!(
            "the read brought {}, expected {expected}",
            exact_count(found, "byte")
        ),
    };
    Err(Violation::new(Kind::WrongLength, when, what))
}

/// The place in the order of the latest version known to be in effect before `moment`.
fn floor(versions: &[Version], moment: u64) -> u64 {
    let before = versions.iter().filter(|v| v.in_effect < moment);
    before.map(|v| v.submitted).max().unwrap_or(0)
}

/// Whether a read submitted at `moment` that ends now may show `version`.
fn is_readable(versions: &[Version], version: &Version, moment: u64) -> bool {
    !version.absent && version.submitted >= floor(versions, moment)
}

/// Takes note of what a read submitted at `moment` shows as it ends now. Whether it may.
fn show(versions: &mut [Version], sector: Sector, content: &[u8], moment: u64, now: u64) -> bool {
    if let [only] = versions {
        return only.held.is_in(sector, content);
    }
    let floor = floor(versions, moment);
    let is_shown = |v: &Version| !v.absent && v.submitted >= floor && v.held.is_in(sector, content);
    // In the order of submission: the earliest that it can be, and the latest.
    let Some(first) = versions.iter().position(is_shown) else {
        return false;
    };
    let last = versions.iter().rposition(is_shown).unwrap_or(first);
    let shown = versions[first..=last].iter().filter(|v| is_shown(v));
    // If it can be any of several, one of them is in effect once all their requests have ended.
    let all_ended = shown.map(|v| v.ended).max().unwrap_or(NEVER);
    let since = match first == last {
        true => all_ended.min(now),
        false => all_ended,
    };
    versions[first].in_effect = versions[first].in_effect.min(since);
    for later in &mut versions[last + 1..] {
        later.absent |= later.ended < moment;
    }
    true
}

/// What was in effect when the flush was submitted at `flushed` is durable.
fn make_durable(versions: &mut [Version], flushed: u64) {
    let covered = |v: &&Version| v.ended < flushed && v.in_effect < flushed;
    let latest = versions.iter().filter(covered).map(|v| v.submitted).max();
    if let Some(latest) = latest {
        overwrite(versions, latest);
    }
}

/// The version submitted then is durable.
fn overwrite(versions: &mut [Version], by: u64) {
    for version in versions.iter_mut().filter(|v| v.submitted < by) {
        version.overwritten = true;
    }
}

/// Drops what neither a crash nor a read submitted at `reader` or later can show.
fn forget(versions: &mut Vec<Version>, reader: u64) {
    let floor = floor(versions, reader);
    versions.retain(|v| !v.overwritten || !v.absent && v.submitted >= floor);
}

/// What is wrong with a sector; it is `past` if it shows a version that it may not show now.
fn violation(
    versions: &[Version],
    sector: Sector,
    content: &[u8],
    when: &str,
    allowed: impl Fn(&Version) -> bool,
    past: Kind,
) -> Violation {
    let found = Content::of(content);
    let kind = match found {
        _ if versions.iter().any(|v| v.held.is_in(sector, content)) => past,
        Content::Zeros => Kind::Zeros,
        Content::Stamped(_, at) if at != sector => Kind::Misplaced,
        Content::Stamped(..) => Kind::LostWrite,
        Content::Foreign => Kind::Foreign,
    };
    let allowed = versions.iter().filter(|v| allowed(v));
    let mut allowed: Vec<Held> = allowed.map(|v| v.held).collect();
    allowed.dedup();
    let words: Vec<String> = allowed.iter().map(|&held| describe(held, sector)).collect();
    let what = format!("found {found}, expected {}", words.join(" or "));
    let violation = Violation::new(kind, when, what).of_sector(sector.0);
    let allowed = allowed.into_iter().filter_map(|held| held.content(sector));
    violation.showing(Shown {
        found,
        allowed: allowed.collect(),
    })
}

fn describe(held: Held, sector: Sector) -> String {
    match (held.content(sector), held) {
        (None, Held::Front(stamp, bytes)) => {
            let stamped = Content::Stamped(stamp, sector);
            format!(
                "the first {} of {stamped}, and zeros",
                exact_count(bytes.into(), "byte")
            )
        }
        (content, _) => content.unwrap_or(Content::Foreign).to_string(),
    }
}

impl Version {
    /// What was there before everything.
    fn durable(held: Held) -> Version {
        Version {
            held,
            submitted: 0,
            ended: 0,
            in_effect: 0,
            is_write: true,
            absent: false,
            overwritten: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let seen = Seen::of(content, &mut found);
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
}
