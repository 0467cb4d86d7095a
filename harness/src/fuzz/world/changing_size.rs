//! A resize in a life: how it begins, its steps, and how it ends; and the size that a device has
//! after one that failed.

use driver::blk::Operation;
use driver::exact_count;
use driver::host::OperationKind;
use driver::resize::{ResizeError, ResizeStep};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::sim::Injected;
use crate::stamp::Stamp;

use super::super::case::ResizeStrategy;
use super::super::excuses::Work;
use super::super::history::Moment;
use super::super::paths::COW;
use super::super::resizer::{ActiveResize, Asked, NotBegun, begin};
use super::super::signature::{Act, Phase};
use super::super::truth::is_marked;
use super::super::violation::{Kind, Violation};
use super::living::Living;
use super::serving::Flying;
use super::{Stop, World};

/// A resize that ended with an error, or was given up. The device still has its old size, and a
/// flush from then on makes sure of that. If the device has the new size all the same, because what
/// went wrong came after the commit, then nobody knows which of the two a crash leaves, and the
/// driver may not acknowledge a flush any more.
#[derive(Clone, Copy)]
pub(super) struct FailedResize {
    /// Flushes submitted after this moment count.
    pub(super) moment: Moment,
    /// The size before, in sectors.
    pub(super) old_size: u64,
    /// It did not fail, but was given up.
    pub(super) given_up: bool,
    /// A fault may have kept it from giving a raw disk its old length back, which is all that says
    /// how large that is.
    pub(super) length_is_lost: bool,
}

/// The steps that end a reflow when all is moved: the new bitmap is cleared, written and synced,
/// the header is written, and the old bitmap freed.
const LAST_STEPS: u32 = 5;

