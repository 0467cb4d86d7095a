//! One case with all its crashes: at every change of the host the process is killed and the
//! power cut, in every way if there are few, in some if there are many; what is left is
//! looked at, and some of it lives on, to crash again in the middle of its recovery.

use driver::host::OperationKind;

use crate::sim::{SimHost, Survivors, Unsynced};
use crate::streams::{Stream, below, chance, stream};

use super::case::{Case, DriverName, End, Life, ResizeStrategy, Stimulus};
use super::check::check_image;
use super::coverage::Coverage;
use super::every_order;
use super::exactly::{DoesNotFit, NotRight, live_exactly};
use super::generate::another_life;
use super::parts::{Part, Unwatched, Watch};
use super::recorded::Recording;
use super::scratch::Scratch;
use super::selection::{SMALL, Selection, WHOLE_PERCENT, draw};
use super::signature::Phase;
use super::subject::Subject;
use super::thrift::Thrift;
use super::truth::{Truth, is_marked};
use super::violation::{Cause, Violation};
use super::world::{LifeEnd, Mending, NotRelived, Observer, Point, World};

/// The most lives that a case has.
const LIVES: usize = 3;

/// A life that another follows dies before one of its first N changes, where N is a power of two
/// drawn between these two. A life that ends before that dies at a point drawn from all of its own.
const DIES_EARLY: (u64, u64) = (8, 256);

/// How often a life that may move data does not die early, but in the middle of that.
const LATE_PERCENT: u64 = 65;

/// The early death of such a life: it does not come.
const LATE: u64 = u64::MAX;

/// What looking at a case came to.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Operations of the host.
    pub host_operations: u64,
    /// Crash images that were built, recovered and compared. Where a power cut leaves just what
    /// the kill at the same crash point has left, one of the two is recovered for both.
    pub crash_images: u64,
    /// What came up.
    pub coverage: Coverage,
    /// What is wrong, and the case that shows it.
    pub finding: Option<(Box<Case>, Violation)>,
    /// Whoever watches has cut it off: some of the case was not looked at.
    pub cut_off: bool,
}

/// Runs `case` and its crashes. Everything drawn depends on `seed`.
pub fn explore(case: &Case, seed: u64, subject: &Subject) -> Explored {
    explore_watched(case, seed, subject, &mut Unwatched)
}

/// [`explore`] while a watcher looks on, who may cut it off and has no other influence on the
/// result.
pub fn explore_watched(
    case: &Case,
    seed: u64,
    subject: &Subject,
    watch: &mut dyn Watch,
) -> Explored {
    watch.enter(Part::Run);
    let mut explored = Explored::default();
    let mut rng = stream(seed, "crashes");
    let is_small = case.lives[0].actions.len() < SMALL;
    let thorough = is_small && chance(&mut rng, WHOLE_PERCENT);
    // The lives after the first are added here, each when the one before it has crashed.
    let mut lives = case.clone();
    let mut world = World::new(case);
    let mut scratch = Scratch::default();
    let mut thrift = Thrift::new(thorough);
    for number in 0..LIVES {
        let last = number + 1 == LIVES || !chance(&mut rng, 50);
        let death = (!last).then(|| Death::draw(&mut rng, &lives.lives[number]));
        let mut explorer = Explorer {
            case: &lives,
            rng: &mut rng,
            explored: &mut explored,
            thorough: thorough && number == 0,
            thrift: &mut thrift,
            death,
            end: None,
            wanted: None,
            recovering: number > 0,
            killed_took: 0,
            scratch: &mut scratch,
            watch,
        };
        let mut life = lives.lives[number].clone();
        let before = explorer.death.is_some().then(|| world.between_lives());
        let mut lived = world.live(&life, &mut explorer);
        let end = explorer.end.take();
        explored.host_operations += world.host.operations();
        if let (Ok(LifeEnd::Closed | LifeEnd::NotOpened), Some(end), Some(mut again)) =
            (&lived, &end, before)
            && !explored.cut_off
        {
            // It has outlived its early death: once more, up to where it could have died.
            life.end = end.clone();
            explored.coverage.hit("life_lived_again_to_die");
            lived = match live_exactly(&mut again, number, &life) {
                Ok(lived) => Ok(lived.end),
                Err(NotRight::Violated(violation)) => Err(violation),
                Err(NotRight::DoesNotFit(error)) => panic!("a life does not repeat: {error}"),
            };
            again.coverage = std::mem::take(&mut world.coverage);
            world = again;
        }
        match (lived, end) {
            (Err(violation), end) => {
                let mut case = lives.clone();
                if let Some(end) = end {
                    case.lives[number].end = end;
                }
                case.found = Some(violation.clone());
                explored.finding = Some((Box::new(case), violation));
                break;
            }
            _ if explored.cut_off => break,
            // A device that has to be refused has nothing to live on for.
            (Ok(LifeEnd::Crashed(_)), Some(end))
                if !last && world.truth.opening.must_refuse.is_none() =>
            {
                lives.lives[number].end = end;
                let sectors = world.truth.sizes.first().copied().unwrap_or(1);
                let recovers = is_marked(&world.host);
                let life = another_life(seed, number + 1, sectors, recovers, subject);
                lives.lives.push(life);
            }
            _ => break,
        }
    }
    explored.coverage.merge(&world.coverage);
    explored.coverage.add(
        "interrupted_reflow_read_by_image_tools",
        scratch.read_by_tools,
    );
    if explored.finding.is_none() && !explored.cut_off {
        explored.add_every_order(case, watch);
    }
    explored
}

