//! The endpoint: a directory on which the device is mounted, and how the mount goes.
//!
//! When the endpoint stops, what is in flight is answered, and the directory is unmounted, in use
//! or not. Whoever still has a file of it open gets errors from then on: the kernel is told to end
//! the connection, where it lets us, and otherwise the connection ends with the process. A second
//! signal ends the process at once, and takes the mount with it ([`unfinished`]). After SIGKILL,
//! and what is like it, a process that was started for that takes it away (`Unmounter`). Where
//! that was killed too, a mount stays behind, which answers nothing. It is noticed when the
//! directory is to be used again, and the message has the command that clears it.

use std::convert::Infallible;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, bounded, never, unbounded};
use driver::{shown, system_words};
use fuser::{Config, Session, SessionACL};
use userhelper::unfinished::{self, Undoable};

use crate::mountpoint::{Ended, Mount, Mounting, Unmounter, cleared, why_not};

use super::super::budget::Budget;
use super::super::export::Export;
use super::super::server::Endpoint;
use super::document::Documents;
use super::files::{Files, Look};
use super::inodes::Owner;
use super::requests::{MOST_IN_FLIGHT, Threads};
use super::shared::Shared;

/// The most threads that read requests from the kernel.
const MOST_READERS: usize = 4;

/// The device mounted on a directory, until it is stopped or dropped.
#[derive(Debug)]
pub struct Fuse {
    place: String,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    shared: Arc<Shared>,
    mounted: Arc<Mounted>,
    unmounter: Unmounter,
    /// Reads requests from the kernel until the connection ends.
    session: JoinHandle<()>,
    /// Closes when it has ended.
    end: Receiver<Infallible>,
    workers: Workers,
}

/// The threads beside those that read from the kernel.
#[derive(Debug)]
struct Workers {
    threads: Threads,
    looking: JoinHandle<()>,
    looks: Sender<Option<Look>>,
}

impl Workers {
    fn start(export: &Export, place: String) -> io::Result<Workers> {
        let threads = Threads::start(export, place)?;
        let (looks, come) = unbounded();
        match thread("fuse-looks", move || look_at_all(&come)) {
            Ok(looking) => Ok(Workers {
                threads,
                looking,
                looks,
            }),
            Err(error) => {
                threads.stop();
                Err(error)
            }
        }
    }

    /// What answers requests by these threads.
    fn files(&self, shared: &Arc<Shared>) -> Files {
        Files {
            shared: Arc::clone(shared),
            asked: self.threads.asked(),
            reads: self.threads.reads(),
            share: self.threads.share(),
            looks: self.looks.clone(),
        }
    }

    /// Ends them when all that was asked for is answered.
    fn stop(self) {
        self.threads.stop();
        let _ = self.looks.send(None);
        let _ = self.looking.join();
    }
}

/// The mount, until it is taken away, by us or by somebody else.
#[derive(Debug)]
struct Mounted {
    mount: Arc<Mount>,
    undoable: Mutex<Option<Undoable>>,
}

impl Mounted {
    /// Takes it away, unless that has been done; how that ended, or that it had gone.
    fn end(&self) -> Option<Option<Ended>> {
        let mut undoable = self.undoable.lock().unwrap_or_else(PoisonError::into_inner);
        let undoable = undoable.take()?;
        Some(unfinished::undo(undoable, || self.mount.take_away()))
    }
}

/// Why the device is not mounted.
#[derive(Debug, thiserror::Error)]
#[error("FUSE at {place}: {why}")]
pub struct CannotMount {
    place: String,
    why: String,
}

