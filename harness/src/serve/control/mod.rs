//! The control socket: how a device that is served is doing, and what its owner wants of it.
//!
//! A Unix socket that only its owner can connect to. A client sends requests, a JSON object a line,
//! and gets answers, a JSON object a line. Each request is answered before the next one is read. A
//! line has at most 32 KiB. Sizes are in bytes, and times in nanoseconds. A field that is not
//! listed here is an error, and so is a request.
//!
//! ```text
//! {"request":"status"}
//!     {"status":{...}}                     the fields of `DeviceStatus`
//!
//! {"request":"resize","size_bytes":N}      or "change_bytes", which may be negative; and
//!                                          "strategy":"headroom" | "rebuild" | "reflow",
//!                                          "shrink":true, "lose_data":true, "detach":true
//!     {"resizing":{...}}                   several times a second, the fields of `ResizeStatus`
//!     {"resized":{...}}                    it has ended well
//!     {"detached":{...}}                   of one with "detach": it is planned, and goes on
//!
//! {"request":"plan","size_bytes":N}        as for a resize, but for "detach"
//!     {"planned":{...}}                    the fields of `ResizePlan`; nothing is done
//!
//! {"request":"record","file":PATH}         an absolute path that does not exist yet
//!     {"recorded":{...}}                   if that ends an earlier recording, which is whole now
//!     {"recording":{...}}                  the fields of `RecordingStatus`
//!
//! {"request":"record","off":true}
//!     {"recorded":{...}}                   the file is whole
//!
//! {"request":"flush"}
//!     {"flushed":true}                     all that was done before is durable
//!
//! {"request":"stop"}
//!     {"stopped":true}                     the device is closed, and all of it is durable
//! ```
//!
//! In the place of any answer, `{"error":"..."}` says why something failed, and is the last answer
//! to its request. A resize goes on in the server when its client has gone.
//!
//! A client that takes no answer for 10 seconds is cut off, and so is one that stops for 10 seconds
//! in the middle of a line, or for 10 minutes between two. At most 16 clients are connected at
//! once: one more takes the place of the one that has been without a request the longest. Where
//! each waits for an answer it is turned away.

mod answering;
mod asking;
mod connection;
mod message;

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use driver::shown;

use crate::locked::locked;

use super::export::Export;
use super::socket::{self, Listening};

pub use asking::{Asking, NoAnswer};
pub use message::{Answer, PlannedLayout, Request, ResizeAnswer, ResizePlan, WishedStrategy};

/// The most clients at once.
const MOST_CONNECTIONS: usize = 16;

/// The longest that a client may take to take an answer, or to finish a line that it has begun.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest that a client may stay without a request.
const MOST_IDLE: Duration = Duration::from_secs(600);

/// The longest line of a client, in bytes.
const LONGEST_LINE: usize = 32 << 10;

/// How long is waited when the system has no descriptor left for a client.
const RETRY: Duration = Duration::from_secs(1);

/// A control socket that is listened on.
#[derive(Debug)]
pub struct Control {
    /// There until nobody is accepted any more.
    listening: Option<Arc<Listening>>,
    place: String,
    shared: Arc<Clients>,
    accepts: Option<JoinHandle<()>>,
}

/// What the clients of a control socket share.
#[derive(Debug)]
struct Clients {
    export: Export,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the next client, and of the next request that ends.
    next: u64,
    clients: BTreeMap<u64, Connected>,
    /// How the server has ended, once it has.
    ended: Option<Result<(), String>>,
}

/// A client that is there.
#[derive(Debug)]
struct Connected {
    stream: UnixStream,
    /// Of those that have no request under way, the one with the least number has had none for the
    /// longest time.
    idle_since: Option<u64>,
}