impl Explored {
    /// Runs a case that is small enough in all its orders too.
    fn add_every_order(&mut self, case: &Case, watch: &mut dyn Watch) {
        let Some(orders) = every_order::is_for(case) else {
            return;
        };
        let all = every_order::in_a_campaign(case, orders, watch);
        if all.orders > 0 {
            self.coverage.hit("case_in_every_order");
        }
        self.coverage
            .add("orders_that_a_case_was_run_in", all.orders);
        self.cut_off = all.cut_off;
        self.host_operations += all.host_operations;
        self.crash_images += all.crash_images;
        self.finding = all.finding;
    }
}

/// When a life ends in a crash that another life follows.
struct Death {
    /// Before this one of its changes, counted from 0.
    early: u64,
    /// Crash points so far.
    points: u64,
}

impl Death {
    fn draw(rng: &mut Stream, life: &Life) -> Death {
        let (least, most) = DIES_EARLY;
        let bound = least << below(rng, u64::from((most / least).ilog2()) + 1);
        let early = below(rng, bound);
        let may_move = life.actions.iter().any(|action| {
            let strategy = match action {
                Stimulus::Resize { strategy, .. } => *strategy,
                _ => ResizeStrategy::Headroom,
            };
            matches!(strategy, ResizeStrategy::Reflow | ResizeStrategy::Auto)
        });
        // Most lives die before data is being moved.
        let early = match may_move && chance(rng, LATE_PERCENT) {
            true => LATE,
            false => early,
        };
        Death { early, points: 0 }
    }

    /// Counts one more crash point. True if the life ends here. Before its early death is due, true
    /// if this point is chosen for a life that does not get that far. Each point so far is equally
    /// likely to be the last one chosen.
    fn comes_here(&mut self, rng: &mut Stream) -> bool {
        self.points += 1;
        self.is_now() || below(rng, self.points) == 0
    }

    fn is_now(&self) -> bool {
        self.points > self.early
    }
}

/// How often a life that is to die dies at a crash point in the middle of a reflow.
const MARKED_PERCENT: u64 = 30;

struct Explorer<'a> {
    case: &'a Case,
    rng: &'a mut Stream,
    explored: &'a mut Explored,
    thorough: bool,
    thrift: &'a mut Thrift,
    /// When this life ends in a crash, if it does.
    death: Option<Death>,
    /// How it ended, or could have, or which end shows what was found.
    end: Option<End>,
    /// What is looked for, if not everything: an image with something else is passed over.
    wanted: Option<&'a Cause>,
    recovering: bool,
    /// Operations of the host that judging the present crash point's kill took.
    killed_took: u64,
    scratch: &'a mut Scratch,
    watch: &'a mut dyn Watch,
}

