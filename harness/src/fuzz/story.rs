//! The story of a case, for a kernel developer who does not know this program: the requests,
//! what the host was asked for, where the crash fell, what survived it, and the sector that is
//! wrong.

use std::fmt::Write;

use crate::sim::{LoggedOperation, SimHost, Survival, Survivors, Unsynced};

use super::case::{BackingFile, Case, DriverName, End};
use super::check::{Scratch, check_image};
use super::explore::Exactly;
use super::violation::Violation;
use super::world::{LifeEnd, Line, Observer, Point, Truth, World};

/// A case that was run once more, and what there is to tell of it.
#[derive(Clone, Debug)]
pub struct Told {
    /// The story, in lines.
    pub text: String,
    /// What is wrong, if anything still is.
    pub violation: Option<Violation>,
}

/// Runs `case` exactly as it says and tells what happens.
pub fn tell(case: &Case) -> Told {
    let mut text = String::new();
    introduce(case, &mut text);
    let mut world = World::new(case);
    let mut violation = None;
    for (number, life) in case.lives.iter().enumerate() {
        let _ = writeln!(text, "\nlife {}", number + 1);
        match life.backing {
            BackingFile::AsItWas => {}
            other => {
                let _ = writeln!(text, "  the backing file: {other:?}");
            }
        }
        for fault in &life.faults {
            let _ = writeln!(text, "  planned fault: {fault:?}");
        }
        world.story = Some(Vec::new());
        let mut witness = Witness {
            exactly: Exactly { end: &life.end },
            stake: None,
        };
        let lived = world.live(life, &mut witness);
        let lines = world.story.take().unwrap_or_default();
        tell_life(&lines, &life.end, &mut text);
        if let Some(stake) = &witness.stake {
            tell_end(&life.end, stake, &mut text);
        }
        match lived {
            Ok(LifeEnd::Closed) => {
                let _ = writeln!(text, "  the device was closed");
            }
            Ok(LifeEnd::Crashed(_)) => {}
            Err(found) => {
                violation = Some(found);
                break;
            }
        }
    }
    if violation.is_none() {
        let image = world.host.after_kill();
        let scratch = &mut Scratch::default();
        violation = check_image(&image, case, &world.truth, "after a crash", scratch).err();
    }
    match &violation {
        Some(violation) => {
            let _ = writeln!(text, "\nfound      {}", violation.kind.name());
            if let Some(sector) = violation.sector {
                let _ = writeln!(text, "sector     {sector}");
            }
            let _ = writeln!(text, "when       {}", violation.when);
            let _ = writeln!(text, "what       {}", violation.what);
        }
        None => {
            let _ = writeln!(text, "\nnothing is wrong");
        }
    }
    Told { text, violation }
}

fn introduce(case: &Case, text: &mut String) {
    let image = &case.image;
    let _ = writeln!(text, "driver     {}", case.driver.name());
    if case.retries {
        let _ = writeln!(text, "guest      submits once more what failed");
    }
    if case.driver != DriverName::Ordered {
        let _ = writeln!(
            text,
            "set up     {}, {} requests fit into the pipe",
            match case.kernel.cow_alone {
                true => "the COW file alone named",
                false => "both files named",
            },
            case.kernel.pipe_capacity
        );
    }
    if !case.defects.is_empty() {
        let _ = writeln!(text, "defects    {}", case.defects.join(", "));
    }
    let _ = writeln!(
        text,
        "image      {} sectors, {:?}, alignment {}, {}",
        image.sectors,
        image.version,
        image.alignment,
        match image.extension {
            true => "made by ubdlab",
            false => "made by a stock tool",
        }
    );
    if image.missing {
        let _ = writeln!(text, "           there is none: opening creates it");
    }
    if let Some(kept) = image.bitmap_cut {
        let _ = writeln!(text, "           cut behind {kept} bytes of its bitmap");
    }
    if let Some(patch) = image.patched {
        let _ = writeln!(text, "           its header patched: {patch:?}");
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
    let _ = writeln!(
        text,
        "dirty      {dirty} (START+COUNT, written by request 1)"
    );
}

/// Sees what was at stake at the crash.
struct Witness<'a> {
    exactly: Exactly<'a>,
    stake: Option<Unsynced>,
}

impl Observer for Witness<'_> {
    fn look(
        &mut self,
        point: Point,
        snapshot: &SimHost,
        truth: &Truth,
    ) -> Result<Option<SimHost>, Violation> {
        let crashed = self.exactly.look(point, snapshot, truth)?;
        if crashed.is_some() {
            self.stake = Some(snapshot.unsynced());
        }
        Ok(crashed)
    }
}

fn tell_life(lines: &[Line], end: &End, text: &mut String) {
    let crash = match end {
        End::Close => None,
        End::Kill { position, change } => Some((*position, *change, "the process is killed")),
        End::PowerCut {
            position, change, ..
        } => Some((*position, *change, "the power goes")),
    };
    let (mut here, mut changes) = (0, 0);
    for line in lines {
        match line {
            Line::Action(position, what) => {
                (here, changes) = (*position, 0);
                let _ = writeln!(text, "  {position:>3}  {what}");
            }
            Line::Host(LoggedOperation { operation, result }) => {
                if operation.kind.is_change() {
                    if let Some((_, _, how)) =
                        crash.filter(|(at, before, _)| (*at, *before) == (here, changes))
                    {
                        let _ = writeln!(text, "       *** {how} here ***");
                        return;
                    }
                    changes += 1;
                }
                let result = match result {
                    Ok(value) => value.to_string(),
                    Err(error) => error.to_string(),
                };
                let _ = writeln!(text, "         host: {operation} = {result}");
            }
            Line::Request(what) => {
                let _ = writeln!(text, "       {what}");
            }
        }
    }
    if let Some((_, _, how)) = crash {
        let _ = writeln!(text, "       *** {how} here ***");
    }
}

fn tell_end(end: &End, stake: &Unsynced, text: &mut String) {
    let none = Survivors::default();
    let survivors = match end {
        End::Close => return,
        End::Kill { .. } => {
            let _ = writeln!(text, "  the page cache survives");
            return;
        }
        End::PowerCut { survivors, .. } => survivors,
    };
    let survivors = if survivors.files.is_empty() {
        &none
    } else {
        survivors
    };
    let _ = writeln!(text, "  of what was not synced");
    for file in &stake.files {
        let decisions = survivors.files.get(&file.inode);
        for (place, operation) in file.operations.iter().enumerate() {
            let decision = decisions.and_then(|decisions| decisions.get(place));
            let fate = match decision {
                None | Some(Survival::Lost) => "lost".to_string(),
                Some(Survival::Whole) => "reached the disk".to_string(),
                Some(Survival::Torn(runs)) => format!("sectors {runs:?} of it reached the disk"),
            };
            let _ = writeln!(
                text,
                "         #{} {:?} {} {}+{}: {fate}",
                operation.index,
                operation.kind,
                file.path.display(),
                operation.range.start.0,
                operation.range.len.0,
            );
        }
    }
    for directory in &stake.directories {
        let kept = survivors.names.get(&*directory.directory);
        for (place, change) in directory.changes.iter().enumerate() {
            let kept = kept.and_then(|kept| kept.get(place)) == Some(&true);
            let fate = if kept { "reached the disk" } else { "lost" };
            let _ = writeln!(text, "         {change:?}: {fate}");
        }
    }
}
