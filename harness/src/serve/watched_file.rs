//! The file of a device that is served, and what others do to it meanwhile. A lock keeps out those
//! who ask for one. Whoever asks for none can cut the file, or give its name to another one.
//!
//! Both are looked for whenever something is to be durable, when somebody asks for the status, and
//! at the end. A device whose file was cut ends: what lay past the cut is lost, and where something
//! is written past it later, what lies between would read as zeros. One whose name is another
//! file's goes on, because all of it is there as long as it is open; that it has its name again is
//! told too.
//!
//! A file that was cut and is as long again before anybody looks is not told from one that was left
//! alone. While the device is resized it changes length and name of its file itself: nothing is
//! compared then. When that has ended, the file has to be as long as what the device has in it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use driver::shown;
use driver::units::{Bytes, FileOffset};
use rustix::fs::FileType;

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
    /// The longest that it has been, or has to be, since it was last replaced or resized by the
    /// device itself.
    longest: u64,
    /// It was too short for what is said to be in it when it was watched first.
    is_damaged: bool,
    /// Nothing is watched any more.
    has_gone: bool,
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

    /// From now on this one is watched, as it is now, or as long as it has to be because what the
    /// device has in it reaches up to `end`. What is no regular file cannot be cut.
    ///
    /// # Errors
    /// The system's: it is not watched.
    pub(super) fn watch(
        &self,
        file: Option<&impl AsFd>,
        end: Option<FileOffset>,
    ) -> io::Result<()> {
        let mut state = locked(&self.state);
        let is_first = state.file.take().is_none();
        let Some(file) = file.filter(|_| !state.has_gone) else {
            return Ok(());
        };
        let file = rustix::io::fcntl_dupfd_cloexec(file, 0)?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode).is_file() {
            let len = stat.st_size.unsigned_abs();
            let end = end.map_or(0, |end| end.0);
            state.is_damaged |= is_first && len < end;
            state.longest = match state.is_damaged {
                // Others have not done that while it was served.
                true => len,
                false => len.max(end),
            };
            state.file = Some(file);
        }
        Ok(())
    }

    /// Watches nothing any more, and keeps no file open, also where a resize ends afterwards. What
    /// was found stays.
    pub(super) fn let_go(&self) {
        let mut state = locked(&self.state);
        state.file = None;
        state.has_gone = true;
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
        let is_news = now != state.found;
        state.found = now.clone();
        (now, is_news)
    }

    /// What is told when the file has its name again.
    pub(super) fn returned(&self) -> String {
        format!(
            "{}: the name is again that of the file that is served",
            shown(&self.path)
        )
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
        watched.watch(Some(&file), None).unwrap();
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
        // One that has its name again is as it was.
        std::fs::rename(&aside, &watched.path).unwrap();
        assert_eq!(looked(&watched), (Found::Nothing, true));
        assert_eq!(looked(&watched), (Found::Nothing, false));
        std::fs::rename(&watched.path, &aside).unwrap();
        std::fs::write(&watched.path, "another's").unwrap();
        assert!(looked(&watched).1);
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
        // It is told once, whether the name is another file's or nobody's.
        std::fs::remove_file(&watched.path).unwrap();
        assert!(!looked(&watched).1);
    }

    #[test]
    fn a_file_that_is_too_short_after_a_resize_was_cut() {
        let directory = tempfile::tempdir().unwrap();
        let (watched, file) = watched(directory.path());
        for (end, is_cut) in [(4096, false), (8192, false), (8704, true)] {
            watched.watch(Some(&file), Some(FileOffset(end))).unwrap();
            let (found, is_news) = looked(&watched);
            assert_eq!(matches!(found, Found::Cut(_)), is_cut, "{end}: {found:?}");
            assert_eq!(is_news, is_cut);
        }
    }

    /// What is wrong with it, `image check` tells.
    #[test]
    fn a_file_that_was_too_short_before_it_was_served_was_not_cut_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cow");
        let file = File::create_new(&path).unwrap();
        let watched = WatchedFile::at(&path);
        for len in [8192, 4096] {
            file.set_len(len).unwrap();
            watched.watch(Some(&file), Some(FileOffset(8704))).unwrap();
            assert_eq!(looked(&watched), (Found::Nothing, false));
        }
        file.set_len(0).unwrap();
        assert!(looked(&watched).1);
    }

    /// A descriptor has the lock of the device's own one.
    #[test]
    fn a_file_that_was_let_go_stays_so_when_a_resize_ends_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let (watched, file) = watched(directory.path());
        watched.let_go();
        watched.watch(Some(&file), None).unwrap();
        assert!(locked(&watched.state).file.is_none());
        file.set_len(0).unwrap();
        assert_eq!(looked(&watched), (Found::Nothing, false));
    }

    #[test]
    fn what_is_no_file_is_not_watched() {
        let watched = WatchedFile::at(Path::new("/dev/null"));
        let null = File::open("/dev/null").unwrap();
        watched.watch(Some(&null), None).unwrap();
        assert_eq!(looked(&watched), (Found::Nothing, false));
    }
}
