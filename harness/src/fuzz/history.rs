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

mod held;
mod versions;
mod wrong;

#[cfg(test)]
mod orders;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use driver::exact_count;
use driver::units::{SECTOR_SIZE, Sector, SectorCount, SectorRange};

pub use held::{Held, front};

use versions::{NEVER, Version, forget, is_readable, make_durable, overwrite, show};
use wrong::{check_length, violation};

use super::disk_contents::DiskContents;
use super::signature::{Act, Promise};
use super::violation::{Kind, Violation};

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
    /// The one that it had at first.
    partial_at_first: Option<(u64, Held)>,
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
            partial_at_first: None,
        }
    }

    /// A device that has a partial last sector, of which a grow makes this.
    #[must_use]
    pub fn with_partial(mut self, grown: Held) -> History {
        self.partial = Some((self.len(), grown));
        self.partial_at_first = self.partial;
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

    /// The device has the partial last sector again that it had at first, if it has as many whole
    /// sectors as then: a crash has taken back the resize that had cut it off.
    pub fn restore_partial(&mut self) {
        let len = self.len();
        self.partial = self.partial_at_first.filter(|(partial, _)| *partial == len);
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
        seen: DiskContents,
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
