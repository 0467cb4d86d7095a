//! Choosing how to resize: the cheapest way that can be taken, with the reasons. Looks at
//! the device and changes nothing.

use driver::cow::{Extension, Geometry, JournalRecord, Version};
use driver::exact_count;
use driver::host::HostFile;
use driver::ordered::{CowImage, Ordered};
use driver::resize::Strategy;
use driver::units::{Bytes, FileOffset, FileRange, SECTOR_SIZE, Sector, SectorCount, SectorRange};

use crate::image_host::FreeSpace;
use crate::losses::{Effort, Loss, NotExamined, losses};
use crate::reflow::{LEAST_WINDOW, LIVE_WINDOW, OFFLINE_WINDOW};
use crate::space::{BLOCK, Blocks};

/// The least alignment that a reflow asks for. A window is at most as long as the distance moved,
/// which is about twice the alignment, and costs two syncs: with this a device is moved in some
/// ten windows and one more for each window's worth of data. More than 512 MiB would take the
/// data out of stock Linux's reach.
fn reflow_alignment(size: Bytes) -> u32 {
    let wanted = (size.0 / 16).clamp(4 << 20, 512 << 20);
    wanted.next_power_of_two() as u32
}

/// At most this many pieces of data are looked at while requests wait. The host is asked for each.
const MOST_PIECES_LIVE: usize = 4096;

/// At most this many dirty runs are looked at while requests wait, which takes some milliseconds.
const MOST_RUNS_LIVE: usize = 1 << 16;

/// Whether a resize may make the device smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shrink {
    /// No.
    Refuse,
    /// As long as no data lies past the new end, in either file.
    KeepingData,
    /// Also then: what lies there is lost.
    LosingData,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The size that the device should have.
    pub new_size: Bytes,
    /// How; `None` leaves it to the planner.
    pub strategy: Option<Strategy>,
    /// Whether it may become smaller.
    pub shrink: Shrink,
    /// Whether requests are to be served meanwhile.
    pub online: bool,
}

/// What is known of the host beside the device itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The space free beside the COW file, where that is known.
    pub free_space: Option<FreeSpace>,
    /// Whether the COW file is a regular file with one name only, and so can be replaced by
    /// another: under a second name (a hard link) the old one would stay.
    pub replaceable: bool,
}

/// How a device will be resized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How.
    pub strategy: Strategy,
    /// Why so, and not cheaper: a sentence each. None if the strategy was asked for.
    pub reasons: Vec<String>,
    /// What it costs beside time and space, and is to be known before it begins: a sentence each.
    pub notes: Vec<String>,
    /// The size now.
    pub old_size: Bytes,
    /// The size then.
    pub new_size: Bytes,
    /// The layout then; `None` for a raw disk.
    pub new_geometry: Option<Geometry>,
    /// Whether stock Linux reaches the data now, and will not then.
    pub leaves_stock_reach: bool,
    /// Bytes of data to be moved at most.
    pub to_move: Bytes,
    /// Space on the host that is needed meanwhile, in whole blocks of its file system.
    pub space_needed: Bytes,
    /// Whether requests are served meanwhile.
    pub online: bool,
    /// A reflow moves no more than this at once, counted in the blocks of 4 KiB that its data is
    /// in.
    pub window: Bytes,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A size that no device has.
    #[error(
        "found a new size of {}, expected a positive multiple of 512{}",
        exact_count(*.found, "byte"),
        nearest(*.found)
    )]
    BadSize {
        /// The size asked for.
        found: u64,
    },
    /// A smaller size, not asked for as such.
    #[error(
        "{} bytes are less than the device's {} bytes: a resize makes it smaller only with --shrink",
        .new.0, .old.0
    )]
    WouldShrink {
        /// The size now.
        old: Bytes,
        /// The size asked for.
        new: Bytes,
    },
    /// There is data past the new end.
    #[error("{0}: they would be lost (--lose-data says that this is meant)")]
    WouldLoseData(Loss),
    /// The device takes no writes.
    #[error("the device is read-only")]
    ReadOnly,
    /// An earlier reflow was interrupted.
    #[error("an interrupted resize has to be finished first")]
    Interrupted,
    /// No layout of a file fits.
    #[error("a device of {found} bytes fits into no COW file")]
    TooLarge {
        /// The size asked for.
        found: u64,
    },
    /// The strategy asked for cannot do it, or none can.
    #[error("{strategy} cannot do this: {why}")]
    Impossible {
        /// Which.
        strategy: Strategy,
        /// Why not.
        why: String,
    },
    /// A file of the device could not be examined.
    #[error(transparent)]
    NotExamined(#[from] NotExamined),
}