impl Living<'_, '_, '_> {
    pub(super) fn begin_resize(&mut self, asked: Asked) -> Result<(), Stop> {
        if self.resize.is_some() || asked.sectors == 0 {
            return Ok(());
        }
        self.compare_losses(asked)?;
        let Some((asked, keeps)) = self.ready_to_begin(asked) else {
            return Ok(());
        };
        let Some(device) = self.device.resizable() else {
            return Ok(());
        };
        let whole = SectorCount(asked.sectors).bytes();
        let resize = match begin(&self.world.host, device, asked, self.world.case) {
            Ok(begun) => begun,
            Err(NotBegun::NotAsPlanned(why)) => {
                let when = "beginning a resize that was planned";
                let violation = Violation::new(Kind::WrongStatus, when, &why);
                return Err(violation.by(Act::Resize).with_error(why).into());
            }
            Err(NotBegun::Refused(_)) => {
                self.world.coverage.hit("resize_refused");
                if asked.bytes != whole && !keeps {
                    self.world
                        .coverage
                        .hit("resize_to_a_part_of_a_sector_refused");
                }
                return Ok(());
            }
        };
        if asked.bytes != whole && !keeps {
            let what = format!("a resize to {} bytes was begun", asked.bytes);
            let violation = Violation::new(Kind::WrongSize, "beginning a resize", what);
            return Err(violation.by(Act::Resize).into());
        }
        self.note_begun(&resize, asked);
        self.expect(asked);
        let stays = resize.coverage == "strategy_headroom";
        let moves = resize.coverage == "strategy_reflow" && asked.bytes == whole;
        self.resize = Some(resize);
        self.note_before(
            asked,
            stays,
            moves && asked.strategy == ResizeStrategy::Reflow,
        );
        let world = &mut *self.world;
        let side_by_side = self.device.is_side_by_side();
        world.excuses.begin_resize(&world.host, side_by_side);
        Ok(())
    }

    /// The resize that is begun where this is asked for, and whether the device keeps its partial
    /// last sector with its size; `None` if there is nothing to do, or the guest is not ready.
    fn ready_to_begin(&mut self, mut asked: Asked) -> Option<(Asked, bool)> {
        self.device.resizable()?;
        let capacity = self.device.capacity();
        let whole = SectorCount(asked.sectors).bytes();
        let is_partial = self.world.truth.history.partial() == Some(capacity);
        let keeps = asked.sectors == capacity && is_partial && asked.bytes != whole;
        if asked.sectors == capacity {
            // Only a rebuild does anything with a device that keeps its size.
            let does_nothing = match is_partial {
                true => keeps && asked.strategy != ResizeStrategy::Rebuild,
                false => asked.bytes == whole,
            };
            if does_nothing {
                return None;
            }
        }
        if keeps {
            asked.bytes = whole + Bytes(self.world.case.image.partial);
        }
        if asked.sectors < capacity && !self.flying.is_empty() && !self.keeps_asking {
            // A guest lets go of what is to disappear first.
            return None;
        }
        Some((asked, keeps))
    }

    /// What comes up with a resize that was begun.
    fn note_begun(&mut self, resize: &ActiveResize, asked: Asked) {
        let copies = matches!(resize.coverage, "strategy_rebuild" | "strategy_reflow");
        let is_cut = copies
            && self.device.resizable().is_some_and(|device| {
                let all = SectorRange::new(Sector(0), device.capacity());
                (device.map().dirty_runs(all)).any(|run| run.count.bytes() > asked.at_once.bytes())
            });
        let coverage = &mut self.world.coverage;
        coverage.hit(resize.coverage);
        if is_cut {
            coverage.hit(match resize.coverage {
                "strategy_rebuild" => "run_rebuilt_in_pieces",
                _ => "run_moved_in_pieces",
            });
        }
        if !self.flying.is_empty() {
            coverage.hit("requests_queued_when_a_resize_begins");
        }
        if self.resizes_begun > 0 {
            coverage.hit("two_resizes_in_a_row");
        } else if self.world.sizes_seen.len() > 1 {
            coverage.hit("resize_begun_again_after_a_crash");
        }
    }

    /// What is true, and what may go wrong, from when a resize was begun on.
    fn expect(&mut self, asked: Asked) {
        let capacity = self.device.capacity();
        let world = &mut *self.world;
        world.truth.history.has_now(capacity);
        if self.resizes_begun == 0 {
            world.host.add_faults(self.resize_faults);
        }
        self.resizes_begun += 1;
        world.note_resize(asked.sectors);
        let whole = SectorCount(asked.sectors).bytes();
        self.cuts_partial = asked.sectors == capacity && asked.bytes == whole;
        world.may_lose_partial |= self.cuts_partial;
        world.truth.history.extend_to(asked.sectors.max(capacity));
        if !world.truth.sizes.contains(&asked.sectors) {
            world.truth.sizes.push(asked.sectors);
        }
    }

    /// One step of the resize. Whether there is more to do at once.
    pub(super) fn step_resize(&mut self) -> Result<bool, Stop> {
        let Some(resize) = &mut self.resize else {
            return Ok(false);
        };
        let target = resize.target;
        resize.count_last_steps();
        let is_reflow = resize.coverage == "strategy_reflow";
        self.world.phase = Phase::Resize;
        self.world.count_step(Act::Resize)?;
        let capacity = self.device.capacity();
        let tells_ends = self.device.tells_ends();
        if target < capacity && tells_ends {
            // What has ended by now has ended before the sectors go.
            while let Some(completion) = self.device.next_completed() {
                self.complete(completion)?;
            }
            self.note_written(target, is_reflow);
        }
        self.world.begin(Work::Resize);
        let step = self.device.step_resize();
        self.show(Phase::Resize)?;
        if self.device.capacity() < capacity && tells_ends {
            self.note_gone();
        }
        let outcome = match step {
            ResizeStep::Working => {
                // One may be its own.
                if is_reflow && self.device.under_way() > 1 {
                    let name = "window_moved_with_requests_around";
                    self.world.coverage.hit(name);
                }
                return Ok(true);
            }
            ResizeStep::Waiting | ResizeStep::Idle => return Ok(false),
            ResizeStep::Ended(outcome) => outcome,
        };
        if let Some(resize) = self.resize.take() {
            match outcome {
                Ok(_) => self.has_resized(&resize)?,
                Err(error) => self.has_not_resized(&resize, error)?,
            }
        }
        Ok(false)
    }

    /// A shrink has just taken sectors: the requests for them that have to fail now.
    fn note_gone(&mut self) {
        let left = self.device.capacity();
        let opening = self.world.truth.opening;
        // What waits to be durable had its effect while there were the sectors.
        let waits = opening.synchronous || opening.pending_words.is_some();
        for flown in self.flying.values_mut() {
            let may_end = match flown.operation {
                Operation::Flush => true,
                Operation::Write { fua: true } => flown.is_written,
                Operation::Write { fua: false } => waits && flown.is_written,
                Operation::WriteZeroes => waits,
                Operation::Read | Operation::Discard => false,
            };
            flown.is_gone |= !may_end && flown.range.end().0 > left;
        }
    }

    /// A resize has ended: the device has its new size, and all that it had before.
    fn has_resized(&mut self, resize: &ActiveResize) -> Result<(), Stop> {
        let target = resize.target;
        self.failed_resize = None;
        self.check_size(target)?;
        self.check_resized()?;
        self.world.excuses.end_resize();
        if resize.coverage == "strategy_reflow" && resize.last_steps >= LAST_STEPS {
            let name = "reflow_ended_with_first_writes_and_flushes";
            self.world.coverage.hit(name);
        }
        self.note_resized(resize.old_size, target);
        self.world.truth.sizes = vec![target];
        self.world.truth.history.resized_to(target);
        self.world.settle_partial("after a resize")?;
        if self.cuts_partial && self.world.truth.history.partial().is_some() {
            let what = "the partial last sector is still there";
            let violation = Violation::new(Kind::WrongSize, "after a resize", what);
            return Err(violation.by(Act::Resize).into());
        }
        // What was asked of the sectors that are gone ends before there are others.
        let gone = |flying: &Flying| flying.range.end().0 > target;
        if self.flying.values().any(gone) {
            self.world.coverage.hit("request_outlived_its_sectors");
            self.drain()?;
        }
        Ok(())
    }

    /// A resize has failed, or was given up: a fault explains it, and the device is as it was.
    fn has_not_resized(&mut self, resize: &ActiveResize, error: ResizeError) -> Result<(), Stop> {
        let (old_size, given_up) = (resize.old_size, resize.given_up);
        let excused = given_up && error == ResizeError::Abandoned;
        if !excused && !self.world.excuses.resize(&self.world.host, &error) {
            let violation = Violation::new(Kind::WrongStatus, "during a resize", &error);
            return Err(violation.by(Act::Resize).with_error(error).into());
        }
        self.world.coverage.hit(match given_up {
            true => "resize_given_up",
            false => "resize_failed",
        });
        if self.device.capacity() != resize.target {
            self.check_size(old_size)?;
            self.check_undone(&error, given_up)?;
        }
        let faults = self.world.excuses.of_this_resize(&self.world.host);
        let length_is_lost = length_is_lost(&faults, &error);
        self.world.excuses.end_resize();
        let capacity = self.device.capacity();
        let moment = self.world.truth.history.now();
        self.failed_resize = Some(FailedResize {
            moment,
            // One that was given up after its commit has the new size.
            old_size: if given_up { capacity } else { old_size },
            given_up,
            length_is_lost,
        });
        Ok(())
    }

    /// Before a step of a shrink to `target` sectors, which may be the one that takes the others:
    /// the writes under way that have written into those. Where other changes overlap them, or data
    /// is being moved, nobody can tell, and then they may have.
    fn note_written(&mut self, target: u64, is_reflow: bool) {
        let may_wait = |flown: &Flying| {
            let is_write = matches!(flown.operation, Operation::Write { .. });
            is_write && !flown.is_written && flown.range.end().0 > target
        };
        if !self.flying.values().any(may_wait) {
            return;
        }
        let (Some(file), Some(device)) = (self.world.host.content(COW), self.device.resizable())
        else {
            return;
        };
        let geometry = device.geometry();
        let changes = self.flying.iter();
        let changes = changes.filter(|(_, flown)| flown.operation.is_change());
        let changes: Vec<_> = changes
            .map(|(&number, flown)| (number, flown.range))
            .collect();
        for (&number, flown) in &mut self.flying {
            if !may_wait(flown) {
                continue;
            }
            let overlaps = |&(other, range): &(u32, SectorRange)| {
                other != number && range.overlaps(flown.range)
            };
            let last = Sector(flown.range.end().0 - 1);
            let mut content = [0; SECTOR_SIZE as usize];
            Stamp(number).fill(last, &mut content);
            let place = match geometry {
                Some(geometry) => geometry.place_of(last),
                None => FileOffset(0) + last.bytes(),
            };
            flown.is_written =
                is_reflow || changes.iter().any(overlaps) || file.holds(&content, place);
        }
    }

    fn note_resized(&mut self, old_size: u64, target: u64) {
        let image = &self.world.case.image;
        let is_partial = self.world.truth.history.partial() == Some(old_size);
        let names = [
            ("resize_of_a_short_file", image.ends_with_data),
            ("raw_disk_resized", image.raw),
            (
                "grown_over_a_partial_last_sector",
                is_partial && target > old_size,
            ),
            (
                "rebuilt_with_a_partial_last_sector",
                is_partial && target == old_size && !self.cuts_partial,
            ),
            (
                "partial_last_sector_cut_off",
                is_partial && target == old_size && self.cuts_partial,
            ),
        ];
        for (name, _) in names.into_iter().filter(|(_, is)| *is) {
            self.world.coverage.hit(name);
        }
    }

    fn check_size(&self, target: u64) -> Result<(), Violation> {
        let capacity = self.device.capacity();
        if capacity == target {
            return Ok(());
        }
        let what = format!(
            "found {}, expected {target}",
            exact_count(capacity, "sector")
        );
        Err(Violation::new(Kind::WrongSize, "after a resize", what).by(Act::Resize))
    }
}

