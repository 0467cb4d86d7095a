//! A finding's case, tried once more on the kernel, as often as somebody wants.

use std::path::Path;

use crate::fuzz::campaign::StopSign;

use super::CannotFuzz;
use super::finding::FindingFile;
use super::laboratory::{Laboratory, Programs};
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
/// was tried.
///
/// # Errors
/// What keeps the kernel from that.
pub fn try_again(
    file: &FindingFile,
    tries: u64,
    (directory, programs): (&Path, &Programs),
    stop: &StopSign,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Tried, CannotFuzz> {
    let wanted = Wanted::of_file(file).map_err(CannotFuzz::NoFinding)?;
    let longest = file.recordings.first().map_or(1, |first| first.longest);
    let all = || {
        let mut laboratory = Laboratory::open(directory, programs, StopSign::clone(stop))?;
        let mut tried = Tried::default();
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
        Ok(tried)
    };
    // The thread that has the laboratory gets a view of the file system of its own.
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("kernel-laboratory".into());
        let trying = builder.spawn_scoped(scope, all);
        let trying = trying.map_err(|error| CannotFuzz::File {
            path: "a thread".into(),
            error,
        })?;
        let tried = trying.join();
        tried.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