/// The sizes next to one that no device can have, as the end of a sentence.
fn nearest(size: u64) -> String {
    let below = size - size % SECTOR_SIZE;
    match (below, below.checked_add(SECTOR_SIZE)) {
        (0, Some(above)) => format!(": the nearest is {above}"),
        (_, Some(above)) => format!(": the nearest are {below} and {above}"),
        (_, None) => format!(": the nearest is {below}"),
    }
}

/// Plans the resize of `device` as `wish` asks for it.
///
/// # Errors
/// See [`PlanError`].
pub fn plan<F: HostFile>(
    device: &Ordered<F>,
    wish: Wish,
    surroundings: Surroundings,
) -> Result<Plan, PlanError> {
    match plan_ahead(device, wish, surroundings) {
        Ok(_) | Err(PlanError::Interrupted) if device.is_read_only() => Err(PlanError::ReadOnly),
        planned => planned,
    }
}

/// As [`plan`], for a look at what could be done: the device may be open for reading only.
///
/// # Errors
/// See [`PlanError`].
pub fn plan_ahead<F: HostFile>(
    device: &Ordered<F>,
    wish: Wish,
    surroundings: Surroundings,
) -> Result<Plan, PlanError> {
    let new_size = wish.new_size;
    let (old_size, new_sectors) = (current_size(device)?, new_size.whole_sectors());
    // A device may have a partial last sector already, and is rebuilt with it.
    let whole = new_size.0.is_multiple_of(SECTOR_SIZE) || new_size == old_size;
    if new_size.0 == 0 || !whole {
        return Err(PlanError::BadSize { found: new_size.0 });
    }
    if new_size.0 > i64::MAX as u64 || new_sectors > driver::cow::MAX_SECTORS {
        return Err(PlanError::TooLarge { found: new_size.0 });
    }
    if device.image().is_some_and(|image| image.header.relocating) {
        return Err(PlanError::Interrupted);
    }
    if new_size < old_size {
        check_shrink(device, old_size, wish)?;
    }
    let Some(image) = device.image() else {
        return plan_raw(old_size, wish);
    };
    let planner = Planner {
        device,
        image,
        wish,
        surroundings,
        old_size,
    };
    planner.choose()
}

/// The size of the device, with a partial last sector, which a raw disk may have too.
fn current_size<F: HostFile>(device: &Ordered<F>) -> Result<Bytes, NotExamined> {
    match device.geometry() {
        Some(geometry) => Ok(geometry.size),
        None => device.cow().len().map_err(|error| NotExamined {
            doing: "examining the disk",
            at: FileOffset(0),
            error,
        }),
    }
}

fn plan_raw(old_size: Bytes, wish: Wish) -> Result<Plan, PlanError> {
    match wish.strategy {
        None | Some(Strategy::Headroom) => Ok(Plan {
            strategy: Strategy::Headroom,
            reasons: vec!["a raw disk has no bitmap that could need room".into()],
            notes: Vec::new(),
            old_size,
            new_size: wish.new_size,
            new_geometry: None,
            leaves_stock_reach: false,
            to_move: Bytes(0),
            space_needed: Bytes(0),
            online: wish.online,
            window: Bytes(0),
        }),
        Some(strategy) => Err(PlanError::Impossible {
            strategy,
            why: "a raw disk has no COW file to rearrange".into(),
        }),
    }
}

fn check_shrink<F: HostFile>(device: &Ordered<F>, old: Bytes, wish: Wish) -> Result<(), PlanError> {
    let new = wish.new_size;
    match wish.shrink {
        Shrink::Refuse => return Err(PlanError::WouldShrink { old, new }),
        Shrink::LosingData => return Ok(()),
        Shrink::KeepingData => {}
    }
    let effort = match wish.online {
        true => Effort::WhileRequestsWait,
        false => Effort::Thorough,
    };
    match losses(device, old, new, effort)? {
        Some(loss) => Err(PlanError::WouldLoseData(loss)),
        None => Ok(()),
    }
}

struct Planner<'a, F> {
    device: &'a Ordered<F>,
    image: &'a CowImage,
    wish: Wish,
    surroundings: Surroundings,
    old_size: Bytes,
}

