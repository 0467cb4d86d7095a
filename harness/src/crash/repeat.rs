//! A finding once more, from its file: checked again, or mounted for somebody to look at.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam_channel::{Receiver, never};
use userhelper::unfinished;

use crate::mount::{CannotMountTree, Come, Limits, MountedTree, TreeMount};
use crate::mountpoint::{Unmounter, cleared};

use super::cannot_crash::CannotCrash;
use super::command::{CommandLine, Terms, run};
use super::finding::Finding;
use super::finding_file::FindingFile;
use super::place::View;

/// For how long remains were shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Until the end that was asked for.
    UntilTheEnd,
    /// Somebody else has unmounted them.
    Unmounted,
}

impl FindingFile {
    /// Checks the remains again, mounted over `directory` for the check alone, which runs in
    /// `within`, and tells what has come of it. Both are absolute paths. The directory may take no
    /// more than `limits`.
    ///
    /// # Errors
    /// If the file is wrong, or nothing can be mounted.
    pub fn check_again(
        &self,
        directory: &Path,
        within: &Path,
        limits: Limits,
        timeout: Duration,
        stop: &AtomicBool,
    ) -> Result<Finding, CannotCrash> {
        let here = || {
            let tree = self.tree(limits)?;
            let remains = self.remains_of(&tree)?;
            let view = View::over(directory).map_err(CannotCrash::Place)?;
            let mut mounted = MountedTree::new(remains, limits);
            let check = CommandLine::Shell(self.check.text());
            let terms = Terms {
                within,
                timeout,
                stop,
            };
            let ran = run(&check, terms, &view, &mut mounted);
            let ran = ran.map_err(|error| CannotCrash::Start {
                what: "the check".into(),
                error,
            })?;
            Ok(self.told(&tree, ran))
        };
        std::thread::scope(|scope| {
            let builder = std::thread::Builder::new().name("crash-repro".into());
            let checked = builder.spawn_scoped(scope, here);
            let checked = checked.map_err(|error| CannotCrash::Start {
                what: "a thread".into(),
                error,
            })?;
            let checked = checked.join();
            checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Mounts the remains on `directory`, which is empty, within these limits, calls `mounted`, and
    /// serves them until `until` has something, or somebody else has unmounted them. The mount goes
    /// however the program ends.
    ///
    /// # Errors
    /// If the file is wrong, or nothing can be mounted there.
    pub fn show(
        &self,
        directory: &Path,
        limits: Limits,
        mounted: impl FnOnce(),
        until: &Receiver<()>,
    ) -> Result<Shown, CannotCrash> {
        let remains = self.remains(limits)?;
        let cannot =
            |why: String| CannotCrash::Place(format!("{}: {why}", driver::shown(directory)));
        let directory = cleared(directory).map_err(cannot)?;
        let mounting = unfinished::do_undoably(|| {
            let mount = TreeMount::on(&directory)?;
            let undo = mount.undo();
            Ok((mount, undo))
        });
        let (mount, undoable) =
            mounting.map_err(|error: CannotMountTree| CannotCrash::Place(error.to_string()))?;
        let unmounter = Unmounter::start(&directory);
        mounted();
        let mut tree = MountedTree::new(remains, limits);
        let ended = mount.serve(&mut tree, until, &never::<()>());
        // A signal that ends the program waits for this, and so this waits for nobody.
        let taken = unfinished::undo(undoable, || mount.take_away());
        drop(mount);
        unmounter.end();
        if taken.is_err() {
            let again = driver::shell_path(&directory);
            return Err(cannot(format!(
                "something was mounted over what the crash has left; this takes both away: \
                 umount -l {again}; umount -l {again}"
            )));
        }
        Ok(match ended {
            Some(Come::Unmounted) => Shown::Unmounted,
            _ => Shown::UntilTheEnd,
        })
    }
}
