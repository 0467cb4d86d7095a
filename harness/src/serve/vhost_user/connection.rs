//! One client, from when it connects until all that it asked for has been answered.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vhost::vhost_user::{Error as ProtocolError, Listener};
use vhost_user_backend::{Error as LibraryError, VhostUserDaemon, VringEpollHandler};
use vmm_sys_util::epoll::EventSet;

use crate::locked::locked;
use crate::serve::Export;

use super::chain::Memory;
use super::disk::{Disk, END, KICKED};
use super::in_flight::{Lender, Met};
use super::queue::AllMemory;
use super::relay::{Kept, Message, RelayError};
use super::signals::{Call, Calls, Kick};

/// The channel on which the client that is there hears of changes.
pub(super) type Channel = Arc<Mutex<Option<OwnedFd>>>;

/// The name of the library's socket in its directory.
const SOCKET: &str = "library";

/// How often it is looked whether a client that has to end keeps somebody waiting at its counters.
const LOOK: Duration = Duration::from_millis(20);

/// The library's threads, one for each queue.
type QueueThreads = Vec<Arc<VringEpollHandler<Arc<Disk>>>>;

/// A client that is there, or has been and is being answered.
pub(super) struct Connection {
    line: Arc<Line>,
    thread: JoinHandle<()>,
    /// It closes when the thread is about to end.
    ended: Receiver<()>,
}

/// The way from a client to the library and back.
struct Line {
    client: UnixStream,
    library: UnixStream,
    channel: Channel,
    calls: Calls,
    lender: Lender,
    /// Held while a message is sent to the client: the library's replies and ours come from two
    /// threads.
    replies: Mutex<()>,
    /// Why it was cut, if there is a reason to tell.
    why: Mutex<Option<String>>,
}

impl Connection {
    /// Serves `client` on a thread of its own. `place` is where the endpoint listens.
    pub(super) fn begin(
        client: UnixStream,
        export: Export,
        channel: Channel,
        place: String,
    ) -> Result<Connection, String> {
        let said = |error: io::Error| driver::system_words(&error);
        // The library takes its clients from a listening socket. Nobody else can reach this one.
        let directory = tempfile::tempdir().map_err(said)?;
        let path = directory.path().join(SOCKET);
        let listener = UnixListener::bind(&path).map_err(said)?;
        let library = UnixStream::connect(&path).map_err(said)?;
        drop(directory);
        let line = Arc::new(Line {
            client,
            library,
            channel,
            calls: Calls::default(),
            lender: Lender::default(),
            replies: Mutex::default(),
            why: Mutex::default(),
        });
        let served = Arc::clone(&line);
        let thread = Builder::new().name("vhost-user-client".into());
        let (ending, ended) = bounded(0);
        let serve = move || {
            let _ending: crossbeam_channel::Sender<()> = ending;
            if let Err(error) = served.serve(listener, &export, &place) {
                served.cut(Some(error));
            }
            if let Some(why) = locked(&served.why).take() {
                export.tell(&format_args!("{place}: the client was cut off: {why}"));
            }
        };
        let thread = thread.spawn(serve).map_err(said)?;
        Ok(Connection {
            line,
            thread,
            ended,
        })
    }

    /// Whether the client has gone, or is being cut off.
    pub(super) fn is_ending(&self) -> bool {
        let mut polled = [PollFd::new(&self.line.client, PollFlags::RDHUP)];
        let now = Timespec::default();
        self.thread.is_finished() || poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Waits until all is answered. The client has gone or is cut off.
    pub(super) fn wait(self) {
        while self.ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            self.line.calls.let_go();
        }
        // A panic has been told, and is of this client alone.
        let _ = self.thread.join();
    }

    /// Takes no more requests, and waits until those that were taken are answered.
    pub(super) fn end(self) {
        self.line.cut(None);
        self.wait();
    }
}

impl Line {
    fn serve(
        self: &Arc<Line>,
        listener: UnixListener,
        export: &Export,
        place: &str,
    ) -> Result<(), String> {
        let (submitter, mut completer) = export.client(place.to_owned());
        let lost = Arc::clone(self);
        completer.when_lost(move || lost.cut(Some("nobody answers it any more".into())));
        let memory = AllMemory::new(Memory::new());
        let line = Arc::clone(self);
        let break_off = Box::new(move |why| line.cut(Some(why)));
        let disk = Disk::new(export.clone(), memory.clone(), submitter, break_off);
        let disk = Arc::new(disk);
        let daemon = VhostUserDaemon::new("vhost-user".into(), Arc::clone(&disk), memory);
        let mut daemon = daemon.map_err(|error| error.to_string())?;
        let end = match wakes_at_end(&daemon) {
            Ok(end) => end,
            Err(error) => {
                // Dropping it would wait for threads that nobody can end.
                std::mem::forget(daemon);
                return Err(driver::system_words(&error));
            }
        };
        let threads = daemon.get_epoll_handlers();
        let woken = std::thread::scope(|scope| {
            let started = (|| {
                let answers = Builder::new().name("vhost-user-answers".into());
                let answering = Arc::clone(&disk);
                answers.spawn_scoped(scope, move || answering.answer_all(&completer))?;
                let replies = Builder::new().name("vhost-user-replies".into());
                replies.spawn_scoped(scope, || self.pass(|| self.reply()))
            })();
            let ended = match started {
                Ok(_) => daemon.start(&mut Listener::from(listener)).and_then(|()| {
                    self.pass(|| self.ask(&disk, &threads, place));
                    disk.end();
                    daemon.wait()
                }),
                Err(error) => Err(LibraryError::StartDaemon(error)),
            };
            disk.end();
            self.cut(why_told(ended));
            // Its channel is of no use to the next client.
            *locked(&self.channel) = None;
            // Its threads end, and with the last of them what is submitted.
            let woken = rustix::io::write(&end, &1u64.to_ne_bytes());
            drop(daemon);
            disk.let_go();
            woken
        });
        // All is answered.
        disk.settle(place);
        let failed = |error| driver::system_words(io::Error::from(error));
        woken.map(drop).map_err(failed)
    }

