//! The story of a case, for a kernel developer who does not know this program: the requests,
//! what the host was asked for, where the crash fell, what survived it, and the sector that is
//! wrong.

mod arranged;
mod origin;
mod recorded;

use std::fmt;

use driver::{OneLine, exact_count};

use crate::sim::{LoggedCall, Survival, Survivors, Unsynced};
use crate::strip::Strip;

use super::case::{Case, DriverName, End};
use super::defect::CaseDefect;
use super::exactly::{DoesNotFit, NotRight, check_left, live_exactly};
use super::violation::Violation;
use super::world::{LifeEnd, Line, World};

pub(crate) use recorded::tell_beginning;
pub use recorded::{NotTold, tell_recorded};

use arranged::PlannedFault;
use origin::{Origin, Scene};

/// One thing that happens in a story, in the order of the telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What the case begins with: what it is about, and what there is to say of that.
    Given(&'static str, String),
    /// A life of the machine begins, counted from 1.
    Life(usize),
    /// Something that was arranged for this life.
    Arranged(String),
    /// What the guest, the I/O thread or the resize does, at which position.
    Action(usize, String),
    /// What the host is asked for by that and answers, and whether it changes anything.
    Host {
        /// The operation and its result.
        what: String,
        /// Whether it changes a file or a name.
        changes: bool,
    },
    /// What a request is called, and what came of it.
    Request(String),
    /// The process is killed, or the power goes.
    Crash(&'static str),
    /// How the life ended, or what is told next.
    Remark(&'static str),
    /// What became of an operation that was not synced.
    Fate {
        /// The operation.
        what: String,
        /// What became of it.
        fate: String,
        /// Whether nothing of it is left.
        lost: bool,
    },
    /// What is wrong, a name and a text each; none if nothing is.
    Found(Vec<(&'static str, String)>),
}

/// A case that was run once more, and what there is to tell of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// What happened. Displayed, [`Told`] is the same in lines.
    pub events: Vec<Event>,
    /// What is wrong, if anything still is.
    pub violation: Option<Violation>,
    /// The device when that was seen, with the wrong sector marked, where there is one.
    pub strip: Option<Strip>,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            // What a case says, and what a driver says in its panic, may have lines of its own.
            match event {
                Event::Given(name, text) => writeln!(f, "{name:<10} {}", OneLine(text))?,
                Event::Life(number) => writeln!(f, "\nlife {number}")?,
                Event::Arranged(text) => writeln!(f, "  {}", OneLine(text))?,
                Event::Action(at, what) => writeln!(f, "  {at:>3}  {}", OneLine(what))?,
                Event::Host { what, .. } => writeln!(f, "         host: {}", OneLine(what))?,
                Event::Request(what) => writeln!(f, "       {}", OneLine(what))?,
                Event::Crash(how) => writeln!(f, "       *** {how} here ***")?,
                Event::Remark(what) => writeln!(f, "  {what}")?,
                Event::Fate { what, fate, .. } => {
                    writeln!(f, "         {}: {fate}", OneLine(what))?;
                }
                Event::Found(what) if what.is_empty() => writeln!(f, "\nnothing is wrong")?,
                Event::Found(what) => {
                    writeln!(f)?;
                    for (name, text) in what {
                        writeln!(f, "{name:<10} {}", OneLine(text))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Runs `case` exactly as it says and tells what happens.
///
/// # Errors
/// If a life has an end that does not fit.
pub fn tell(case: &Case) -> Result<Told, DoesNotFit> {
    let mut events = Vec::new();
    introduce(case, &mut events);
    let mut world = World::new(case);
    let (mut violation, mut last_scene) = (None, None);
    for (number, life) in case.lives.iter().enumerate() {
        events.push(Event::Life(number + 1));
        events.extend(arranged::backing(life.backing).map(Event::Arranged));
        events.extend(arranged::flags(life).map(Event::Arranged));
        for fault in &life.faults {
            let what = format!("planned fault: {}", PlannedFault(fault));
            events.push(Event::Arranged(what));
        }
        for fault in &life.resize_faults {
            let fault = PlannedFault(fault);
            let what = format!("planned fault, counted from where a resize begins: {fault}");
            events.push(Event::Arranged(what));
        }
        world.story = Some(Vec::new());
        let lived = live_exactly(&mut world, number, life);
        let lines = world.story.take().unwrap_or_default();
        if let Err(NotRight::Violated(found)) = &lived {
            let log = host_operations(&lines);
            last_scene = Some((world.host.clone(), log));
            violation = Some(found.clone());
        }
        tell_life(lines, &life.end, &mut events);
        match lived {
            Ok(lived) => {
                if let Some(stake) = &lived.stake {
                    let unit = case.assumptions.unit();
                    tell_end(&life.end, stake, unit, &mut events);
                }
                match lived.end {
                    LifeEnd::Closed => events.push(Event::Remark("the device was closed")),
                    LifeEnd::NotOpened => {
                        events.push(Event::Remark("the device did not come up"));
                    }
                    LifeEnd::Crashed(_) => {}
                }
            }
            Err(NotRight::Violated(_)) => break,
            Err(NotRight::DoesNotFit(error)) => return Err(error),
        }
    }
    let mut is_left = false;
    if violation.is_none() {
        let image = world.host.after_kill();
        image.record();
        violation = check_left(&world, &image).err();
        is_left = violation.is_some();
        last_scene = Some((image.clone(), image.take_log()));
    }
    let (mut origin, mut strip) = (Origin::default(), None);
    if let (Some(violation), Some((host, log))) = (&violation, &last_scene) {
        let raw = case.image.raw;
        let scene = Scene { host, log, raw };
        origin = scene.explain(violation);
        strip = violation.sector.and_then(|_| scene.strip(violation));
    }
    if is_left {
        let what = "what is left is opened, recovered and read as a whole";
        events.push(Event::Remark(what));
        // In a life it has been told.
        events.extend(origin.read.take().map(host_event));
    }
    events.push(found(violation.as_ref(), origin.told));
    Ok(Told {
        events,
        violation,
        strip,
    })
}

/// What the host was asked for in a life.
fn host_operations(lines: &[Line]) -> Vec<LoggedCall> {
    let host = lines.iter().filter_map(|line| match line {
        Line::Host(logged) | Line::InVain(logged) => Some(logged.clone()),
        _ => None,
    });
    host.collect()
}

/// What there is to tell of a case that cannot be run once more, because it does not end.
pub fn tell_unrun(case: &Case, violation: &Violation) -> Told {
    let mut events = Vec::new();
    introduce(case, &mut events);
    events.push(Event::Remark("it is not run once more: it does not end"));
    events.push(found(Some(violation), Vec::new()));
    Told {
        events,
        violation: Some(violation.clone()),
        strip: None,
    }
}

/// What is wrong, if anything is, and where that comes from.
fn found(violation: Option<&Violation>, origin: Vec<(&'static str, String)>) -> Event {
    let mut found = Vec::new();
    if let Some(violation) = violation {
        found.push(("found", violation.kind.name().to_string()));
        if let Some(sector) = violation.sector {
            found.push(("sector", sector.to_string()));
        }
        found.push(("when", violation.when.clone()));
        found.push(("what", violation.what.clone()));
        found.extend(origin);
        found.push(("promise", violation.signature.promise.to_string()));
    }
    Event::Found(found)
}

fn introduce(case: &Case, events: &mut Vec<Event>) {
    let mut given = |name, text| events.push(Event::Given(name, text));
    given("driver", case.driver.name().to_string());
    if case.retries {
        given("guest", "submits once more what failed".into());
    }
    if case.driver != DriverName::Ordered {
        let named = match case.kernel.cow_alone {
            true => "the COW file alone named",
            false => "both files named",
        };
        let fit = match case.kernel.pipe_capacity {
            1 => "1 request fits".to_owned(),
            requests => format!("{requests} requests fit"),
        };
        given("set up", format!("{named}, {fit} into the pipe"));
    }
    if !case.defects.is_empty() {
        given("defects", CaseDefect::names(&case.defects).join(", "));
    }
    introduce_image(case, events);
}

fn introduce_image(case: &Case, events: &mut Vec<Event>) {
    let image = &case.image;
    let mut given = |name, text| events.push(Event::Given(name, text));
    let made_by = match image.extension {
        true => "made by ubdlab",
        false => "made by a stock tool",
    };
    given(
        "image",
        format!(
            "{}, {}, alignment {}, {made_by}",
            exact_count(image.sectors, "sector"),
            arranged::version(image.version),
            image.alignment,
        ),
    );
    if image.missing {
        given("", "there is none: opening creates it".into());
    }
    if let Some(kept) = image.bitmap_cut {
        given(
            "",
            format!("cut after {} of its bitmap", exact_count(kept, "byte")),
        );
    }
    if let Some(bytes) = image.data_cut {
        let words = format!("cut {bytes} bytes before its last dirty sector ends");
        given("", words);
    }
    if image.ends_with_data {
        given("", "cut after its last dirty sector".into());
    }
    if image.raw {
        given("", "a raw disk".into());
    }
    if image.partial > 0 {
        given(
            "",
            format!(
                "{} more than whole sectors",
                exact_count(image.partial, "byte")
            ),
        );
    }
    if let Some(patch) = image.patched {
        given("", arranged::patch(patch));
    }
    let dirty: Vec<String> = image
        .dirty
        .iter()
        .map(|(s, n)| format!("{s}+{n}"))
        .collect();
    let dirty = match dirty.is_empty() {
        true => "none".to_string(),
        false => dirty.join(" "),
    };
    given(
        "dirty",
        format!("{dirty} (START+COUNT, written by request 1)"),
    );
}

const KILLED_IN_A_WRITE: &str =
    "the process is killed in the middle of that write, of which the first part is done";

fn tell_life(lines: Vec<Line>, end: &End, events: &mut Vec<Event>) {
    let crash = match end {
        End::Close => None,
        End::Kill {
            position,
            change,
            pages: 0,
        } => Some((*position, *change, "the process is killed")),
        End::Kill {
            position, change, ..
        } => Some((*position, *change, KILLED_IN_A_WRITE)),
        End::PowerCut {
            position, change, ..
        } => Some((*position, *change, "the power goes")),
    };
    let (mut here, mut changes) = (0, 0);
    for line in lines {
        events.push(match line {
            Line::Action(position, what) => {
                (here, changes) = (position, 0);
                Event::Action(position, what)
            }
            Line::Host(logged) => {
                let is_change = logged.call.kind.is_change();
                if is_change {
                    if let Some((_, _, how)) =
                        crash.filter(|(at, before, _)| (*at, *before) == (here, changes))
                    {
                        if how == KILLED_IN_A_WRITE {
                            let what = format!("{} is under way", logged.call);
                            events.push(Event::Host {
                                what,
                                changes: true,
                            });
                        }
                        events.push(Event::Crash(how));
                        return;
                    }
                    changes += 1;
                }
                host_event(logged)
            }
            Line::InVain(logged) => host_event(logged),
            Line::Request(what) => Event::Request(what),
        });
    }
    if let Some((_, _, how)) = crash {
        events.push(Event::Crash(how));
    }
}

fn host_event(logged: LoggedCall) -> Event {
    let LoggedCall { call, result } = logged;
    let result = match result {
        Ok(value) => value.to_string(),
        Err(error) => error.to_string(),
    };
    Event::Host {
        what: format!("{call} = {result}"),
        changes: call.kind.is_change(),
    }
}

fn tell_end(end: &End, stake: &Unsynced, unit: u64, events: &mut Vec<Event>) {
    let none = Survivors::default();
    let survivors = match end {
        End::Close => return,
        End::Kill { .. } => {
            events.push(Event::Remark("the page cache survives"));
            return;
        }
        End::PowerCut { survivors, .. } => survivors,
    };
    let survivors = if survivors.files.is_empty() {
        &none
    } else {
        survivors
    };
    events.push(Event::Remark("of what was not synced"));
    for file in &stake.files {
        let decisions = survivors.files.get(&file.inode);
        for (place, operation) in file.operations.iter().enumerate() {
            let decision = decisions.and_then(|decisions| decisions.get(place));
            let lost = matches!(decision, None | Some(Survival::Lost));
            let fate = arranged::fate(decision, operation.range.start.0, unit);
            let what = format!(
                "#{} {} {} {}+{}",
                operation.index,
                operation.kind,
                file.path.display(),
                operation.range.start.0,
                operation.range.len.0,
            );
            events.push(Event::Fate { what, fate, lost });
        }
    }
    for directory in &stake.directories {
        let kept = survivors.names.get(&*directory.directory);
        for (place, change) in directory.changes.iter().enumerate() {
            let kept = kept.and_then(|kept| kept.get(place)) == Some(&true);
            let fate = if kept { "reached the disk" } else { "lost" };
            events.push(Event::Fate {
                what: arranged::name_change(change),
                fate: fate.to_string(),
                lost: !kept,
            });
        }
    }
}
