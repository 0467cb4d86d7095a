//! Running a case exactly as it says, crashes and all. A case that cannot happen as it says is
//! refused: if its crash never came, it would be another case, and most often show nothing wrong.

use crate::sim::{BadSurvivors, SimHost, Survivors, Unsynced};

use super::case::{Case, End, Life};
use super::check::check_image;
use super::parts::Unwatched;
use super::recorded::Recording;
use super::scratch::Scratch;
use super::truth::Truth;
use super::violation::Violation;
use super::world::{LifeEnd, Mending, NotRelived, Observer, Point, World};

/// A case that cannot be run as it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoesNotFit {
    /// The crash is planned for a moment that does not come.
    #[error(
        "lives[{life}].end: found a crash before change {change} of position {position}, expected \
         {}: the case was edited, or another version of ubdlab has found it",
        match (.came_up, .changes) {
            (false, _) => "none, for the device did not come up".into(),
            (true, 0) => "none there, for nothing is changed at that position".into(),
            (true, changes) => format!("one before changes 0 to {} of it", changes - 1),
        }
    )]
    NoSuchChange {
        /// Of which life, counted from 0.
        life: usize,
        /// At which position.
        position: usize,
        /// Before which change of it.
        change: usize,
        /// How many crash points there are at that position.
        changes: usize,
        /// Whether the life got past opening.
        came_up: bool,
    },
    /// A kill is planned for the middle of a write that does not come, or is shorter.
    #[error(
        "lives[{life}].end.kill.pages: found {found}, expected at most {most} there: the case was \
         edited, or another version of ubdlab has found it"
    )]
    Pages {
        /// Of which life, counted from 0.
        life: usize,
        /// The page border given.
        found: u64,
        /// How many of them lie within the write.
        most: u64,
    },
    /// The survivors are those of another host.
    #[error(
        "lives[{life}].end.power-cut.survivors: {error}: the case was edited, or another version \
         of ubdlab has found it"
    )]
    Survivors {
        /// Of which life, counted from 0.
        life: usize,
        /// Why they do not fit.
        error: BadSurvivors,
    },
}

/// Why a case that was run exactly is not all right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotRight {
    /// Something is wrong.
    Violated(Violation),
    /// It cannot be run as it says.
    DoesNotFit(DoesNotFit),
}

impl From<Violation> for NotRight {
    fn from(violation: Violation) -> NotRight {
        NotRight::Violated(violation)
    }
}

impl From<DoesNotFit> for NotRight {
    fn from(error: DoesNotFit) -> NotRight {
        NotRight::DoesNotFit(error)
    }
}

/// How a life that was lived exactly came out.
#[derive(Debug)]
pub struct Lived {
    /// How it ended.
    pub end: LifeEnd,
    /// What was at stake where it crashed.
    pub stake: Option<Unsynced>,
}

/// Lives the life with this number, counted from 0, and crashes it where it says.
///
/// # Errors
/// The violation that was seen first, or a crash that does not fit.
pub fn live_exactly(world: &mut World<'_>, number: usize, life: &Life) -> Result<Lived, NotRight> {
    let mut exactly = Exactly {
        end: &life.end,
        changes: 0,
        stake: None,
        refused: None,
    };
    let end = world.live(life, &mut exactly)?;
    exactly.fits(number, &end)?;
    Ok(Lived {
        end,
        stake: exactly.stake,
    })
}

/// Relives the life with this number, counted from 0, as it was recorded. The last one of the case
/// crashes where it says. Another one has ended where it was recorded to.
///
/// # Errors
/// The violation that was seen first, or a crash that does not fit.
pub fn relive_exactly(
    world: &mut World<'_>,
    number: usize,
    life: &Life,
    recording: &Recording,
    mending: Mending,
) -> Result<Result<Lived, NotRight>, NotRelived> {
    let is_last = number + 1 == world.case().lives.len();
    let mut exactly = Exactly {
        end: match is_last {
            true => &life.end,
            false => &End::Close,
        },
        changes: 0,
        stake: None,
        refused: None,
    };
    let end = match world.relive(number, life, recording, mending, &mut exactly)? {
        Ok(end) => end,
        Err(violation) => return Ok(Err(violation.into())),
    };
    Ok(match exactly.fits(number, &end) {
        Ok(()) => Ok(Lived {
            end,
            stake: exactly.stake,
        }),
        Err(error) => Err(error.into()),
    })
}

