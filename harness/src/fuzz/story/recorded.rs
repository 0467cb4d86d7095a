//! The story of a life that was recorded.

use crate::sim::LoggedCall;

use super::super::case::Case;
use super::super::exactly::{DoesNotFit, NotRight, check_left, relive_exactly};
use super::super::recorded::{Ending, Recording};
use super::super::world::{LifeEnd, Mending, NotRelived, World};
use super::origin::{Origin, Scene};
use super::{Event, PlannedFault, Told, arranged, found, host_event, host_operations};
use super::{introduce_image, tell_end, tell_life};

/// Why the story of a recorded life is not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTold {
    /// The recording is not of the case.
    #[error("recording.{0}")]
    NotRelived(#[from] NotRelived),
    /// The crash is not one of it.
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
}

/// Relives the first life of a case as it was recorded and tells what happens.
///
/// # Errors
/// If case, recording and crash do not go together.
pub fn tell_recorded(
    case: &Case,
    recording: &Recording,
    mending: Mending,
) -> Result<Told, NotTold> {
    let mut events = vec![Event::Given("kernel", recording.kernel.clone())];
    introduce_image(case, &mut events);
    events.extend(mended(mending));
    tell_life_begins(case, &mut events);
    let mut world = World::new(case);
    let (mut violation, mut scene, mut is_left) = (None, None, false);
    if let Some(life) = case.lives.first() {
        world.story = Some(Vec::new());
        let lived = relive_exactly(&mut world, life, recording, mending)?;
        let lines = world.story.take().unwrap_or_default();
        let log = host_operations(&lines);
        tell_life(lines, &life.end, &mut events);
        let image = match lived {
            Ok(lived) => {
                if let Some(stake) = &lived.stake {
                    tell_end(&life.end, stake, case.assumptions.unit(), &mut events);
                }
                match lived.end {
                    LifeEnd::Crashed(image) => image,
                    LifeEnd::Closed | LifeEnd::NotOpened => world.host.after_kill(),
                }
            }
            Err(NotRight::Violated(found)) => {
                violation = Some(found);
                scene = Some((world.host.clone(), log));
                world.host.after_kill()
            }
            Err(NotRight::DoesNotFit(error)) => return Err(error.into()),
        };
        if violation.is_none() {
            image.record();
            violation = check_left(&world, &image).err();
            scene = Some((image.clone(), image.take_log()));
            let what = "what is left is opened and read as a whole, by the model without defects";
            is_left = violation.is_some();
            events.extend(is_left.then_some(Event::Remark(what)));
        }
    }
    if let Ending::Died(console) | Ending::Hung(console) = &recording.ending {
        let last = console.lines().rev().take(LAST_LINES).collect::<Vec<_>>();
        let lines = last.into_iter().rev();
        events.extend(lines.map(|line| Event::Arranged(format!("console: {line}"))));
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
    tell_life_begins(case, events);
}

fn tell_life_begins(case: &Case, events: &mut Vec<Event>) {
    let Some(life) = case.lives.first() else {
        return;
    };
    events.push(Event::Life(1));
    events.extend(arranged::backing(life.backing).map(Event::Arranged));
    let faults = life.faults.iter();
    let faults = faults.map(|fault| format!("planned fault: {}", PlannedFault(fault)));
    events.extend(faults.map(Event::Arranged));
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
    ];
    let mended = all.into_iter().filter(|(is_mended, _)| *is_mended);
    mended.map(|(_, what)| Event::Given("mended", what.to_owned()))
}

/// Lines of a console that are told.
const LAST_LINES: usize = 12;
