//! Rows of a crash table: the host at the moment right after a given operation, and every disk
//! that a power cut can leave then.

use std::collections::BTreeSet;

use driver::host::OperationKind;
use harness::sim::{LoggedCall, SimHost};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::explore::{Check, Context, Depth, Story, crash_images};
use super::{BACKING, CowFileState, found};

/// A row is looked at in this depth: the whole stories go further.
const ROW: Depth = Depth {
    torn: 64,
    whole: 64,
    drawn: 16,
};

/// Which operation a row is about: a kind, on a file whose name ends so, at a byte of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After {
    pub(crate) kind: OperationKind,
    pub(crate) file: &'static str,
    pub(crate) at: Option<u64>,
    /// Which of those, counted from 0; from the last one back if negative.
    pub(crate) nth: i64,
}

impl After {
    pub(crate) fn new(kind: OperationKind, file: &'static str) -> After {
        After {
            kind,
            file,
            at: None,
            nth: 0,
        }
    }

    pub(crate) fn write(at: u64) -> After {
        After {
            at: Some(at),
            ..After::new(OperationKind::Write, "cow")
        }
    }

    pub(crate) fn nth(self, nth: i64) -> After {
        After { nth, ..self }
    }

    fn is(self, logged: &LoggedCall) -> bool {
        let call = &logged.call;
        call.kind == self.kind
            && call.path.to_string_lossy().ends_with(self.file)
            && self.at.is_none_or(|at| call.range.start.0 == at)
    }
}

/// What a reader can find after a power cut right after an operation: all of it, each checked and
/// recovered from. `None` stands for no COW file.
pub(crate) fn found_after(story: &Story<'_>, after: After) -> BTreeSet<Option<CowFileState>> {
    let (host, check) = stop_after(story, after);
    let backing = story.before.host.content(BACKING).unwrap();
    let check = Check {
        model: &check.0,
        sizes: &check.1,
        rolled_forward: story.new_sectors,
        backing: &backing,
    };
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut all = BTreeSet::new();
    for (number, (survivors, image)) in crash_images(&host, ROW, &mut rng).into_iter().enumerate() {
        let _what = Context(survivors);
        check.image(&image);
        if number % 32 == 0 {
            check.next_resize(&image);
        }
        all.insert(found(&image));
    }
    all
}

type Expected = (super::model::Model, Vec<u64>);

/// The host right after the operation.
pub(crate) fn stop_after(story: &Story<'_>, after: After) -> (SimHost, Expected) {
    let world = story.before.restarted();
    world.host.record();
    let told = story.tell(world);
    let log = told.world.host.take_log();
    let changes = log.iter().filter(|logged| logged.call.kind.is_change());
    let matching: Vec<u64> = (changes.enumerate())
        .filter(|(_, logged)| after.is(logged))
        .map(|(change, _)| change as u64)
        .collect();
    let nth = match after.nth {
        nth if nth < 0 => matching.len() as i64 + nth,
        nth => nth,
    };
    let Some(&change) = matching.get(nth as usize) else {
        let log: Vec<String> = log.iter().map(LoggedCall::to_string).collect();
        panic!("no {after:?} in\n{}", log.join("\n"));
    };
    let world = story.before.restarted();
    world.host.crash_before_change(change + 1);
    let told = story.tell(world);
    (told.world.host, (told.world.model, told.sizes))
}
