//! A virtio block device over vhost-user, for UML, QEMU and Cloud Hypervisor.
//!
//! A client connects to the endpoint's socket and is the only one until it has gone. Its control
//! messages go through a relay (`relay`) to rust-vmm's library, which maps the guest's memory and
//! has a thread for each queue. A request's way: `queue` takes a batch of chains, `chain` takes one
//! apart, `request` checks what it asks for, `disk` submits it to the export; what has ended is
//! written into the guest's memory and given back to its queue by one thread for all of them.
//! `config` is what the guest reads about the device, `in_flight` is where it is noted what was
//! taken and not answered, and `connection` the life of one client.
//!
//! A client that comes back finds all that it asked for answered, and goes on, as QEMU does; so it
//! does after the server was stopped and started again. After a server was killed, a client that
//! has borrowed memory for what is in flight goes on too, and each of its requests is answered
//! once, unless changes that were answered and not flushed are lost: then it is refused, with a
//! line that says so. Of a client that has borrowed none, nobody knows what was in flight or lost.
//! Its guest has to be started anew.
//!
//! The guest's memory is not trusted. A request that is not as it should be fails, and a queue that
//! is not ends the connection. What is not guarded against is a client that makes the file of its
//! memory shorter while it is served: the system kills whoever touches what was cut off. That loses
//! nothing that was flushed, and the client is the same user. Memory that can be sealed against
//! that is sealed. Nor is it guarded against that a file of the memory is of a file system that the
//! client itself serves, and which does not answer: whoever touches such memory waits.

pub mod chain;
mod config;
mod connection;
mod disk;
mod in_flight;
mod queue;
mod relay;
pub mod request;
mod signals;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use driver::shown;

use crate::locked::locked;

use super::socket::{Listening, listen};
use super::{Endpoint, Export};

use connection::{Channel, Connection};

/// How long an endpoint that is stopped waits for a client at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it waits after an error before it accepts again: most often too many files are open.
const PAUSE: Duration = Duration::from_millis(200);

/// The device for clients that connect to a socket.
#[derive(Debug)]
pub struct VhostUser {
    listening: Arc<Listening>,
    place: String,
    /// It is dropped when the endpoint is to stop.
    stop: Option<Sender<()>>,
    /// It closes when the last client has been answered.
    stopped: Receiver<()>,
}

impl VhostUser {
    /// Listens at `path`, with mode 0600. A name that exists is replaced only if it is a socket
    /// that nobody listens on.
    ///
    /// # Errors
    /// What was found and what was expected, with the path.
    pub fn listen(export: &Export, path: &Path) -> Result<VhostUser, String> {
        let listening = Arc::new(listen(path)?);
        let place = format!("vhost-user at {}", shown(path));
        let (stop, stops) = bounded(0);
        let (stopping, stopped) = bounded(0);
        let accepting = Accepting {
            export: export.clone(),
            listening: Arc::clone(&listening),
            place: place.clone(),
            channel: Arc::default(),
            stops,
            _stopping: stopping,
        };
        accepting.tell_of_changes();
        let thread = Builder::new().name("vhost-user".into());
        let spawned = thread.spawn(move || accepting.run());
        spawned.map_err(|error| format!("{place}: {}", driver::system_words(&error)))?;
        Ok(VhostUser {
            listening,
            place,
            stop: Some(stop),
            stopped,
        })
    }
}

impl Endpoint for VhostUser {
    fn place(&self) -> String {
        self.place.clone()
    }

    fn stop(self: Box<Self>) {
        drop(self);
    }
}

/// However an endpoint goes, its client is answered and its socket is removed.
impl Drop for VhostUser {
    fn drop(&mut self) {
        self.listening.stop();
        drop(self.stop.take());
        // It says nothing, and closes.
        let _ = self.stopped.recv_timeout(PATIENCE);
    }
}

/// Who accepts the clients, one after the other.
struct Accepting {
    export: Export,
    listening: Arc<Listening>,
    place: String,
    channel: Channel,
    stops: Receiver<()>,
    /// Dropped with the rest when it has ended.
    _stopping: Sender<()>,
}

impl Accepting {
    /// Tells the client that is there when the device has another size.
    fn tell_of_changes(&self) {
        let channel = Arc::downgrade(&self.channel);
        self.export.when_resized(Arc::new(move |_| {
            let channel: Option<Arc<Mutex<_>>> = channel.upgrade();
            if let Some(channel) = &channel
                && let Some(channel) = &*locked(channel)
            {
                relay::tell_of_change(channel);
            }
            channel.is_some()
        }));
    }

    fn run(self) {
        let mut current: Option<Connection> = None;
        loop {
            let client = match self.listening.accept() {
                Ok(Some(client)) => client,
                Ok(None) => break,
                Err(error) => {
                    let error = driver::system_words(&error);
                    self.tell(&format_args!("accepting a client: {error}"));
                    match self.stops.recv_timeout(PAUSE) {
                        Err(RecvTimeoutError::Timeout) => continue,
                        _ => break,
                    }
                }
            };
            match current.take() {
                Some(there) if !there.is_ending() => {
                    current = Some(there);
                    self.tell(&"a second client was refused: a disk has one at a time");
                    continue;
                }
                Some(gone) => gone.wait(),
                None => {}
            }
            let begun = Connection::begin(
                client,
                self.export.clone(),
                Arc::clone(&self.channel),
                self.place.clone(),
            );
            match begun {
                Ok(connection) => current = Some(connection),
                Err(error) => self.tell(&format_args!("a client was refused: {error}")),
            }
        }
        if let Some(there) = current {
            there.end();
        }
    }

    fn tell(&self, what: &dyn std::fmt::Display) {
        self.export.tell(&format_args!("{}: {what}", self.place));
    }
}
