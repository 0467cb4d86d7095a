//! One case with all its crashes: at every change of the host the process is killed and the
//! power cut, in every way if there are few, in some if there are many; what is left is
//! looked at, and some of it lives on, to crash again in the middle of its recovery.

use crate::sim::{SimHost, SurvivalWeights, Survivors, Tearing, Unsynced};

use super::case::{Case, DriverName, End};
use super::check::{Scratch, check_image};
use super::coverage::Coverage;
use super::generate::{Subject, another_life};
use super::parts::{Part, Unwatched, Watch};
use super::streams::{Stream, below, chance, stream};
use super::violation::Violation;
use super::world::{LifeEnd, Observer, Phase, Point, Truth, World};

/// A case has at most so many lives.
const LIVES: usize = 3;

/// A crash point with at most so many images has them all looked at, in every case.
const FEW: u64 = 24;

/// In thorough cases, at most so many: every subset of twelve operations, and each of those
/// with one of them torn.
const MANY: u64 = 1 << 16;

/// Images drawn at a crash point that has more than that.
const DRAWN: u64 = 10;

/// What looking at a case came to.
#[derive(Clone, Debug, Default)]
pub struct Explored {
    /// Operations of the host.
    pub host_operations: u64,
    /// Crash images that were built, recovered and compared.
    pub crash_images: u64,
    /// What came up.
    pub coverage: Coverage,
    /// What is wrong, and the case that shows it.
    pub finding: Option<(Box<Case>, Violation)>,
}

/// Runs `case` and its crashes. Everything drawn depends on `seed`.
pub fn explore(case: &Case, seed: u64, subject: &Subject) -> Explored {
    explore_watched(case, seed, subject, &mut Unwatched)
}

/// The same, while somebody watches; it makes no difference to what comes of it.
pub fn explore_watched(
    case: &Case,
    seed: u64,
    subject: &Subject,
    watch: &mut dyn Watch,
) -> Explored {
    watch.enter(Part::Run);
    let mut explored = Explored::default();
    let mut rng = stream(seed, "crashes");
    // One in sixteen small cases is looked at whole.
    let thorough = case.lives[0].actions.len() < 12 && chance(&mut rng, 6);
    // An image that is built costs its recovery; most of a case's lives are its first.
    let mut lives = case.clone();
    let mut world = World::new(case);
    let mut scratch = Scratch::default();
    for number in 0..LIVES {
        let last = number + 1 == LIVES || !chance(&mut rng, 50);
        let mut explorer = Explorer {
            case: &lives,
            rng: &mut rng,
            explored: &mut explored,
            thorough: thorough && number == 0,
            // Die somewhere in the first hundred changes, if there is a life after this.
            die_in: (!last).then_some(0),
            end: None,
            recovering: number > 0,
            scratch: &mut scratch,
            watch,
        };
        if let Some(die_in) = &mut explorer.die_in {
            *die_in = below(explorer.rng, 60);
        }
        let life = lives.lives[number].clone();
        let lived = world.live(&life, &mut explorer);
        let end = explorer.end.take();
        explored.host_operations += world.host.operations();
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
            // A device that has to be refused has nothing to live on for.
            (Ok(LifeEnd::Crashed(_)), Some(end))
                if !last && world.truth.opening.must_refuse.is_none() =>
            {
                lives.lives[number].end = end;
                let sectors = world.truth.sizes.first().copied().unwrap_or(1);
                let life = another_life(seed, number + 1, sectors, subject);
                lives.lives.push(life);
            }
            _ => break,
        }
    }
    explored.coverage.merge(&world.coverage);
    explored
}

struct Explorer<'a> {
    case: &'a Case,
    rng: &'a mut Stream,
    explored: &'a mut Explored,
    thorough: bool,
    /// After how many more changes this life ends in a crash.
    die_in: Option<u64>,
    /// How it ended, or which end shows what was found.
    end: Option<End>,
    recovering: bool,
    scratch: &'a mut Scratch,
    watch: &'a mut dyn Watch,
}