/// Runs a case exactly as it says, and looks at what is left at the end.
///
/// # Errors
/// The violation that is seen first, or an end that does not fit.
pub fn run_exactly(case: &Case) -> Result<(), NotRight> {
    let mut world = World::new(case);
    for (number, life) in case.lives.iter().enumerate() {
        live_exactly(&mut world, number, life)?;
    }
    Ok(check_what_is_left(&world)?)
}

/// Looks at what the last life has left.
///
/// # Errors
/// What is wrong with it.
pub fn check_what_is_left(world: &World<'_>) -> Result<(), Violation> {
    check_left(world, &world.host.after_kill())
}

/// Looks at `image`, which the last life has left. It is recovered there.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_left(world: &World<'_>, image: &SimHost) -> Result<(), Violation> {
    let scratch = &mut Scratch::default();
    let phase = world.ended_in();
    check_image(
        image,
        world.case(),
        &world.truth,
        phase,
        scratch,
        &mut Unwatched,
    )
}

/// Crashes where the case says, and looks at nothing.
struct Exactly<'a> {
    end: &'a End,
    /// Crash points that have come at the position of the end.
    changes: usize,
    stake: Option<Unsynced>,
    refused: Option<Refused>,
}

/// Why a host does not crash as it should.
#[derive(Clone)]
enum Refused {
    Survivors(BadSurvivors),
    Pages { found: u64, most: u64 },
}

/// What is to be left by a crash.
enum Left<'a> {
    /// By a kill, of which the write under way has come to this page border.
    Killed { pages: u64 },
    /// By a power cut.
    Survivors(&'a Survivors),
}

impl Left<'_> {
    fn of(&self, snapshot: &SimHost) -> Result<SimHost, Refused> {
        match *self {
            Left::Killed { pages: 0 } => Ok(snapshot.after_kill()),
            Left::Killed { pages } => {
                let most = snapshot.pages_in_flight();
                let image = snapshot.after_kill_in_write(pages);
                image.ok_or(Refused::Pages { found: pages, most })
            }
            Left::Survivors(survivors) => {
                let image = snapshot.after_power_cut(survivors);
                image.map_err(Refused::Survivors)
            }
        }
    }
}

/// At which position and before which change of it a life is to crash, and what is to be left.
fn planned(end: &End) -> Option<(usize, usize, Left<'_>)> {
    match end {
        End::Close => None,
        End::Kill {
            position,
            change,
            pages,
        } => Some((*position, *change, Left::Killed { pages: *pages })),
        End::PowerCut {
            position,
            change,
            survivors,
        } => Some((*position, *change, Left::Survivors(survivors))),
    }
}

impl Exactly<'_> {
    /// Whether the life has crashed as it says.
    fn fits(&self, life: usize, end: &LifeEnd) -> Result<(), DoesNotFit> {
        match self.refused.clone() {
            Some(Refused::Survivors(error)) => return Err(DoesNotFit::Survivors { life, error }),
            Some(Refused::Pages { found, most }) => {
                return Err(DoesNotFit::Pages { life, found, most });
            }
            None => {}
        }
        match (planned(self.end), end) {
            (None, _) | (Some(_), LifeEnd::Crashed(_)) => Ok(()),
            (Some((position, change, _)), end) => Err(DoesNotFit::NoSuchChange {
                life,
                position,
                change,
                changes: self.changes,
                came_up: matches!(end, LifeEnd::Closed),
            }),
        }
    }
}

impl Observer for Exactly<'_> {
    fn look(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        _: &Truth,
    ) -> Result<Option<SimHost>, Violation> {
        let (end, here) = (self.end, point.position);
        let Some((_, change, left)) = planned(end).filter(|(at, ..)| *at == here) else {
            return Ok(None);
        };
        self.changes += 1;
        if change != point.change {
            return Ok(None);
        }
        let image = left.of(snapshot).unwrap_or_else(|refused| {
            // Whoever lives the life learns of it when it is over, which is now.
            self.refused = Some(refused);
            snapshot.after_kill()
        });
        self.stake = Some(snapshot.unsynced());
        Ok(Some(image))
    }
}
