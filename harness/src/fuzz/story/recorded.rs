//! The story of lives that were recorded.

use crate::sim::{LoggedCall, SimHost};

use super::super::case::{Case, End, Life};
use super::super::exactly::{DoesNotFit, NotRight, check_left, relive_exactly};
use super::super::recorded::{Ending, Recording};
use super::super::violation::Violation;
use super::super::world::{LifeEnd, Mending, NotRelived, World};
use super::origin::{Origin, Scene};
use super::{Event, PlannedFault, Told, arranged, found, host_event, host_operations};
use super::{introduce_image, tell_end, tell_life};

/// Why the story of recorded lives is not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTold {
    /// The recording is not of the case.
    #[error("recording.{0}")]
    NotRelived(#[from] NotRelived),
    /// The crash is not one of it.
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
}

/// Relives the lives of a case as they were recorded and tells what happens.
///
/// # Errors
/// If case, recordings and crash do not go together.
pub fn tell_recorded(
    case: &Case,
    recordings: &[Recording],
    mending: Mending,
) -> Result<Told, NotTold> {
    let kernel = recordings.first().map(|first| first.kernel.clone());
    let mut events = vec![Event::Given("kernel", kernel.unwrap_or_default())];
    introduce_image(case, &mut events);
    events.extend(mended(mending));
    let mut telling = Telling {
        world: World::new(case),
        events,
        violation: None,
        scene: None,
    };
    let mut left = None;
    for (number, (life, recording)) in case.lives.iter().zip(recordings).enumerate() {
        left = telling.live(number, life, recording, mending)?;
        if telling.violation.is_some() {
            break;
        }
    }
    let mut is_left = false;
    if let (None, Some(image)) = (&telling.violation, left) {
        image.record();
        telling.violation = check_left(&telling.world, &image).err();
        telling.scene = Some((image.clone(), image.take_log()));
        is_left = telling.violation.is_some();
    }
    let Telling {
        mut events,
        violation,
        scene,
        ..
    } = telling;
    let what = "what is left is opened and read as a whole, by the model without defects";
    events.extend(is_left.then_some(Event::Remark(what)));
    for recording in recordings {
        events.extend(last_words(&recording.ending));
    }
    let explained = violation.as_ref().zip(scene.as_ref());
    let explained = explained.map(|(violation, (host, log)): (_, &(_, Vec<LoggedCall>))| {
        let scene = Scene {
            host,
            log,
            raw: case.image.raw,
        };
        let strip = violation.sector.and_then(|_| scene.strip(violation));
        (scene.explain(violation), strip)
    });
    let (mut origin, strip) = explained.unwrap_or((Origin::default(), None));
    // In a life it has been told.
    events.extend(origin.read.take().filter(|_| is_left).map(host_event));
    events.push(found(violation.as_ref(), origin.told));
    Ok(Told {
        events,
        violation,
        strip,
    })
}

/// Tells what the first life of a case begins with.
pub(crate) fn tell_beginning(case: &Case, events: &mut Vec<Event>) {
    introduce_image(case, events);
    if let Some(life) = case.lives.first() {
        tell_life_begins(0, life, events);
    }
}

fn tell_life_begins(number: usize, life: &Life, events: &mut Vec<Event>) {
    events.push(Event::Life(number + 1));
    events.extend(arranged::backing(life.backing).map(Event::Arranged));
    let faults = life.faults.iter();
    let faults = faults.map(|fault| format!("planned fault: {}", PlannedFault(fault)));
    events.extend(faults.map(Event::Arranged));
}

/// A story under way.
struct Telling<'a> {
    world: World<'a>,
    events: Vec<Event>,
    violation: Option<Violation>,
    /// Where it was seen, and what was asked of that host.
    scene: Option<(SimHost, Vec<LoggedCall>)>,
}

impl Telling<'_> {
    /// Tells a life; what it leaves, unless something is wrong in it.
    fn live(
        &mut self,
        number: usize,
        life: &Life,
        recording: &Recording,
        mending: Mending,
    ) -> Result<Option<SimHost>, NotTold> {
        let (world, events) = (&mut self.world, &mut self.events);
        tell_life_begins(number, life, events);
        world.story = Some(Vec::new());
        let unit = world.case().assumptions.unit();
        let is_last = number + 1 == world.case().lives.len();
        let end = match is_last {
            true => life.end.clone(),
            false => End::Close,
        };
        let lived = relive_exactly(world, number, life, recording, mending)?;
        let lines = world.story.take().unwrap_or_default();
        let log = host_operations(&lines);
        tell_life(lines, &end, events);
        match lived {
            Ok(lived) => {
                if let Some(stake) = &lived.stake {
                    tell_end(&end, stake, unit, events);
                }
                Ok(Some(match lived.end {
                    LifeEnd::Crashed(image) => {
                        let was_killed = lived.stake.is_none();
                        let killed = was_killed.then_some(Event::Crash("the kernel is killed"));
                        events.extend(killed);
                        image
                    }
                    LifeEnd::Closed | LifeEnd::NotOpened => world.host.after_kill(),
                }))
            }
            Err(NotRight::Violated(found)) => {
                self.violation = Some(found);
                self.scene = Some((world.host.clone(), log));
                Ok(None)
            }
            Err(NotRight::DoesNotFit(error)) => Err(error.into()),
        }
    }
}

/// The end of what a kernel has said that did not come to the end of its life.
fn last_words(ending: &Ending) -> Vec<Event> {
    let console = match ending {
        Ending::Whole | Ending::Killed => return Vec::new(),
        Ending::Died(console) | Ending::Hung(console) | Ending::Endless(console) => console,
        Ending::Astray { console, .. } => console,
    };
    let last = console.lines().rev().take(LAST_LINES).collect::<Vec<_>>();
    let lines = last.into_iter().rev();
    lines
        .map(|line| Event::Arranged(format!("console: {line}")))
        .collect()
}

/// What a recording is mended of.
fn mended(mending: Mending) -> impl Iterator<Item = Event> {
    let all = [
        (
            mending.flushes,
            "the COW file is synced before a flush is acknowledged",
        ),
        (
            mending.order,
            "the COW file is synced before a word of the bitmap is written",
        ),
        (
            mending.offsets,
            "reads are not compared that have sectors of both files before their last segment",
        ),
        (
            mending.memory,
            "what is written past the end of the bitmap is zeros",
        ),
    ];
    let mended = all.into_iter().filter(|(is_mended, _)| *is_mended);
    mended.map(|(_, what)| Event::Given("mended", what.to_owned()))
}

/// Lines of a console that are told.
const LAST_LINES: usize = 12;
