//! All connections of an endpoint: how many there may be, and their end.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::export::Export;
use super::abilities::Abilities;
use super::connection::{self, Manner, STACK};
use super::stream::Stream;
use crate::locked::locked;

/// The most connections of an endpoint at a time. Those that come after are refused.
pub const MOST_CONNECTIONS: usize = 1024;

/// How long is waited for one connection less where there is no descriptor for another. Where
/// descriptors are short for another reason, a look as often as this costs little.
const RETRY: Duration = Duration::from_secs(1);

/// The connections of an endpoint.
#[derive(Debug)]
pub(super) struct Crowd {
    export: Export,
    manner: Manner,
    open: Mutex<Open>,
    one_less: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    streams: BTreeMap<u64, Arc<Stream>>,
    /// That there are too many has been said, and nothing has changed since.
    said: bool,
}

/// A connection is open as long as this is there.
struct IsOpen {
    number: u64,
    of: Arc<Crowd>,
}

impl Drop for IsOpen {
    fn drop(&mut self) {
        let mut open = self.of.open();
        open.streams.remove(&self.number);
        open.said = false;
        drop(open);
        self.of.one_less.notify_all();
    }
}

impl Crowd {
    /// Nobody yet.
    pub(super) fn new(export: Export, abilities: Abilities, patience: Duration) -> Arc<Crowd> {
        Arc::new(Crowd {
            export,
            manner: Manner {
                abilities,
                patience,
                ending: Arc::new(AtomicBool::new(false)),
            },
            open: Mutex::new(Open::default()),
            one_less: Condvar::new(),
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        locked(&self.open)
    }

    /// Says something to whoever runs the server.
    pub(super) fn tell(&self, line: &dyn std::fmt::Display) {
        self.export.tell(line);
    }

    /// Serves a client on a thread of its own.
    pub(super) fn begin(self: &Arc<Crowd>, stream: Stream, from: String) {
        let name = format!("NBD, {from}");
        let prepared = stream
            .set_patience(self.manner.patience)
            .and_then(|()| stream.prepare());
        if let Err(error) = prepared {
            let words = driver::system_words(&error);
            return self.tell(&format_args!("{name}: {words}"));
        }
        let stream = Arc::new(stream);
        let Some(is_open) = self.enter(&stream, &name) else {
            return;
        };
        let serve = move || {
            let crowd = &is_open.of;
            if let Err(cut_off) = connection::serve(&crowd.export, &stream, &name, &crowd.manner)
                && !cut_off.is_usual()
            {
                crowd.tell(&format_args!("{name}: cut off: {cut_off}"));
            }
        };
        let thread = std::thread::Builder::new().name("nbd".into());
        if let Err(error) = thread.stack_size(STACK).spawn(serve) {
            // What was to serve it is dropped, and with it the connection.
            let words = driver::system_words(&error);
            self.tell(&format_args!("NBD: starting a thread: {words}"));
        }
    }

    /// Takes the client in, if there is room. That there is none is said once.
    fn enter(self: &Arc<Crowd>, stream: &Arc<Stream>, name: &str) -> Option<IsOpen> {
        let mut open = self.open();
        if open.streams.len() >= MOST_CONNECTIONS {
            let said = std::mem::replace(&mut open.said, true);
            drop(open);
            if !said {
                self.tell(&format_args!(
                    "{name}: refused: {MOST_CONNECTIONS} connections are open"
                ));
            }
            return None;
        }
        let number = open.next;
        open.next += 1;
        open.streams.insert(number, Arc::clone(stream));
        drop(open);
        Some(IsOpen {
            number,
            of: Arc::clone(self),
        })
    }

    /// Waits until a connection has gone, for a second at most.
    pub(super) fn wait_for_one_less(&self) {
        let open = self.open();
        let before = open.streams.len();
        let is_still = |open: &mut Open| open.streams.len() >= before;
        drop(self.one_less.wait_timeout_while(open, RETRY, is_still));
    }

    /// Lets every client go when what it has in flight is answered. One that does not take its
    /// answers in time is cut off.
    pub(super) fn end_all(&self) {
        self.manner.ending.store(true, Ordering::Relaxed);
        let open = self.open();
        for stream in open.streams.values() {
            // It may be waiting for a request.
            stream.shutdown(Shutdown::Read);
        }
        let some_are_left = |open: &mut Open| !open.streams.is_empty();
        let waited = (self.one_less).wait_timeout_while(open, self.manner.patience, some_are_left);
        let (open, _) = waited.unwrap_or_else(PoisonError::into_inner);
        for stream in open.streams.values() {
            stream.shutdown(Shutdown::Both);
        }
        let waited = self.one_less.wait_while(open, some_are_left);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
