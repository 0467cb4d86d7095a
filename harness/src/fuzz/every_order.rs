//! A small case in all orders: what its requests have under way takes effect and ends in each order
//! that there is, and each of its requests is submitted at each moment between. In every order each
//! crash point is looked at, where no order before has come to it in the same way.
//!
//! Of orders that differ only in neighbours that commute, one is run ([`crate::sim`] says which
//! do). Where faults are planned, none commute, for a fault is planned for an operation by its
//! number.

use crate::sim::{Decisions, Search, SimHost, Survivors};
use crate::streams::stream;

use super::case::{Case, DriverName, End, Stimulus};
use super::check::check_image;
use super::parts::{Part, Unwatched, Watch};
use super::scratch::Scratch;
use super::selection::Selection;
use super::truth::Truth;
use super::violation::Violation;
use super::world::{Observer, Point, World};

/// How a case is run in all orders.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    /// No more than this are run.
    pub most: u64,
    /// Of those that show the same, one is run.
    pub reduces: bool,
    /// Crash points are looked at.
    pub crashes: bool,
}

/// What running a case in all orders came to.
#[derive(Clone, Debug, Default)]
pub struct InEveryOrder {
    /// Orders that were run to their end.
    pub orders: u64,
    /// Orders that were left when nothing was to come that another does not show.
    pub left: u64,
    /// Crash images that were looked at.
    pub crash_images: u64,
    /// Operations of the host.
    pub host_operations: u64,
    /// Whether there was no other order.
    pub is_complete: bool,
    /// Whoever watches has cut it off.
    pub cut_off: bool,
    /// What is wrong, and the case, with its order, that shows it.
    pub finding: Option<(Box<Case>, Violation)>,
}

/// The most requests of a case that a campaign runs in all orders, and the most sectors of its
/// device.
const REQUESTS: usize = 3;
const SECTORS: u64 = 256;

/// The most orders of it.
const ORDERS: Orders = Orders {
    most: 80,
    reduces: true,
    crashes: true,
};

/// The most power cuts at a crash point of it, and the most crash images in all.
const CUTS: u64 = 24;
const IMAGES: u64 = 4_000;

/// How a campaign runs this case in all orders, if it does: a few requests that are under way
/// together, no resize and no fault.
pub(super) fn is_for(case: &Case) -> Option<Orders> {
    let life = case.lives.first()?;
    let is_small = case.requests() <= REQUESTS && case.image.sectors <= SECTORS;
    let is_plain = |action: &Stimulus| {
        action.is_request() || matches!(action, Stimulus::Step | Stimulus::Drain)
    };
    let is_fit = is_small
        && case.requests() > 1
        && life.side_by_side.is_some()
        && life.tool.is_none()
        && life.faults.is_empty()
        && life.resize_faults.is_empty()
        && life.actions.iter().all(is_plain);
    is_fit.then_some(ORDERS)
}

/// Runs the first life of a case in all orders, until something is wrong. The kernels' drivers have
/// one operation under way at a time, and so one order, which is not run.
pub fn in_every_order(case: &Case, how: Orders) -> InEveryOrder {
    in_orders(case, how, u64::MAX, &mut Unwatched)
}

/// As many orders of a case in a campaign as it has time for, while a watcher looks on.
pub(super) fn in_a_campaign(case: &Case, how: Orders, watch: &mut dyn Watch) -> InEveryOrder {
    in_orders(case, how, IMAGES, watch)
}

fn in_orders(case: &Case, how: Orders, images: u64, watch: &mut dyn Watch) -> InEveryOrder {
    let mut all = InEveryOrder::default();
    if case.driver != DriverName::Ordered || case.resize_model().is_some() {
        return all;
    }
    let Some(life) = case.lives.first() else {
        return all;
    };
    let has_faults = !life.faults.is_empty() || !life.resize_faults.is_empty();
    let mut search = Search::new(how.reduces && !has_faults);
    while let Some(decisions) = search.next() {
        watch.enter(Part::Run);
        let is_enough = all.orders + all.left >= how.most || all.crash_images >= images;
        all.cut_off = !is_enough && watch.cuts_off();
        if is_enough || all.cut_off {
            return all;
        }
        let mut world = World::new(case);
        world.decide_by(decisions.clone());
        let mut looking = Looking {
            case,
            decisions: &decisions,
            known: search.known(),
            crashes: how.crashes,
            is_whole: images == u64::MAX,
            images: 0,
            operations: 0,
            end: End::Close,
            scratch: Scratch::default(),
        };
        let lived = world.live(life, &mut looking);
        let (images, operations, end) = (looking.images, looking.operations, looking.end);
        all.crash_images += images;
        all.host_operations += operations + world.host.operations();
        match decisions.is_in_vain() {
            true => all.left += 1,
            false => all.orders += 1,
        }
        if let Err(violation) = lived {
            let mut found = case.clone();
            found.lives.truncate(1);
            found.lives[0].order = Some(decisions.choices());
            found.lives[0].end = end;
            found.found = Some(violation.clone());
            all.finding = Some((Box::new(found), violation));
            return all;
        }
        search.ran(&decisions);
    }
    all.is_complete = true;
    all
}

/// Looks at the crash points that no order before has shown.
struct Looking<'a> {
    case: &'a Case,
    decisions: &'a Decisions,
    /// What comes after as many decisions is new; `None` if all is.
    known: Option<usize>,
    crashes: bool,
    /// All power cuts are looked at.
    is_whole: bool,
    images: u64,
    operations: u64,
    /// How the life ends that shows what is wrong.
    end: End,
    scratch: Scratch,
}

impl Looking<'_> {
    fn check(
        &mut self,
        image: &SimHost,
        point: Point,
        truth: &Truth,
        end: End,
    ) -> Result<(), Violation> {
        self.images += 1;
        let scratch = &mut self.scratch;
        let checked = check_image(
            image,
            self.case,
            truth,
            point.phase,
            scratch,
            &mut Unwatched,
        );
        self.operations += image.operations();
        checked.inspect_err(|_| self.end = end)
    }

    fn cut(
        &mut self,
        snapshot: &SimHost,
        survivors: Survivors,
        point: Point,
        truth: &Truth,
    ) -> Result<(), Violation> {
        let Ok(image) = snapshot.after_power_cut(&survivors) else {
            return Ok(());
        };
        let end = End::PowerCut {
            position: point.position,
            change: point.change,
            survivors,
        };
        self.check(&image, point, truth, end)
    }
}

impl Observer for Looking<'_> {
    fn look(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        truth: &Truth,
    ) -> Result<Option<SimHost>, Violation> {
        if self.decisions.is_in_vain() {
            // That ends the life.
            return Ok(Some(snapshot.after_kill()));
        }
        let is_known = self
            .known
            .is_some_and(|known| self.decisions.made() <= known);
        if is_known || !self.crashes {
            return Ok(None);
        }
        let killed = End::Kill {
            position: point.position,
            change: point.change,
            pages: 0,
        };
        self.check(&snapshot.after_kill(), point, truth, killed)?;
        let unsynced = snapshot.unsynced();
        let selection = match self.is_whole {
            true => Selection::of(&unsynced, u64::MAX, true),
            false => Selection::of(&unsynced, CUTS, false),
        };
        // Of a small case all are enumerated; what is drawn of another, is drawn alike each time.
        let others = selection.others(&unsynced, &mut stream(0, "crashes in every order"));
        for survivors in selection.enumerated(&unsynced).chain(others) {
            self.cut(snapshot, survivors, point, truth)?;
        }
        Ok(None)
    }
}
