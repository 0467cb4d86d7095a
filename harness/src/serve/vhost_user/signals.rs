//! The descriptors by which a client says that a queue has something, and hears that something has
//! come back.
//!
//! They are the client's. Whoever reads or writes one waits for as long as the client likes: a full
//! counter takes no signal, and an empty one brings none. `O_NONBLOCK` is no help, because it lies
//! with the open file: a client that waits at its counter has to find it as it was, and a hostile
//! one takes the flag away again. So the library, which reads and writes without looking, is given
//! none of them.
//!
//! - A kick is watched by the queue's own thread, for edges. It is read as a courtesy, by a call
//!   that does not wait whatever the flags are.
//! - A socket, as UML's, or a pipe where answers are signalled is written by a system call that
//!   does not wait, either. There is none for counters. So we look first whether there is room. A
//!   client that fills its counter between the look and the write keeps its own queue waiting,
//!   until somebody lets that go (`Calls::let_go`): whoever cuts the client off does.

use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, Weak};

use driver::shown;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::ReadWriteFlags;
use rustix::net::{SendFlags, send};
use rustix::pipe::{SpliceFlags, fcntl_getpipe_size, tee};

use crate::locked::locked;

/// What the system shows an eventfd as.
const COUNTER: &str = "anon_inode:[eventfd]";

/// How the system begins to show a socket.
const SOCKET: &str = "socket:[";

/// The value by which a counter is signalled. Whoever reads a pipe expects as many bytes.
const SIGNAL: [u8; 8] = 1u64.to_ne_bytes();

/// Why a descriptor is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSignal {
    #[error("found {found} where a queue is kicked, expected an eventfd")]
    Kick { found: String },
    #[error(
        "found {found} where a queue's answers are signalled, expected an eventfd, a socket or a \
         pipe"
    )]
    Call { found: String },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// By which a client says that a queue has something.
#[derive(Debug)]
pub(super) struct Kick(OwnedFd);

impl Kick {
    pub(super) fn of(descriptor: OwnedFd) -> Result<Kick, NoSignal> {
        match shown_as(&descriptor)? {
            found if found == COUNTER => Ok(Kick(descriptor)),
            found => Err(NoSignal::Kick { found }),
        }
    }

    /// What the library gets in its place: it says nothing, and makes nobody wait.
    pub(super) fn stand_in() -> io::Result<OwnedFd> {
        Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
    }

    /// Sets it back. Who watches it sees the next kick in any case.
    pub(super) fn clear(&self) {
        clear(&self.0);
    }

    pub(super) fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// By which a client hears that something has come back.
#[derive(Debug)]
pub(super) enum Call {
    Counter(OwnedFd),
    Socket(OwnedFd),
    Pipe {
        theirs: OwnedFd,
        /// A pipe of our own with a signal in it, which is copied.
        signal: OwnedFd,
    },
}

impl Call {
    pub(super) fn of(descriptor: OwnedFd) -> Result<Call, NoSignal> {
        if fcntl_getpipe_size(&descriptor).is_ok() {
            let (signal, mut filled) = io::pipe()?;
            filled.write_all(&SIGNAL)?;
            return Ok(Call::Pipe {
                theirs: descriptor,
                signal: signal.into(),
            });
        }
        match shown_as(&descriptor)? {
            found if found == COUNTER => Ok(Call::Counter(descriptor)),
            found if found.starts_with(SOCKET) => Ok(Call::Socket(descriptor)),
            found => Err(NoSignal::Call { found }),
        }
    }

    /// Signals. Where there is no room, a signal is waiting which tells of this answer too. A
    /// client that has gone does not need to know.
    pub(super) fn signal(&self) {
        match self {
            Call::Counter(counter) if has_room(counter) => {
                let _ = rustix::io::write(counter, &SIGNAL);
            }
            Call::Counter(_) => {}
            Call::Socket(socket) => {
                let _ = send(socket, &SIGNAL, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            }
            Call::Pipe { theirs, signal } => {
                let _ = tee(signal, theirs, SIGNAL.len(), SpliceFlags::NONBLOCK);
            }
        }
    }

    fn let_go(&self) {
        if let Call::Counter(counter) = self
            && !has_room(counter)
        {
            clear(counter);
        }
    }
}

/// All that a client wants to hear through.
#[derive(Debug, Default)]
pub(super) struct Calls(Mutex<Vec<Weak<Call>>>);

impl Calls {
    /// Keeps a call in mind for as long as somebody has it.
    pub(super) fn add(&self, call: &Arc<Call>) {
        let mut calls = locked(&self.0);
        calls.retain(|call| call.strong_count() > 0);
        calls.push(Arc::downgrade(call));
    }