impl Explorer<'_> {
    fn examine(&mut self, image: &SimHost, end: End, truth: &Truth) -> Result<(), Violation> {
        self.explored.crash_images += 1;
        let (when, scratch) = ("after a crash", &mut *self.scratch);
        let checked = check_image(image, self.case, truth, when, scratch, self.watch);
        self.watch.enter(Part::Build);
        self.explored.host_operations += image.operations();
        if checked.is_err() {
            self.end = Some(end);
        }
        checked
    }

    fn cut(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        survivors: Survivors,
        truth: &Truth,
    ) -> Result<(), Violation> {
        let Ok(image) = snapshot.after_power_cut(&survivors) else {
            return Ok(());
        };
        let torn = survivors
            .files
            .values()
            .flatten()
            .any(|survival| matches!(survival, crate::sim::Survival::Torn(_)));
        self.explored.coverage.hit("crash_power_cut");
        if torn {
            self.explored.coverage.hit("crash_torn");
        }
        let end = End::PowerCut {
            position: point.position,
            change: point.change,
            survivors,
        };
        self.examine(&image, end, truth)
    }

    fn power_cuts(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        truth: &Truth,
    ) -> Result<(), Violation> {
        let unsynced = snapshot.unsynced();
        let whole = if self.thorough { MANY } else { FEW };
        let tearing = [Tearing::One, Tearing::None].into_iter().find(|&tearing| {
            let count = unsynced.subset_count(tearing);
            count.is_ok_and(|count| count <= whole)
        });
        let subsets = tearing.and_then(|tearing| unsynced.subsets(tearing).ok());
        match subsets {
            Some(subsets) => {
                if self.thorough {
                    self.explored.coverage.hit("crash_enumerated_whole");
                }
                for survivors in subsets {
                    self.cut(point, snapshot, survivors, truth)?;
                }
                Ok(())
            }
            None => {
                self.cut(point, snapshot, Survivors::default(), truth)?;
                self.cut(point, snapshot, unsynced.everything(), truth)?;
                for _ in 0..DRAWN {
                    let survivors = self.draw(&unsynced);
                    self.cut(point, snapshot, survivors, truth)?;
                }
                Ok(())
            }
        }
    }

    fn draw(&mut self, unsynced: &Unsynced) -> Survivors {
        let weights = SurvivalWeights::draw(self.rng);
        unsynced.sample(weights, self.rng)
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

impl Explorer<'_> {
    fn look_at(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        truth: &Truth,
    ) -> Result<Option<SimHost>, Violation> {
        self.explored.coverage.hit(match point.phase {
            _ if self.recovering && point.phase == Phase::Recovery => "crash_in_recovery",
            Phase::Recovery | Phase::Closing => "crash_while_idle",
            Phase::Request => "crash_in_request",
            Phase::Publication => "crash_in_publication",
            Phase::Resize => "crash_in_resize",
        });
        self.explored.coverage.hit("crash_kill");
        let killed = End::Kill {
            position: point.position,
            change: point.change,
        };
        self.examine(&snapshot.after_kill(), killed.clone(), truth)?;
        if self.case.driver != DriverName::Linux26 || !snapshot.unsynced().files.is_empty() {
            self.power_cuts(point, snapshot, truth)?;
        }
        match &mut self.die_in {
            Some(0) => {
                if chance(self.rng, 30) {
                    self.end = Some(killed);
                    return Ok(Some(snapshot.after_kill()));
                }
                let survivors = self.draw(&snapshot.unsynced());
                let image = snapshot.after_power_cut(&survivors).ok();
                self.end = Some(End::PowerCut {
                    position: point.position,
                    change: point.change,
                    survivors,
                });
                Ok(image)
            }
            Some(more) => {
                *more -= 1;
                Ok(None)
            }
            None => Ok(None),
        }
    }
}

/// Runs a case as it says up to its last life, and looks at every crash point of that: the
/// case with the end that shows a violation, if one does.
pub fn search(case: &Case, seed: u64) -> Option<(Case, Violation)> {
    let (last, before) = case.lives.split_last()?;
    let mut world = World::new(case);
    for life in before {
        world.live(life, &mut Exactly { end: &life.end }).ok()?;
    }
    let mut explorer = Explorer {
        case,
        rng: &mut stream(seed, "search"),
        explored: &mut Explored::default(),
        thorough: false,
        die_in: None,
        end: None,
        recovering: !before.is_empty(),
        scratch: &mut Scratch::default(),
        watch: &mut Unwatched,
    };
    let violation = world.live(last, &mut explorer).err()?;
    let mut found = case.clone();
    if let (Some(end), Some(last)) = (explorer.end, found.lives.last_mut()) {
        last.end = end;
    }
    Some((found, violation))
}

/// Runs a case exactly as it says, crashes and all, and looks at what is left at the end.
/// The last life's end is looked at too.
///
/// # Errors
/// The violation.
pub fn run_exactly(case: &Case) -> Result<(), Violation> {
    let mut world = World::new(case);
    for life in &case.lives {
        let mut exactly = Exactly { end: &life.end };
        world.live(life, &mut exactly)?;
    }
    let image = world.host.after_kill();
    let scratch = &mut Scratch::default();
    let truth = &world.truth;
    check_image(
        &image,
        case,
        truth,
        "after a crash",
        scratch,
        &mut Unwatched,
    )
}

/// Crashes where the case says, and looks at nothing.
pub struct Exactly<'a> {
    /// Where.
    pub end: &'a End,
}

impl Observer for Exactly<'_> {
    fn look(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        _: &Truth,
    ) -> Result<Option<SimHost>, Violation> {
        let here = |position: &usize, change: &usize| {
            (*position, *change) == (point.position, point.change)
        };
        Ok(match self.end {
            End::Kill { position, change } if here(position, change) => Some(snapshot.after_kill()),
            End::PowerCut {
                position,
                change,
                survivors,
            } if here(position, change) => snapshot.after_power_cut(survivors).ok(),
            _ => None,
        })
    }
}