impl Fuse {
    /// Mounts the device on `directory`, which has to be empty.
    ///
    /// # Errors
    /// Why not.
    pub fn mount(export: &Export, directory: &Path) -> Result<Fuse, CannotMount> {
        let place = shown(directory);
        let cannot = |why: String| CannotMount {
            place: place.clone(),
            why,
        };
        let of_system = |error: io::Error| cannot(system_words(&error));
        let directory = cleared(directory).map_err(cannot)?;
        let place = format!("FUSE at {place}");
        let shared = Arc::new(Shared {
            export: export.clone(),
            owner: Owner {
                user: rustix::process::geteuid().as_raw(),
                group: rustix::process::getegid().as_raw(),
                read_only: export.about().read_only,
                since: last_modified(&export.about().path),
            },
            place: place.clone(),
            documents: Documents::default(),
            slots: Budget::new(MOST_IN_FLIGHT),
            is_ending: AtomicBool::new(false),
            was_unmounted: AtomicBool::new(false),
        });
        let workers = Workers::start(export, place.clone()).map_err(of_system)?;
        let files = workers.files(&shared);
        let mounting = Mounting {
            for_whom: SessionACL::Owner,
            read_only: export.about().read_only,
            executable: false,
        };
        let mounted = unfinished::do_undoably(|| {
            let (session, mount) = mounting.mount(files, &directory, config())?;
            let mount = Arc::new(mount);
            let of_the_signal = Arc::clone(&mount);
            let undo = move || of_the_signal.take_away().is_some();
            Ok(((session, mount), undo))
        });
        let ((session, mount), undoable) = match mounted {
            Ok(mounted) => mounted,
            Err(error) => {
                workers.stop();
                return Err(cannot(why_not(&error)));
            }
        };
        let unmounter = Unmounter::start(&directory);
        let mounted = Arc::new(Mounted {
            mount,
            undoable: Mutex::new(Some(undoable)),
        });
        let (with, on) = (Arc::clone(&shared), Arc::clone(&mounted));
        let (is_there, end) = bounded(0);
        let session = match thread("fuse", move || serve(session, &with, &on, is_there)) {
            Ok(session) => session,
            Err(error) => {
                mounted.end();
                unmounter.end();
                workers.stop();
                return Err(of_system(error));
            }
        };
        tell_kernel_of_sizes(&shared, &directory);
        Ok(Fuse {
            place,
            running: Some(Running {
                shared,
                mounted,
                unmounter,
                session,
                end,
                workers,
            }),
        })
    }

    fn unmount(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        let Running {
            shared,
            mounted,
            unmounter,
            session,
            end: _,
            workers,
        } = running;
        shared.is_ending.store(true, Ordering::SeqCst);
        // All that was taken is answered when all of it has given its room back.
        drop(shared.slots.take(MOST_IN_FLIGHT));
        let ended = mounted.end();
        // Somebody else had unmounted it.
        if ended == Some(None) {
            tell_of_others(&shared);
        }
        unmounter.end();
        workers.stop();
        // Where the kernel does not let us end the connection, it ends with the process.
        if matches!(ended, None | Some(Some(Ended::Now))) {
            let _ = session.join();
        }
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        self.unmount();
    }
}

impl Endpoint for Fuse {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn end(&self) -> Receiver<Infallible> {
        match &self.running {
            Some(running) => running.end.clone(),
            None => never(),
        }
    }

    fn was_taken_away(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.shared.was_unmounted.load(Ordering::SeqCst))
    }

    fn stop(mut self: Box<Self>) {
        self.unmount();
    }
}

fn config() -> Config {
    let mut config = Config::default();
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    config.n_threads = Some(processors.min(MOST_READERS));
    config.clone_fd = true;
    config
}

/// Answers the kernel until the connection ends; `_is_there` is dropped then.
fn serve(
    session: Session<Files>,
    shared: &Shared,
    mounted: &Mounted,
    _is_there: Sender<Infallible>,
) {
    let ended = session.run();
    // After an error it is still there. Otherwise somebody else may mount something there now.
    if mounted.end().is_none() {
        // It is the endpoint that ends.
        return;
    }
    let place = &shared.place;
    match ended {
        Ok(()) => {
            shared.was_unmounted.store(true, Ordering::SeqCst);
            tell_of_others(shared);
        }
        Err(error) => {
            let error = system_words(error);
            shared.export.tell(&format_args!("{place}: ended: {error}"));
        }
    }
}

fn tell_of_others(shared: &Shared) {
    let place = &shared.place;
    let line = format_args!("{place}: unmounted from outside");
    shared.export.tell(&line);
}

fn look_at_all(come: &Receiver<Option<Look>>) {
    while let Ok(Some(look)) = come.recv() {
        look();
    }
}

/// Lets the kernel look at the size of `disk` after each resize. It asks for the size itself
/// wherever a program does, but not where a file that is open is read past the size that the
/// kernel knows.
fn tell_kernel_of_sizes(shared: &Arc<Shared>, directory: &Path) {
    let disk = directory.join("disk");
    let known: Weak<Shared> = Arc::downgrade(shared);
    let export = shared.export.clone();
    export.when_resized(Arc::new(move |_| {
        let is_served = |shared: Arc<Shared>| !shared.is_ending.load(Ordering::SeqCst);
        if !known.upgrade().is_some_and(is_served) {
            return false;
        }
        let disk = disk.clone();
        // It may take as long as the kernel likes; without a thread the kernel asks later.
        let _ = thread("fuse-size", move || drop(std::fs::metadata(disk)));
        true
    }));
}

/// When the file was last modified.
fn last_modified(path: &Path) -> SystemTime {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}
