//! The file of a device that is served, and what others do to it meanwhile. A lock keeps out those
//! who ask for one. Whoever asks for none can cut the file, or give its name to another one.
//!
//! Both are looked for whenever something is to be durable, when somebody asks for the status, and
//! at the end. A device whose file was cut ends: what lay past the cut is lost, and where something
//! is written past it later, what lies between would read as zeros. One whose name is another
//! file's goes on, because all of it is there as long as it is open.
//!
//! A file that was cut and is as long again before anybody looks is not told from one that was left
//! alone.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use driver::shown;
use driver::units::Bytes;
use rustix::fs::{FileType, Stat};

use crate::locked::locked;

/// The file, once it is known.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` where there is nothing to watch.
    file: Option<OwnedFd>,
    /// The longest that it has been since it was last replaced or resized by the device itself.
    longest: u64,
    found: Found,
}

/// What others have done to the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing that could be seen.
    #[default]
    Nothing,
    /// Its name is another file's, or nobody's. Where it can still be had, in words.
    Renamed(String),
    /// It was cut, in words.
    Cut(String),
}

impl WatchedFile {
    /// Nothing yet.
    pub(super) fn at(path: &Path) -> WatchedFile {
        WatchedFile {
            path: path.to_owned(),
            state: Mutex::default(),
        }
    }

    /// From now on this one is watched, as it is now. What is no regular file cannot be cut.
    pub(super) fn watch(&self, file: Option<&impl AsFd>) {
        let mut state = locked(&self.state);
        state.file = None;
        let Some(file) = file.and_then(|file| rustix::io::fcntl_dupfd_cloexec(file, 0).ok()) else {
            return;
        };
        let is_regular = |stat: &Stat| FileType::from_raw_mode(stat.st_mode).is_file();
        if let Some(stat) = rustix::fs::fstat(&file).ok().filter(is_regular) {
            state.longest = stat.st_size.unsigned_abs();
            state.file = Some(file);
        }
    }

    /// Watches nothing any more, and keeps no file open. What was found stays.
    pub(super) fn let_go(&self) {
        locked(&self.state).file = None;
    }

    /// Looks at the file: what has been found so far, and whether that is news. `is_quiet` says
    /// whether the device itself has left length and name alone since it was asked before.
    pub(super) fn look(&self, mut is_quiet: impl FnMut() -> bool) -> (Found, bool) {
        let mut state = locked(&self.state);
        let Some(file) = &state.file else {
            return (state.found.clone(), false);
        };
        is_quiet();
        let (Ok(found), named) = (rustix::fs::fstat(file), rustix::fs::stat(&self.path)) else {
            return (state.found.clone(), false);
        };
        let len = found.st_size.unsigned_abs();
        if !is_quiet() {
            return (state.found.clone(), false);
        }
        let is_named =
            named.is_ok_and(|named| (named.st_dev, named.st_ino) == (found.st_dev, found.st_ino));
        let now = match &state.found {
            cut @ Found::Cut(_) => cut.clone(),
            _ if len < state.longest => Found::Cut(self.cut(state.longest, len)),
            _ if !is_named => Found::Renamed(self.renamed(file, found.st_nlink > 0)),
            _ => Found::Nothing,
        };
        state.longest = state.longest.max(len);
        let is_news = now != Found::Nothing && now != state.found;
        state.found = now.clone();
        (now, is_news)
    }

    fn cut(&self, from: u64, to: u64) -> String {
        format!(
            "{}: somebody has cut the file from {} to {} while it was served: what lay past that \
             is lost, and `ubdlab image check` tells what is left",
            shown(&self.path),
            Bytes(from),
            Bytes(to)
        )
    }

    fn renamed(&self, file: &OwnedFd, has_a_name: bool) -> String {
        let fate = match has_a_name {
            false => "which has no name any more and is gone when the server ends",
            true => "which has another name",
        };
        format!(
            "{}: somebody has given the name to another file, or taken it away: what is written \
             goes into the file that was opened, {fate}; until then it is /proc/{}/fd/{}",
            shown(&self.path),
            std::process::id(),
            file.as_raw_fd()
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn watched(directory: &Path) -> (WatchedFile, File) {
        let path = directory.join("cow");
        let file = File::create_new(&path).unwrap();
        file.set_len(8192).unwrap();
        let watched = WatchedFile::at(&path);
        watched.watch(Some(&file));
        (watched, file)
    }

    fn looked(watched: &WatchedFile) -> (Found, bool) {
        watched.look(|| true)
    }

    #[test]
    fn a_file_that_was_cut_stays_so_and_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let (watched, file) = watched(directory.path());
        assert_eq!(looked(&watched), (Found::Nothing, false));
        // It grows with what is written.
        file.set_len(16_384).unwrap();
        assert_eq!(looked(&watched), (Found::Nothing, false));
        file.set_len(12_288).unwrap();
        // While the device itself changes it, nothing is known.
        assert_eq!(watched.look(|| false), (Found::Nothing, false));
        let (found, is_news) = looked(&watched);
        let Found::Cut(words) = &found else {
            panic!("{found:?}");
        };
        assert!(
            is_news && words.contains("from 16 KiB to 12 KiB"),
            "{words}"
        );
        file.set_len(16_384).unwrap();
        assert_eq!(looked(&watched), (found.clone(), false));
        watched.let_go();
        assert_eq!(looked(&watched), (found, false));
    }

    #[test]
    fn another_file_of_its_name_is_noticed_and_where_the_own_one_is() {
        let directory = tempfile::tempdir().unwrap();
        let (watched, _file) = watched(directory.path());
        let aside = directory.path().join("aside");
        std::fs::rename(&watched.path, &aside).unwrap();
        std::fs::write(&watched.path, "another's").unwrap();
        let (found, is_news) = looked(&watched);
        assert!(is_news && matches!(&found, Found::Renamed(why) if why.contains("another name")));
        std::fs::remove_file(&aside).unwrap();
        let (found, is_news) = looked(&watched);
        let Found::Renamed(words) = found else {
            panic!("{found:?}");
        };
        assert!(
            is_news && words.contains("is gone when the server ends"),
            "{words}"
        );
        let own = words.rsplit_once("until then it is ").unwrap().1;
        assert_eq!(std::fs::metadata(own).unwrap().len(), 8192);
        // One whose name comes back is as it was.
        std::fs::hard_link(own, &aside).unwrap_err();
        std::fs::remove_file(&watched.path).unwrap();
        assert!(!looked(&watched).1);
    }

    #[test]
    fn what_is_no_file_is_not_watched() {
        let watched = WatchedFile::at(Path::new("/dev/null"));
        watched.watch(Some(&File::open("/dev/null").unwrap()));
        assert_eq!(looked(&watched), (Found::Nothing, false));
    }
}
