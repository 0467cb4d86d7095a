//! The choice: each strategy that may be taken is tried, cheapest first, until there is a plan.

use driver::cow::{Extension, Geometry, JournalRecord, Version};
use driver::host::HostFile;
use driver::ordered::{CowImage, Ordered};
use driver::resize::Strategy;
use driver::units::{Bytes, FileOffset, FileRange};

use super::layouts::out_of_reach;
use super::{Plan, PlanError, Surroundings, Wish};
use crate::reflow::{LEAST_WINDOW, LIVE_WINDOW, OFFLINE_WINDOW};
use crate::space::BLOCK;

/// A device with an image, and what is asked of it.
pub(super) struct Planner<'a, F> {
    pub(super) device: &'a Ordered<F>,
    pub(super) image: &'a CowImage,
    pub(super) wish: Wish,
    pub(super) surroundings: Surroundings,
    pub(super) old_size: Bytes,
}

impl<F: HostFile> Planner<'_, F> {
    /// The first plan that there is, with the reasons why there is none before it.
    pub(super) fn choose(&self) -> Result<Plan, PlanError> {
        if let Some(strategy) = self.wish.strategy {
            let attempt = self.attempt(strategy)?;
            return attempt.map_err(|why| PlanError::Impossible { strategy, why });
        }
        // Under live I/O a reflow stops requests for a window at a time, a rebuild for good.
        let order = match self.wish.online {
            false => [Strategy::Headroom, Strategy::Rebuild, Strategy::Reflow],
            true => [Strategy::Headroom, Strategy::Reflow, Strategy::Rebuild],
        };
        let mut reasons = Vec::new();
        // A reflow that takes the file from stock Linux gives way to a rebuild that does not.
        let mut reflow: Option<Plan> = None;
        for strategy in order {
            match (self.attempt(strategy)?, &reflow) {
                (Ok(plan), None) if strategy == Strategy::Reflow && plan.leaves_stock_reach => {
                    reflow = Some(plan);
                }
                // It would not help.
                (Ok(plan), Some(_)) if plan.leaves_stock_reach => {}
                (Ok(plan), instead_of) => {
                    reasons.extend(instead_of.as_ref().and_then(Plan::why_not));
                    return Ok(plan.because(reasons));
                }
                (Err(why), _) => reasons.push(format!("not by {strategy}: {why}")),
            }
        }
        if let Some(plan) = reflow {
            return Ok(plan.because(reasons));
        }
        Err(PlanError::Impossible {
            strategy: Strategy::Reflow,
            why: reasons.join("; "),
        })
    }

    /// The plan by this strategy, or the reason why it cannot be taken.
    fn attempt(&self, strategy: Strategy) -> Result<Result<Plan, String>, PlanError> {
        Ok(match strategy {
            Strategy::Headroom => self.headroom()?,
            Strategy::Rebuild => self.rebuild()?,
            Strategy::Reflow => self.reflow()?,
        })
    }

    fn headroom(&self) -> Result<Result<Plan, String>, PlanError> {
        let (old, version) = (self.image.geometry, self.image.header.version);
        if version != Version::V3 {
            return Ok(Err(format!("a {version} header is rebuilt as V3")));
        }
        if !Extension::fits(&old) {
            return Ok(Err("no room for the extension block".into()));
        }
        let new = self.geometry(old.alignment)?;
        if new.data_offset == old.data_offset {
            return Ok(Ok(self.plan(Strategy::Headroom, new)));
        }
        let limit = old.headroom();
        let why = match self.shrinks() {
            true => "the shorter bitmap would move the data".to_string(),
            false => format!("the bitmap has room for a device of {limit}, not more"),
        };
        Ok(Err(why))
    }

    fn rebuild(&self) -> Result<Result<Plan, String>, PlanError> {
        if !self.surroundings.replaceable {
            return Ok(Err(
                "only a regular file without a second name (hard link) can be replaced".into(),
            ));
        }
        let found = self.wish.new_size.0;
        let new = self.roomy_geometry(|_| true)?;
        let new = new.ok_or(PlanError::TooLarge { found })?;
        let mut plan = self.plan(Strategy::Rebuild, new);
        let mut space = self.blocks();
        let extension_end = Extension::OFFSET + Bytes(Extension::LEN as u64);
        space.add(FileRange::between(FileOffset(0)..extension_end));
        space.add(new.bitmap());
        plan.to_move = self.add_data(&mut space, &new)?;
        plan.space_needed = space.space();
        Ok(match self.lacking(plan.space_needed) {
            Some(free) => Err(format!(
                "a copy needs {}, and only {free} are free beside the COW file",
                plan.space_needed
            )),
            None => Ok(plan),
        })
    }

    fn reflow(&self) -> Result<Result<Plan, String>, PlanError> {
        let (old, version) = (self.image.geometry, self.image.header.version);
        if version != Version::V3 {
            return Ok(Err(format!("a {version} header is rebuilt as V3")));
        }
        if self.shrinks() {
            return Ok(Err(
                "it moves data up only, and a shrink moves it down".into()
            ));
        }
        if !JournalRecord::fits(&old) {
            return Ok(Err("no room for the journal before the bitmap".into()));
        }
        let Some(new) = self.geometry_after(&old)? else {
            return Ok(Err(self.no_layout_after(&old)));
        };
        let mut plan = self.plan(Strategy::Reflow, new);
        plan.notes.extend(self.spared_by_headroom(&new));
        let distance = new.data_offset - old.data_offset;
        let most = match self.wish.online {
            true => LIVE_WINDOW,
            false => OFFLINE_WINDOW,
        };
        let (mut data, mut bitmap) = (self.blocks(), self.blocks());
        plan.to_move = self.add_data(&mut data, &new)?;
        bitmap.add(new.bitmap());
        // The host's blocks may be larger than those that windows are counted in, and have as
        // little in them.
        let larger = data.block().div_ceil(BLOCK);
        let needed = |window: Bytes| {
            // One block more at either end.
            let window = Bytes(window.0.saturating_mul(larger) + 2 * data.block());
            data.space().min(window) + bitmap.space()
        };
        let fits = |window: &Bytes| self.lacking(needed(*window)).is_none();
        // Where space is short, smaller windows do as well.
        let smaller = std::iter::successors(Some(most), |window| Some(Bytes(window.0 / 2)));
        let mut windows = smaller.take_while(|&window| window >= LEAST_WINDOW);
        plan.window = windows.find(fits).unwrap_or(LEAST_WINDOW).min(distance);
        plan.space_needed = needed(plan.window);
        Ok(match self.lacking(plan.space_needed) {
            Some(free) => Err(format!(
                "a window and the new bitmap need {}, and only {free} are free",
                plan.space_needed
            )),
            None => Ok(plan),
        })
    }

    /// Whether the bitmap has room for the device as it is to be.
    pub(super) fn headroom_does(&self) -> bool {
        matches!(self.headroom(), Ok(Ok(_)))
    }

    /// Where headroom would do: that, and what a reflow into the layout `new` costs instead.
    fn spared_by_headroom(&self, new: &Geometry) -> Option<String> {
        let old = self.image.geometry;
        self.headroom_does().then(|| {
            format!(
                "headroom has room for a device of {}, and would move nothing: a reflow puts the \
                 start of the data from byte {} to byte {}, and the next one at least doubles that",
                old.headroom(),
                old.data_offset,
                new.data_offset
            )
        })
    }

    /// A plan that moves nothing, to begin with.
    fn plan(&self, strategy: Strategy, new: Geometry) -> Plan {
        let leaves = self.image.geometry.fits_stock_linux() && !new.fits_stock_linux();
        Plan {
            strategy,
            reasons: Vec::new(),
            notes: leaves.then(|| out_of_reach(&new)).into_iter().collect(),
            old_size: self.old_size,
            new_size: self.wish.new_size,
            new_geometry: Some(new),
            leaves_stock_reach: leaves,
            to_move: Bytes(0),
            space_needed: Bytes(0),
            online: self.wish.online,
            window: Bytes(0),
        }
    }

    fn shrinks(&self) -> bool {
        self.wish.new_size.whole_sectors() < self.device.capacity()
    }
}

impl Plan {
    fn because(self, reasons: Vec<String>) -> Plan {
        Plan { reasons, ..self }
    }

    /// Why another plan is better that stays within stock Linux's reach.
    fn why_not(&self) -> Option<String> {
        let start = self.new_geometry?.data_offset - FileOffset(0);
        Some(format!(
            "not by {}: the data would start at {start}, past the 2 GiB that stock Linux can reach",
            self.strategy
        ))
    }
}