/// Whether one of these faults may have hit a length being put back. The first of them has ended
/// the resize, unless that was refused or given up.
fn length_is_lost(faults: &[Injected], error: &ResizeError) -> bool {
    let ended_it = !matches!(error, ResizeError::Abandoned | ResizeError::Refused(_));
    let mut after = faults.iter().skip(usize::from(ended_it));
    after.any(|injected| injected.call.kind == OperationKind::SetLen)
}

/// A flush submitted at `moment`, or a close, has made everything durable: also the size that a
/// failed resize has left, which is the old one. A header that is marked says that a part has
/// been moved, and that whoever opens the device next goes on with it. `target` is that of a
/// resize under way.
pub(super) fn settle_size(
    world: &mut World<'_>,
    failed_resize: &mut Option<FailedResize>,
    capacity: u64,
    target: Option<u64>,
    moment: Moment,
) -> Result<(), Violation> {
    let Some(failed) = failed_resize.filter(|failed| failed.moment < moment) else {
        return Ok(());
    };
    // A resize begun since then may have committed, and not have ended.
    if capacity != failed.old_size && Some(capacity) != target {
        let what = format!(
            "found {capacity} sectors, expected {}, for the resize has failed",
            failed.old_size
        );
        let when = "after a flush that was acknowledged";
        return Err(Violation::new(Kind::WrongSize, when, what).by(Act::Flush));
    }
    *failed_resize = None;
    // The device has the new size when it is opened next.
    if world.case.image.raw && failed.length_is_lost {
        return Ok(());
    }
    if is_marked(&world.host) {
        world.coverage.hit("resize_failed_half_way_then_flushed");
        return Ok(());
    }
    world.coverage.hit(match failed.given_up {
        true => "resize_given_up_then_closed",
        false => "resize_failed_then_flushed",
    });
    world.truth.sizes = [Some(capacity), target].into_iter().flatten().collect();
    let largest = capacity.max(target.unwrap_or(0));
    world.truth.history.truncate(largest);
    Ok(())
}
