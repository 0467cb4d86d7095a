//! A finding's case, tried once more on the kernel, as often as somebody wants.

use std::path::Path;

use crate::fuzz::campaign::StopSign;

use super::CannotFuzz;
use super::finding::FindingFile;
use super::laboratory::{Laboratory, Programs};
use super::thread;
use super::wanted::Wanted;

/// What trying came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// The kernel, in its own words.
    pub kernel: String,
    /// How often it was tried.
    pub tries: u64,
    /// How often the finding has shown.
    pub shown: u64,
}

/// Has the kernel live the case of a finding up to `tries` times. `progress` is told how often it
/// was tried. What that came to, and what has kept the kernel from more of it.
pub fn try_again(
    file: &FindingFile,
    tries: u64,
    (directory, programs): (&Path, &Programs),
    stop: &StopSign,
    progress: &(dyn Fn(u64) + Sync),
) -> (Tried, Result<(), CannotFuzz>) {
    let longest = file.recordings.first().map_or(1, |first| first.longest);
    let all = |tried: &mut Tried| {
        let wanted = Wanted::of_file(file).map_err(CannotFuzz::NoFinding)?;
        let mut laboratory = Laboratory::open(directory, programs, StopSign::clone(stop))?;
        while tried.tries < tries && !stop() {
            let recordings = match laboratory.live_all(&file.case, longest) {
                Ok(recordings) => recordings,
                Err(CannotFuzz::Stopped) => break,
                Err(error) => return Err(error),
            };
            let mut case = file.case.clone();
            case.lives.truncate(recordings.len());
            let found = wanted.search(&case, &recordings);
            let found = found.map_err(|error| CannotFuzz::Recording { seed: 0, error })?;
            if let Some(recording) = recordings.last() {
                tried.kernel.clone_from(&recording.kernel);
            }
            tried.tries += 1;
            tried.shown += u64::from(found.is_some());
            progress(tried.tries);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let work = || {
            let mut tried = Tried::default();
            let ended = all(&mut tried);
            (tried, ended)
        };
        match thread::start(scope, work) {
            Ok(trying) => thread::joined(trying),
            Err(error) => (Tried::default(), Err(error)),
        }
    })
}