impl Explorer<'_> {
    fn examine(
        &mut self,
        image: &SimHost,
        end: End,
        phase: Phase,
        truth: &Truth,
    ) -> Result<(), Violation> {
        self.explored.crash_images += 1;
        let scratch = &mut *self.scratch;
        let checked = check_image(image, self.case, truth, phase, scratch, self.watch);
        self.watch.enter(Part::Build);
        self.explored.host_operations += image.operations();
        match checked {
            Err(violation) if self.wanted.is_none_or(|cause| violation.cause() == *cause) => {
                self.end = Some(end);
                Err(violation)
            }
            _ => Ok(()),
        }
    }

    fn cut(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        survivors: Survivors,
        truth: &Truth,
    ) -> Result<(), Violation> {
        if self.is_cut_off() {
            return Ok(());
        }
        let image = after_power_cut(snapshot, &survivors);
        self.explored.coverage.hit("crash_power_cut");
        if image.is_found_like(snapshot) {
            // What the kill has left, to the last byte, and that was judged already.
            self.explored.crash_images += 1;
            self.explored.host_operations += self.killed_took;
            return Ok(());
        }
        let end = End::PowerCut {
            position: point.position,
            change: point.change,
            survivors,
        };
        self.examine(&image, end, point.phase, truth)
    }

    fn power_cuts(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        unsynced: &Unsynced,
        selection: Selection,
        truth: &Truth,
    ) -> Result<(), Violation> {
        self.explored.coverage.hit(selection.counter());
        let others = selection.others(unsynced, self.rng);
        let mut torn = 0;
        for survivors in selection.enumerated(unsynced).chain(others) {
            torn += u64::from(survivors.are_torn());
            self.cut(point, snapshot, survivors, truth)?;
        }
        let coverage = &mut self.explored.coverage;
        coverage.add("crash_torn", torn);
        if unsynced.can_tear() {
            coverage.hit("crash_point_that_can_tear");
        }
        if torn > 0 {
            coverage.hit("crash_point_torn");
        }
        Ok(())
    }

    fn is_cut_off(&mut self) -> bool {
        self.explored.cut_off = self.explored.cut_off || self.watch.cuts_off();
        self.explored.cut_off
    }

    fn look_at(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        truth: &Truth,
    ) -> Result<Option<SimHost>, Violation> {
        if self.is_cut_off() {
            return Ok(Some(snapshot.after_kill()));
        }
        self.explored.coverage.hit(match point.phase {
            _ if self.recovering && point.phase == Phase::Recovery => "crash_in_recovery",
            Phase::Recovery | Phase::Closing => "crash_while_idle",
            Phase::Request => "crash_in_request",
            Phase::Publication => "crash_in_publication",
            Phase::Resize => "crash_in_resize",
            Phase::Tool => "crash_in_image_tool",
        });
        let killed = |pages| End::Kill {
            position: point.position,
            change: point.change,
            pages,
        };
        let sectors = truth.sizes.iter().copied().max().unwrap_or(0);
        let unsynced = snapshot.unsynced();
        let mut operations = unsynced.files.iter().flat_map(|file| &file.operations);
        if operations.any(|operation| operation.kind == OperationKind::CloneRange) {
            self.explored.coverage.hit("crash_with_shared_extents");
        }
        let selection = Selection::of(&unsynced, self.thrift.images(sectors), self.thorough);
        let borders = snapshot.pages_in_flight();
        let images = selection.images() + u64::from(borders > 0);
        if self.thrift.takes(images, sectors, self.rng) {
            self.explored.coverage.hit("crash_kill");
            let image = snapshot.after_kill();
            self.examine(&image, killed(0), point.phase, truth)?;
            self.killed_took = image.operations();
            if borders > 0 {
                let pages = 1 + below(self.rng, borders);
                self.explored.coverage.hit("crash_kill_in_a_write");
                let image = after_kill(snapshot, pages);
                self.examine(&image, killed(pages), point.phase, truth)?;
            }
            if self.case.driver != DriverName::Linux26 || !unsynced.files.is_empty() {
                self.power_cuts(point, snapshot, &unsynced, selection, truth)?;
            }
        } else {
            self.explored.coverage.hit("crash_point_too_dear");
        }
        let Some(death) = &mut self.death else {
            return Ok(None);
        };
        // In the middle of a resize sooner, and much sooner where data is being moved: only after
        // that a recovery has something to finish.
        let percent = match point.phase {
            Phase::Resize if is_marked(snapshot) => MARKED_PERCENT,
            Phase::Resize if death.early != LATE => 12,
            _ => 0,
        };
        if percent > 0 && chance(self.rng, percent) {
            death.early = 0;
        }
        if !death.comes_here(self.rng) {
            return Ok(None);
        }
        // Only a kill leaves what a failed sync has given up in the page cache.
        let kills = match self.case.assumptions.restart_after_failed_sync {
            true => 30,
            false => 80,
        };
        let (end, image) = match chance(self.rng, kills) {
            true => {
                let pages = below(self.rng, borders + 1);
                (killed(pages), after_kill(snapshot, pages))
            }
            false => {
                let survivors = draw(&unsynced, self.rng);
                let image = after_power_cut(snapshot, &survivors);
                let end = End::PowerCut {
                    position: point.position,
                    change: point.change,
                    survivors,
                };
                (end, image)
            }
        };
        self.end = Some(end);
        Ok(death.is_now().then_some(image))
    }
}

/// The host after a kill, before the next change or at a page border within it that there is.
///
/// # Panics
/// If there is no such border: whoever chose it is wrong.
fn after_kill(snapshot: &SimHost, pages: u64) -> SimHost {
    let image = match pages {
        0 => Some(snapshot.after_kill()),
        pages => snapshot.after_kill_in_write(pages),
    };
    image.expect("the page border is chosen of those that the write has")
}

