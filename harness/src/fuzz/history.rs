//! What each sector may show, now and after a crash: the writes that may still be what it
//! holds. It knows requests, completions and time, and nothing of how a driver works.
//!
//! A version is superseded by a write that was submitted after the version's own write had
//! ended. A read may show every version that no acknowledged write supersedes. A crash may
//! show every version that no *flushed* write supersedes: a write is flushed if it was
//! acknowledged before a successful flush was submitted, or was FUA itself.

use crate::stamp::{Content, Stamp};
use driver::units::{SECTOR_SIZE, Sector, SectorRange};

use super::signature::{Act, Promise};
use super::violation::{Kind, Violation};

/// What a sector may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Zeros.
    Zeros,
    /// What a stamp made of it.
    Stamp(Stamp),
}

impl Held {
    fn is_in(self, sector: Sector, content: &[u8]) -> bool {
        match self {
            Held::Zeros => crate::oracle::is_zero(content),
            Held::Stamp(stamp) => stamp.is_in(sector, content),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Version {
    held: Held,
    submitted: u64,
    /// `None` while in flight.
    ended: Option<u64>,
    acknowledged: bool,
    /// A discard's zeros supersede nothing: the old content may stay.
    supersedes: bool,
}

/// The history of all sectors.
#[derive(Clone, Debug)]
pub struct History {
    now: u64,
    sectors: Vec<Vec<Version>>,
}

/// When a request was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(u64);

impl History {
    /// Sectors that hold this, durably.
    pub fn new(held: impl Iterator<Item = Held>) -> History {
        let sectors = held.map(|held| vec![Version::durable(held)]);
        History {
            now: 1,
            sectors: sectors.collect(),
        }
    }

    /// How many sectors there are.
    pub fn len(&self) -> u64 {
        self.sectors.len() as u64
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sectors.is_empty()
    }

    /// The device may have more sectors from now on; new ones hold zeros.
    pub fn extend_to(&mut self, sectors: u64) {
        let missing = (sectors as usize).saturating_sub(self.sectors.len());
        let new = std::iter::repeat_n(vec![Version::durable(Held::Zeros)], missing);
        self.sectors.extend(new);
    }

    /// The device has no more sectors than this.
    pub fn truncate(&mut self, sectors: u64) {
        self.sectors.truncate(sectors as usize);
    }

    /// A request is submitted now; what a write would make of its sectors may show from here.
    pub fn submitted(&mut self, range: SectorRange, writes: Option<(Held, bool)>) -> Moment {
        self.now += 1;
        let now = self.now;
        if let Some((held, supersedes)) = writes {
            for sector in self.of(range) {
                sector.push(Version {
                    held,
                    submitted: now,
                    ended: None,
                    acknowledged: false,
                    supersedes,
                });
            }
        }
        Moment(self.now)
    }

    /// The request submitted at `moment` was not taken, and comes again later if at all.
    pub fn withdrawn(&mut self, range: SectorRange, moment: Moment) {
        for sector in self.of(range) {
            sector.retain(|version| version.submitted != moment.0);
        }
    }

    /// The request submitted at `moment` has ended; `durable` if it was a FUA write that
    /// succeeded.
    pub fn ended(&mut self, range: SectorRange, moment: Moment, ok: bool, durable: bool) {
        self.now += 1;
        let now = self.now;
        for sector in self.of(range) {
            let own = sector.iter_mut().find(|v| v.submitted == moment.0);
            if let Some(version) = own {
                version.ended = Some(now);
                version.acknowledged = ok;
                if durable {
                    let by = *version;
                    sector.retain(|v| !v.is_superseded_by(&by));
                }
            }
        }
    }

    /// A flush submitted at `moment` has succeeded.
    pub fn flushed(&mut self, moment: Moment) {
        self.now += 1;
        for sector in &mut self.sectors {
            if sector.len() < 2 {
                continue;
            }
            let flushed = |v: &&Version| v.acknowledged && v.ended.is_some_and(|e| e < moment.0);
            let latest = sector
                .iter()
                .filter(|v| v.supersedes)
                .filter(flushed)
                .max_by_key(|v| v.submitted)
                .copied();
            if let Some(by) = latest {
                sector.retain(|v| !v.is_superseded_by(&by));
            }
        }
    }

    /// What was in flight is not any more, and never was acknowledged.
    pub fn crashed(&mut self) {
        self.now += 1;
        for version in self.sectors.iter_mut().flatten() {
            version.ended.get_or_insert(self.now);
        }
    }

    /// What was found after a crash is what is there from now on, as if it had been written
    /// now: what was acknowledged and is not there will not come back. If it is not `durable`,
    /// the next crash may still take it, until it is flushed.
    pub fn settle(&mut self, first: Sector, content: &[u8], durable: bool) {
        self.now += 1;
        let sectors = content.chunks_exact(SECTOR_SIZE as usize);
        for (number, content) in (first.0..).zip(sectors) {
            let sector = &mut self.sectors[number as usize];
            let found = sector
                .iter()
                .find(|v| v.held.is_in(Sector(number), content));
            match found.map(|version| Version::durable(version.held)) {
                Some(version) if durable => *sector = vec![version],
                Some(version) if sector.len() > 1 => sector.push(Version {
                    submitted: self.now,
                    ended: Some(self.now),
                    ..version
                }),
                _ => {}
            }
        }
    }

    /// Compares what a read submitted at `moment` brought.
    pub fn check_read(
        &self,
        first: Sector,
        content: &[u8],
        moment: Moment,
        when: &str,
    ) -> Result<(), Violation> {
        let visible = |sector: &[Version], version: &Version| {
            !sector.iter().any(|by| {
                by.supersedes
                    && by.acknowledged
                    && by.ended.is_some_and(|ended| ended < moment.0)
                    && version.is_superseded_by(by)
            })
        };
        let checked = self.check(first, content, when, visible);
        checked.map_err(|violation| {
            violation
                .breaking(Promise::ReadsShowTheLatest)
                .by(Act::Read)
        })
    }

    /// Compares what is there after a crash.
    pub fn check_crash(&self, first: Sector, content: &[u8], when: &str) -> Result<(), Violation> {
        self.check(first, content, when, |_, _| true)
    }

    fn check(
        &self,
        first: Sector,
        content: &[u8],
        when: &str,
        visible: impl Fn(&[Version], &Version) -> bool,
    ) -> Result<(), Violation> {
        let sectors = content.chunks_exact(SECTOR_SIZE as usize);
        for (number, content) in (first.0..).zip(sectors) {
            let sector = Sector(number);
            let versions = &self.sectors[number as usize];
            let right = versions
                .iter()
                .rev()
                .any(|v| v.held.is_in(sector, content) && visible(versions, v));
            if !right {
                return Err(self.violation(sector, content, when, &visible));
            }
        }
        Ok(())
    }

    fn violation(
        &self,
        sector: Sector,
        content: &[u8],
        when: &str,
        visible: &impl Fn(&[Version], &Version) -> bool,
    ) -> Violation {
        let versions = &self.sectors[sector.0 as usize];
        let found = Content::of(content);
        let kind = match found {
            _ if versions.iter().any(|v| v.held.is_in(sector, content)) => Kind::StaleRead,
            Content::Zeros => Kind::Zeros,
            Content::Stamped(_, at) if at != sector => Kind::Misplaced,
            Content::Stamped(..) => Kind::LostWrite,
            Content::Foreign => Kind::Foreign,
        };
        let mut allowed: Vec<String> = versions
            .iter()
            .filter(|v| visible(versions, v))
            .map(|v| describe(v.held, sector))
            .collect();
        allowed.dedup();
        let what = format!("found {found}, expected {}", allowed.join(" or "));
        Violation::new(kind, when, what).of_sector(sector.0)
    }

    fn of(&mut self, range: SectorRange) -> &mut [Vec<Version>] {
        &mut self.sectors[range.start.0 as usize..range.end().0 as usize]
    }
}

fn describe(held: Held, sector: Sector) -> String {
    match held {
        Held::Zeros => Content::Zeros.to_string(),
        Held::Stamp(stamp) => Content::Stamped(stamp, sector).to_string(),
    }
}

impl Version {
    fn durable(held: Held) -> Version {
        Version {
            held,
            submitted: 0,
            ended: Some(0),
            acknowledged: true,
            supersedes: true,
        }
    }

    fn is_superseded_by(&self, by: &Version) -> bool {
        self.submitted != by.submitted && self.ended.is_some_and(|ended| ended <= by.submitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use driver::units::SectorCount;

    fn range(start: u64, count: u64) -> SectorRange {
        SectorRange::new(Sector(start), SectorCount(count))
    }

    fn content(stamp: u32) -> Vec<u8> {
        let mut content = vec![0; 512];
        Stamp(stamp).fill(Sector(0), &mut content);
        content
    }

    fn history() -> History {
        History::new([Held::Stamp(Stamp::BACKING)].into_iter())
    }

    fn write(history: &mut History, stamp: u32) -> Moment {
        history.submitted(range(0, 1), Some((Held::Stamp(Stamp(stamp)), true)))
    }

    #[test]
    fn an_acknowledged_write_shows_and_may_be_lost_until_it_is_flushed() {
        let mut history = history();
        let moment = write(&mut history, 1);
        history.ended(range(0, 1), moment, true, false);
        let read = history.submitted(range(0, 1), None);
        let check =
            |history: &History, stamp| history.check_read(Sector(0), &content(stamp), read, "");
        assert!(check(&history, 1).is_ok());
        assert_eq!(check(&history, 0).unwrap_err().kind, Kind::StaleRead);
        assert!(history.check_crash(Sector(0), &content(0), "").is_ok());
        let flush = history.submitted(range(0, 0), None);
        history.flushed(flush);
        let lost = history.check_crash(Sector(0), &content(0), "");
        assert_eq!(lost.unwrap_err().kind, Kind::LostWrite);
        let zeros = history.check_crash(Sector(0), &[0; 512], "");
        assert_eq!(zeros.unwrap_err().kind, Kind::Zeros);
    }

    #[test]
    fn a_flush_covers_only_what_was_acknowledged_before_it_was_submitted() {
        let mut history = history();
        let moment = write(&mut history, 1);
        let flush = history.submitted(range(0, 0), None);
        history.ended(range(0, 1), moment, true, false);
        history.flushed(flush);
        assert!(history.check_crash(Sector(0), &content(0), "").is_ok());
        assert!(history.check_crash(Sector(0), &content(1), "").is_ok());
    }

    #[test]
    fn two_writes_in_flight_together_may_come_out_either_way() {
        let mut history = history();
        let first = write(&mut history, 1);
        let second = write(&mut history, 2);
        history.ended(range(0, 1), first, true, false);
        history.ended(range(0, 1), second, true, false);
        let flush = history.submitted(range(0, 0), None);
        history.flushed(flush);
        for (stamp, right) in [(0, false), (1, true), (2, true)] {
            let check = history.check_crash(Sector(0), &content(stamp), "");
            assert_eq!(check.is_ok(), right, "stamp {stamp}");
        }
    }

    #[test]
    fn a_failed_write_may_show_or_not() {
        let mut history = history();
        let moment = write(&mut history, 1);
        history.ended(range(0, 1), moment, false, false);
        let flush = history.submitted(range(0, 0), None);
        history.flushed(flush);
        let read = history.submitted(range(0, 1), None);
        for stamp in [0, 1] {
            assert!(
                history
                    .check_read(Sector(0), &content(stamp), read, "")
                    .is_ok()
            );
            assert!(history.check_crash(Sector(0), &content(stamp), "").is_ok());
        }
    }

    #[test]
    fn what_is_found_after_a_crash_is_read_from_then_on_and_durable_once_flushed() {
        let mut history = history();
        let moment = write(&mut history, 1);
        history.ended(range(0, 1), moment, true, false);
        history.crashed();
        history.settle(Sector(0), &content(0), false);
        let read = history.submitted(range(0, 1), None);
        let read =
            |history: &History, stamp| history.check_read(Sector(0), &content(stamp), read, "");
        assert!(read(&history, 0).is_ok());
        assert_eq!(read(&history, 1).unwrap_err().kind, Kind::StaleRead);
        for stamp in [0, 1] {
            assert!(history.check_crash(Sector(0), &content(stamp), "").is_ok());
        }
        let flush = history.submitted(range(0, 0), None);
        history.flushed(flush);
        assert!(history.check_crash(Sector(0), &content(0), "").is_ok());
        assert!(history.check_crash(Sector(0), &content(1), "").is_err());
    }

    #[test]
    fn a_discard_adds_zeros_and_takes_nothing_away() {
        let mut history = history();
        let moment = history.submitted(range(0, 1), Some((Held::Zeros, false)));
        history.ended(range(0, 1), moment, true, false);
        let flush = history.submitted(range(0, 0), None);
        history.flushed(flush);
        assert!(history.check_crash(Sector(0), &content(0), "").is_ok());
        assert!(history.check_crash(Sector(0), &[0; 512], "").is_ok());
    }
}
