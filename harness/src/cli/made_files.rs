//! The files of a device that a command makes for itself: where they are, in words and on the disk.

use std::path::Path;

use crate::replay::session::files_made_in;
use crate::replay::{Report, SessionError};

use super::output_file::cause;
use super::temporary::TemporaryDirectory;
use super::{Failure, paths};

/// Where the files of a device are that was made for a replay.
pub(super) fn files_in(directory: &Path) -> String {
    let directory = driver::shown(directory);
    format!("device.cow over backing.img in {directory}")
}

/// What each of them is, in words.
pub(super) const FILE_OF_DEVICE: &str = "a file of the device";

/// Whether a file at this path below the directory could be one of them.
pub(super) fn may_be_of_device(below: &Path) -> bool {
    files_made_in(Path::new(""))
        .iter()
        .any(|file| file == below)
}

/// What becomes of them.
pub(super) fn fate_of_files(kept: bool) -> &'static str {
    match kept {
        true => "the files stay there",
        false => "the files are removed at the end",
    }
}

/// A device, and what becomes of its files, in words.
pub(super) fn told(device: &str, fate: Option<&str>) -> String {
    match fate {
        None => device.to_owned(),
        Some(fate) => format!("{device}; {fate}"),
    }
}

/// How the files that `out` says the place of come to be somewhere else.
pub(super) fn elsewhere(out: Option<&Path>) -> &'static str {
    match out {
        Some(_) => "--out with another directory makes the files there",
        None => "--out makes the files somewhere else",
    }
}

/// Runs a session in the directory asked for, which is made if need be and stays, or in a new
/// one among the system's temporary files, which is removed. A directory made for a session
/// that left nothing in it is removed too.
pub(super) fn in_directory(
    out: Option<&Path>,
    session: impl FnOnce(&Path) -> Result<Report, SessionError>,
) -> Result<Result<Report, SessionError>, Failure> {
    let failed = |path: &Path, error: std::io::Error| {
        let cause = cause(path, &error);
        Failure(format!("{}: creating: {cause}", driver::shown(path)))
    };
    match out {
        Some(directory) => {
            let is_new = !directory.exists();
            std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
            let directory = paths::for_header(directory)?;
            let result = session(&directory);
            if is_new && result.is_err() {
                // Fails, as it should, where the session left something to be looked at.
                let _ = std::fs::remove_dir(&directory);
            }
            Ok(result)
        }
        None => {
            let place = std::env::temp_dir();
            let directory = TemporaryDirectory::new_in(&place, "ubdlab-").map_err(|error| {
                let (place, cause) = (driver::shown(&place), cause(&place, &error));
                Failure(format!("{place}: creating a directory in it: {cause}"))
            })?;
            Ok(session(directory.path()))
        }
    }
}
