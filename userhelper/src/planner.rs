//! Choosing how to resize: the cheapest way that can be taken, with the reasons. Looks at
//! the device and changes nothing.
//!
//! What holds for every strategy is checked here. `choice` tries one strategy after the other;
//! `layouts` says which layout it would lead to, and `space_needed` what it would need of the host.

mod choice;
mod error;
mod layouts;
mod space_needed;

use driver::cow::Geometry;
use driver::host::{HostFile, OperationKind};
use driver::ordered::Ordered;
use driver::resize::Strategy;
use driver::units::{Bytes, FileOffset, SECTOR_SIZE};

pub use error::PlanError;

use choice::Planner;

use crate::image_host::FreeSpace;
use crate::losses::{Effort, NotExamined, losses};

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
            kind: OperationKind::Len,
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
