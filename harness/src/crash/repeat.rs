//! A finding once more, from its file: checked again, or mounted for somebody to look at.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::{Receiver, never};
use userhelper::unfinished;

use crate::mount::{Limits, MountedTree, TreeMount, own_view};
use crate::mountpoint::{empty, unmount_at_once};

use super::command::{CommandLine, Ran, Terms, run};
use super::finding_file::FindingFile;
use super::session::CannotCrash;

impl FindingFile {
    /// Checks the remains again, mounted over `directory` for the check alone, which runs in
    /// `within`. Both are absolute paths.
    ///
    /// # Errors
    /// If the file is wrong, or nothing can be mounted.
    pub fn check_again(
        &self,
        directory: &Path,
        within: &Path,
        timeout: Duration,
        stop: &AtomicBool,
    ) -> Result<Ran, CannotCrash> {
        let here = || {
            let remains = self.remains()?;
            let mount = own_view::over(directory).map_err(CannotCrash::Place)?;
            let mut mounted = MountedTree::new(remains, Limits::default());
            let check = CommandLine::Shell(self.check.text());
            let terms = Terms {
                within,
                timeout,
                stop,
            };
            run(&check, terms, &mount, &mut mounted).map_err(|error| CannotCrash::Start {
                what: "the check",
                error,
            })
        };
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("crash-repro".into());
            let checked = builder.spawn_scoped(scope, here);
            let checked = checked.map_err(|error| CannotCrash::Start {
                what: "a thread",
                error,
            })?;
            let checked = checked.join();
            checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Mounts the remains on `directory`, which is empty, calls `mounted`, and serves them until
    /// `until` has something.
    ///
    /// # Errors
    /// If the file is wrong, or nothing can be mounted there.
    pub fn show(
        &self,
        directory: &Path,
        mounted: impl FnOnce(),
        until: &Receiver<()>,
    ) -> Result<(), CannotCrash> {
        let remains = self.remains()?;
        let cannot =
            |why: String| CannotCrash::Place(format!("{}: {why}", driver::shown(directory)));
        let directory = empty(directory).map_err(cannot)?;
        let of_the_signal = directory.clone();
        let mounting = unfinished::do_undoably(
            || TreeMount::on(&directory),
            move || {
                unmount_at_once(&of_the_signal);
                true
            },
        );
        let (mount, undoable) = mounting.map_err(|error| CannotCrash::Place(error.to_string()))?;
        mounted();
        let mut tree = MountedTree::new(remains, Limits::default());
        mount.serve(&mut tree, until, &never::<()>());
        unfinished::undo(undoable, || drop(mount));
        Ok(())
    }
}