/// The host after a power cut with survivors that were chosen from what it has unsynced.
///
/// # Panics
/// If they do not fit: whoever chose them is wrong.
fn after_power_cut(snapshot: &SimHost, survivors: &Survivors) -> SimHost {
    match snapshot.after_power_cut(survivors) {
        Ok(image) => image,
        Err(error) => panic!("survivors chosen of a host do not fit it: {error}"),
    }
}

impl Observer for Explorer<'_> {
    fn look(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        truth: &Truth,
    ) -> Result<Option<SimHost>, Violation> {
        self.watch.enter(Part::Build);
        let looked = self.look_at(point, snapshot, truth);
        self.watch.enter(Part::Run);
        looked
    }
}

/// How a case is searched.
#[derive(Debug)]
pub struct Search<'a> {
    /// What is drawn depends on it.
    pub seed: u64,
    /// What is looked for, if not everything.
    pub wanted: Option<&'a Cause>,
    /// What it may cost.
    pub thrift: Thrift,
}

impl Search<'_> {
    /// For anything that is wrong.
    pub fn for_anything(seed: u64) -> Search<'static> {
        Search {
            seed,
            wanted: None,
            thrift: Thrift::new(false),
        }
    }

    /// Runs a case as it says up to its last life, and looks at the crash points of that. The
    /// case with the end that shows what is wrong, if something is.
    ///
    /// # Errors
    /// If a life before the last has an end that does not fit.
    pub fn of(self, case: &Case) -> Result<Option<(Case, Violation)>, DoesNotFit> {
        self.of_watched(case, &mut Unwatched)
    }

    /// [`Search::of`] while a watcher looks on, who may cut it off: nothing is found then.
    ///
    /// # Errors
    /// If a life before the last has an end that does not fit.
    pub(super) fn of_watched(
        mut self,
        case: &Case,
        watch: &mut dyn Watch,
    ) -> Result<Option<(Case, Violation)>, DoesNotFit> {
        let Some((last, before)) = case.lives.split_last() else {
            return Ok(None);
        };
        let mut world = World::new(case);
        for (number, life) in before.iter().enumerate() {
            match live_exactly(&mut world, number, life) {
                Ok(_) => {}
                Err(NotRight::Violated(violation)) => return Ok(self.found(case, violation)),
                Err(NotRight::DoesNotFit(error)) => return Err(error),
            }
        }
        let mut explorer = Explorer {
            case,
            rng: &mut stream(self.seed, "search"),
            explored: &mut Explored::default(),
            thorough: false,
            thrift: &mut self.thrift,
            death: None,
            end: None,
            wanted: self.wanted,
            recovering: !before.is_empty(),
            killed_took: 0,
            scratch: &mut Scratch::default(),
            watch,
        };
        let lived = world.live(last, &mut explorer);
        let mut case = case.clone();
        if let (Some(end), Some(last)) = (explorer.end, case.lives.last_mut()) {
            last.end = end;
        }
        Ok(lived
            .err()
            .and_then(|violation| self.found(&case, violation)))
    }

    /// Relives the lives of a case that were recorded, mended as is said, and looks at their crash
    /// points. What that came to; in it the case up to the life that shows what is wrong, with the
    /// end that does.
    ///
    /// # Errors
    /// If the recording is not of the case.
    pub fn of_recorded(
        mut self,
        case: &Case,
        recordings: &[Recording],
        mending: Mending,
    ) -> Result<Explored, NotRelived> {
        let mut explored = Explored::default();
        let mut world = World::new(case);
        let rng = &mut stream(self.seed, "search");
        let scratch = &mut Scratch::default();
        for (number, (life, recording)) in case.lives.iter().zip(recordings).enumerate() {
            let mut explorer = Explorer {
                case,
                rng: &mut *rng,
                explored: &mut explored,
                thorough: false,
                thrift: &mut self.thrift,
                death: None,
                end: None,
                wanted: self.wanted,
                recovering: number > 0,
                killed_took: 0,
                scratch: &mut *scratch,
                watch: &mut Unwatched,
            };
            let lived = world.relive(number, life, recording, mending, &mut explorer)?;
            let end = explorer.end;
            explored.host_operations += world.host.operations();
            if let Err(violation) = lived {
                let mut case = case.clone();
                case.lives.truncate(number + 1);
                if let Some(life) = case.lives.last_mut() {
                    life.end = end.unwrap_or(End::Close);
                }
                let found = self.found(&case, violation);
                explored.finding = found.map(|(case, violation)| (Box::new(case), violation));
                break;
            }
        }
        Ok(explored)
    }

    fn found(&self, case: &Case, violation: Violation) -> Option<(Case, Violation)> {
        let is_wanted = self.wanted.is_none_or(|cause| violation.cause() == *cause);
        is_wanted.then(|| (case.clone(), violation))
    }
}