    /// Lets nothing pass any more. The first reason is told.
    fn cut(&self, why: Option<String>) {
        if let Some(why) = why {
            locked(&self.why).get_or_insert(why);
        }
        // They may have been shut down already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.library.shutdown(Shutdown::Both);
        self.calls.let_go();
    }

    /// Passes messages on until there is none.
    fn pass(&self, mut pass_one: impl FnMut() -> Result<bool, RelayError>) {
        let passed = loop {
            match pass_one() {
                Ok(true) => {}
                Ok(false) => break None,
                Err(error) => break why_not_passed(error),
            }
        };
        self.cut(passed);
    }

    /// Passes a message of the client on, or does what it asks for. Whether there was one.
    fn ask(&self, disk: &Disk, threads: &QueueThreads, place: &str) -> Result<bool, RelayError> {
        let Some(mut message) = Message::receive(&self.client)? else {
            return Ok(false);
        };
        let prepare = || disk.prepare_for_notes(place);
        match self.lender.meet(&mut message, prepare)? {
            Met::Library => {
                match message.mend()? {
                    Kept::Nothing => {}
                    Kept::Channel(channel) => *locked(&self.channel) = Some(channel),
                    Kept::Kick(queue, kick) => watch(disk, threads, queue, kick)?,
                    Kept::Call(queue, call) => self.signal_at(disk, queue, call),
                }
                message.send(&self.library)?;
            }
            Met::Notes(notes, answer) => {
                disk.note_in(&notes);
                if let Some(answer) = answer {
                    let _one_at_a_time = locked(&self.replies);
                    answer.send(&self.client)?;
                }
            }
        }
        Ok(true)
    }

    /// Has a queue's answers signalled there.
    fn signal_at(&self, disk: &Disk, queue: usize, call: Option<Call>) {
        let call = call.map(Arc::new);
        if let Some(call) = &call {
            self.calls.add(call);
        }
        if let Some(queue) = disk.queue(queue) {
            queue.signalled_at(call);
        }
    }

    /// Passes a message of the library on. Whether there was one.
    fn reply(&self) -> Result<bool, RelayError> {
        let Some(message) = Message::receive(&self.library)? else {
            return Ok(false);
        };
        let _one_at_a_time = locked(&self.replies);
        message.send(&self.client)?;
        Ok(true)
    }
}

/// Has a queue's thread watch for its kicks. The library refuses a queue that there is not.
fn watch(disk: &Disk, threads: &QueueThreads, queue: usize, kick: Option<Kick>) -> io::Result<()> {
    let (Some(queue), Some(thread)) = (disk.queue(queue), threads.get(queue)) else {
        return Ok(());
    };
    let number = kick.as_ref().map(Kick::number);
    if let Some(old) = queue.kicked_by(kick) {
        // The client has it open, so that closing it would not end that.
        thread.unregister_listener(old.number(), EventSet::IN, KICKED)?;
    }
    match number {
        Some(number) => {
            let edges = EventSet::IN | EventSet::EDGE_TRIGGERED;
            thread.register_listener(number, edges, KICKED)
        }
        None => Ok(()),
    }
}

/// What wakes the threads of the queues so that they end.
///
/// The library has a way of its own for that, which leaves a descriptor open for each thread.
fn wakes_at_end(daemon: &VhostUserDaemon<Arc<Disk>>) -> io::Result<OwnedFd> {
    let end = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    for handler in daemon.get_epoll_handlers() {
        handler.register_listener(end.as_fd().as_raw_fd(), EventSet::IN, END)?;
    }
    Ok(end)
}

/// What is told of the library's end. Where the client has gone, the library says so too.
fn why_told(ended: Result<(), LibraryError>) -> Option<String> {
    match ended {
        Ok(()) => None,
        Err(LibraryError::HandleRequest(
            ProtocolError::Disconnected | ProtocolError::PartialMessage,
        )) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// What is told of a message that was not passed on. Where one side has gone, it says so itself.
fn why_not_passed(error: RelayError) -> Option<String> {
    match error {
        RelayError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
        error => Some(error.to_string()),
    }
}