impl<F: HostFile> Planner<'_, F> {
    fn choose(&self) -> Result<Plan, PlanError> {
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

    /// A layout whose bitmap and data lie past those of `old`, if there is one. A distance that
    /// makes for few windows is wanted, and that stock Linux reaches the data is wanted more.
    fn geometry_after(&self, old: &Geometry) -> Result<Option<Geometry>, PlanError> {
        let after_old = |new: &Geometry| {
            new.bitmap_offset >= old.bitmap().end() && new.data_offset > old.data_offset
        };
        let least = reflow_alignment(self.wish.new_size);
        let far = self.roomy_geometry(|new| new.alignment >= least && after_old(new))?;
        if far.is_some_and(|far| far.fits_stock_linux()) {
            return Ok(far);
        }
        let near = self.roomy_geometry(after_old)?;
        Ok(near.filter(Geometry::fits_stock_linux).or(far))
    }

    /// Why there is no layout past `old`, and what there is in its place.
    fn no_layout_after(&self, old: &Geometry) -> String {
        let instead = match self.headroom_does() {
            true => format!(
                "headroom has room for a device of {}, and moves nothing; ",
                old.headroom()
            ),
            false => String::new(),
        };
        format!(
            "each one at least doubles the alignment, which is {} bytes already, and a header \
             holds at most {}; {instead}`ubdlab image convert COW NEW --to v3` makes \
             a copy with its data near the beginning",
            old.alignment,
            u32::MAX
        )
    }

    /// Whether the bitmap has room for the device as it is to be.
    fn headroom_does(&self) -> bool {
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

    /// None yet, of the host's file system.
    fn blocks(&self) -> Blocks {
        let block = self.surroundings.free_space.map(|space| space.block.0);
        Blocks::of(block.unwrap_or(BLOCK))
    }

    /// Adds what the data that stays takes in the layout `new`; how much it is. A dirty hole takes
    /// no space, and stays one. While requests wait, only the first pieces and runs are looked at:
    /// each dirty sector after them is taken to be data, in a block of its own if there are as many
    /// blocks.
    fn add_data(&self, space: &mut Blocks, new: &Geometry) -> Result<Bytes, NotExamined> {
        let (old, map) = (self.image.geometry, self.device.map());
        let end = Sector(0) + self.device.capacity().min(new.capacity());
        let area = FileRange::new(old.data_offset, (end - Sector(0)).bytes());
        let (most_pieces, mut runs_left) = match self.wish.online {
            true => (MOST_PIECES_LIVE, MOST_RUNS_LIVE),
            false => (usize::MAX, usize::MAX),
        };
        // Up to `from` all is counted.
        let (mut from, mut sum) = (Sector(0), SectorCount(0));
        let mut is_cut_short = false;
        'pieces: for (piece, data) in self.device.cow().data_runs(area).enumerate() {
            let data = data.map_err(|error| NotExamined {
                doing: "examining the COW file",
                at: area.start,
                error,
            })?;
            let start = Sector(0) + (data.start - area.start).whole_sectors();
            let stop = Sector(0) + (data.end() - area.start).sectors_touched();
            from = from.max(start);
            is_cut_short = piece >= most_pieces;
            if is_cut_short {
                break;
            }
            let stop = stop.min(end).max(from);
            for run in map.dirty_runs(SectorRange::between(from..stop)) {
                is_cut_short = runs_left == 0;
                if is_cut_short {
                    break 'pieces;
                }
                runs_left -= 1;
                space.add(FileRange::new(new.place_of(run.start), run.count.bytes()));
                sum += run.count;
                from = run.end();
            }
            from = stop;
        }
        if is_cut_short && from < end {
            let range = SectorRange::between(from..end);
            let rest = map.dirty_count().0.saturating_sub(sum.0);
            let rest = SectorCount(rest.min(range.count.0));
            let place = FileRange::new(new.place_of(from), range.count.bytes());
            space.add_scattered(rest, place);
            sum += rest;
        }
        Ok(sum.bytes())
    }

    /// What is free, if that is less than `needed`.
    fn lacking(&self, needed: Bytes) -> Option<Bytes> {
        let free = self.surroundings.free_space?.free;
        (free < needed).then_some(free)
    }

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

    fn geometry(&self, alignment: u32) -> Result<Geometry, PlanError> {
        let found = self.wish.new_size.0;
        Geometry::new(Version::V3, self.wish.new_size, alignment)
            .map_err(|_| PlanError::TooLarge { found })
    }

    /// The layout with the roomiest alignment that stock Linux can still reach and that
    /// `fits`; if there is none, the smallest that fits, if any does.
    fn roomy_geometry(
        &self,
        fits: impl Fn(&Geometry) -> bool,
    ) -> Result<Option<Geometry>, PlanError> {
        let roomy = Geometry::roomy_alignment(self.wish.new_size);
        let larger = std::iter::successors(Some(roomy), |a| a.checked_mul(2));
        let smaller = std::iter::successors(Some(roomy / 2), |a| Some(a / 2));
        let mut beyond_stock = None;
        for alignment in larger.chain(smaller.take_while(|&a| a >= 4096)) {
            let geometry = self.geometry(alignment)?;
            if !fits(&geometry) {
                continue;
            }
            if geometry.fits_stock_linux() {
                return Ok(Some(geometry));
            }
            beyond_stock.get_or_insert(geometry);
        }
        Ok(beyond_stock)
    }
}

/// What a layout means whose data stock Linux cannot reach.
fn out_of_reach(layout: &Geometry) -> String {
    format!(
        "the data starts at {}, past the 2 GiB that stock Linux can reach: only ubdlab will be \
         able to use the file",
        layout.data_offset - FileOffset(0)
    )
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