    /// Makes room in counters that are full, so that nobody waits for that who signals. No counter
    /// fills up by signals alone: its client has filled it.
    pub(super) fn let_go(&self) {
        for call in locked(&self.0).iter().filter_map(Weak::upgrade) {
            call.let_go();
        }
    }
}

/// What a descriptor is, in the system's words. The file itself is not asked: it may be of a file
/// system that does not answer.
fn shown_as(descriptor: &OwnedFd) -> io::Result<String> {
    let link = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    Ok(shown(&std::fs::read_link(link)?).to_string())
}

fn has_room(counter: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(counter, PollFlags::OUT)];
    let ready = poll(&mut polled, Some(&Timespec::default()));
    ready.is_ok() && polled[0].revents().contains(PollFlags::OUT)
}

/// Sets a counter back, without waiting.
fn clear(counter: &OwnedFd) {
    let mut value = [0; SIGNAL.len()];
    let mut value = [IoSliceMut::new(&mut value)];
    // An empty one is an error, and a kernel that cannot read without waiting.
    let _ = rustix::io::preadv2(counter, &mut value, u64::MAX, ReadWriteFlags::NOWAIT);
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// The most that a counter holds.
    const FULL: u64 = u64::MAX - 1;

    fn counter() -> OwnedFd {
        eventfd(0, EventfdFlags::CLOEXEC).unwrap()
    }

    fn fill(counter: &OwnedFd) {
        rustix::io::write(counter, &FULL.to_ne_bytes()).unwrap();
    }

    fn read(counter: &OwnedFd) -> u64 {
        let mut value = [0; 8];
        rustix::io::read(counter, &mut value).unwrap();
        u64::from_ne_bytes(value)
    }

    #[test]
    fn a_counter_is_signalled_and_a_full_one_keeps_nobody_waiting() {
        let client = counter();
        let call = Call::of(client.try_clone().unwrap()).unwrap();
        call.signal();
        call.signal();
        assert_eq!(read(&client), 2);
        fill(&client);
        call.signal();
        assert_eq!(read(&client), FULL);
    }

    #[test]
    fn a_pipe_is_signalled_and_a_full_one_keeps_nobody_waiting() {
        let (client, theirs) = io::pipe().unwrap();
        is_signalled(client, theirs.into());
    }

    #[test]
    fn a_socket_is_signalled_and_a_full_one_keeps_nobody_waiting() {
        let (client, theirs) = UnixStream::pair().unwrap();
        is_signalled(client, theirs.into());
    }

    /// Has signals come out of `client` that are sent to `theirs`, which blocks.
    fn is_signalled(mut client: impl Read, theirs: OwnedFd) {
        let call = Call::of(theirs).unwrap();
        for _ in 0..2 {
            call.signal();
            let mut signal = [0; 8];
            client.read_exact(&mut signal).unwrap();
            assert_eq!(signal, SIGNAL);
        }
        // More than there is room for.
        for _ in 0..100_000 {
            call.signal();
        }
        drop(call);
        let mut signals = Vec::new();
        client.read_to_end(&mut signals).unwrap();
        assert!(!signals.is_empty());
        assert_eq!(signals.len() % SIGNAL.len(), 0);
    }

    /// As where a client fills its counter between the look and the write.
    #[test]
    fn who_waits_for_room_in_a_counter_is_let_go() {
        let client = counter();
        let calls = Calls::default();
        let call = Arc::new(Call::of(client.try_clone().unwrap()).unwrap());
        calls.add(&call);
        // A counter with room is left alone: its signals are the client's.
        call.signal();
        calls.let_go();
        assert_eq!(read(&client), 1);

        fill(&client);
        let waits = client.try_clone().unwrap();
        let waits = std::thread::spawn(move || rustix::io::write(&waits, &SIGNAL).unwrap());
        while !waits.is_finished() {
            calls.let_go();
            std::thread::yield_now();
        }
        assert_eq!(waits.join().unwrap(), SIGNAL.len());
        assert_eq!(read(&client), 1);
        // Nobody has it any more, and nobody looks at it any more.
        drop(call);
        fill(&client);
        calls.let_go();
        assert_eq!(read(&client), FULL);
        calls.add(&Arc::new(Call::of(counter()).unwrap()));
        assert_eq!(locked(&calls.0).len(), 1);
    }

    #[test]
    fn a_kick_is_set_back_without_waiting() {
        let client = counter();
        let kick = Kick::of(client.try_clone().unwrap()).unwrap();
        kick.clear();
        rustix::io::write(&client, &SIGNAL).unwrap();
        kick.clear();
        rustix::io::write(&client, &7u64.to_ne_bytes()).unwrap();
        assert_eq!(read(&client), 7);
    }

    #[test]
    fn what_is_none_of_them_is_refused() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let error = Kick::of(file()).unwrap_err().to_string();
        let expected = "found /dev/null where a queue is kicked, expected an eventfd";
        assert_eq!(error, expected);
        let error = Call::of(file()).unwrap_err().to_string();
        let expected = "found /dev/null where a queue's answers are signalled, expected an \
                        eventfd, a socket or a pipe";
        assert_eq!(error, expected);
        assert!(Kick::of(io::pipe().unwrap().0.into()).is_err());
    }
}