impl Control {
    /// Listens at `path`; see [`socket::listen`].
    ///
    /// # Errors
    /// Why not, with the path.
    pub fn listen(path: &Path, export: Export) -> Result<Control, String> {
        let listening = Arc::new(socket::listen(path)?);
        let shared = Arc::new(Clients {
            export,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (from, with) = (Arc::clone(&listening), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("control".into());
        let accepts = thread.spawn(move || accept(&from, &with));
        let accepts = accepts.map_err(|error| {
            format!(
                "{}: listening: {}",
                shown(path),
                driver::system_words(error)
            )
        })?;
        Ok(Control {
            place: format!("control at {}", shown(listening.path())),
            listening: Some(listening),
            shared,
            accepts: Some(accepts),
        })
    }

    /// Where it listens, as in a message.
    pub fn place(&self) -> String {
        self.place.clone()
    }

    /// Lets the clients go, after the device has been closed with this outcome. Whoever has asked
    /// for the end hears of it; by then the name of the socket is free for another server.
    pub fn end(mut self, closed: Result<(), String>) {
        self.stop_listening();
        self.shared.state().ended = Some(closed);
    }

    fn stop_listening(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.stop();
            self.shared.changed.notify_all();
            if let Some(accepts) = self.accepts.take() {
                // It does not panic, and if it has, nobody is accepted either.
                let _ = accepts.join();
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop_listening();
        let mut state = self.shared.state();
        let unknown = || Err("the server has ended early, and says why".to_owned());
        state.ended.get_or_insert_with(unknown);
        drop(state);
        self.shared.changed.notify_all();
        // Answers that are under way go out; nothing more is read.
        let mut state = self.shared.state();
        for client in state.clients.values() {
            let _ = client.stream.shutdown(Shutdown::Read);
        }
        while !state.clients.is_empty() {
            let waited = self.shared.changed.wait_timeout(state, PATIENCE);
            let (after, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = after;
            if timeout.timed_out() {
                break;
            }
        }
    }
}

impl Clients {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Waits until the server has ended.
    fn ended(&self) -> Result<(), String> {
        let mut state = self.state();
        loop {
            match &state.ended {
                Some(ended) => return ended.clone(),
                None => {
                    let waited = self.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// The number of a new client, if there is room for it, or one that is idle makes room.
    fn enter(&self, stream: &UnixStream) -> Option<u64> {
        let stream = stream.try_clone().ok()?;
        let mut state = self.state();
        if state.ended.is_some() {
            return None;
        }
        let displaced = match state.clients.len() >= MOST_CONNECTIONS {
            true => Some(state.take_idle()?),
            false => None,
        };
        let number = state.count();
        let idle_since = Some(number);
        state
            .clients
            .insert(number, Connected { stream, idle_since });
        drop(state);
        if let Some(displaced) = displaced {
            connection::displace(&displaced.stream);
            self.export
                .tell(&"control: a client that was idle was cut off: another one has come");
        }
        Some(number)
    }

    /// A client has sent a request. Whether it is still one: it may have lost its place meanwhile.
    fn begin(&self, number: u64) -> bool {
        let mut state = self.state();
        let client = state.clients.get_mut(&number);
        client.map(|client| client.idle_since = None).is_some()
    }

    /// The request of a client has been answered.
    fn end(&self, number: u64) {
        let mut state = self.state();
        let now = state.count();
        if let Some(client) = state.clients.get_mut(&number) {
            client.idle_since = Some(now);
        }
    }

    fn leave(&self, number: u64) {
        self.state().clients.remove(&number);
        self.changed.notify_all();
    }
}

impl State {
    fn count(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Takes the client out that has been idle for the longest time, if one is idle.
    fn take_idle(&mut self) -> Option<Connected> {
        let idle = (self.clients.iter())
            .filter_map(|(&number, client)| client.idle_since.map(|since| (since, number)));
        let (_, number) = idle.min()?;
        self.clients.remove(&number)
    }
}

/// Accepts clients until the socket is stopped.
fn accept(listening: &Listening, shared: &Arc<Clients>) {
    loop {
        let stream = match listening.accept() {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(error) => {
                let error = driver::system_words(error);
                let export = &shared.export;
                export.tell(&format_args!("control: accepting a client: {error}"));
                // One of ours may go meanwhile; others' descriptors nobody tells of.
                let waited = shared.changed.wait_timeout(shared.state(), RETRY);
                drop(waited);
                continue;
            }
        };
        let Some(number) = shared.enter(&stream) else {
            connection::turn_away(stream);
            continue;
        };
        let with = Arc::clone(shared);
        let serve = move || {
            connection::serve(stream, &with, number);
            with.leave(number);
        };
        let thread = std::thread::Builder::new().name("control-client".into());
        if thread.spawn(serve).is_err() {
            shared.leave(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_goes_that_is_idle_for_the_longest_time() {
        let mut state = State::default();
        for (number, idle_since) in [(1, Some(9)), (2, None), (3, Some(7)), (4, Some(8))] {
            let (stream, _) = UnixStream::pair().unwrap();
            state
                .clients
                .insert(number, Connected { stream, idle_since });
        }
        let mut left = || {
            state.take_idle()?;
            Some(state.clients.keys().copied().collect::<Vec<_>>())
        };
        assert_eq!(left(), Some(vec![1, 2, 4]));
        assert_eq!(left(), Some(vec![1, 2]));
        assert_eq!(left(), Some(vec![2]));
        // One that waits for an answer stays.
        assert_eq!(left(), None);
    }
}
