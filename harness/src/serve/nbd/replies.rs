//! The half of a connection that answers: what has ended goes out, as it ends.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use driver::blk::Status;

use super::super::budget::Permit;
use super::super::client::{Completer, Done, NoWay};
use super::connection::CutOff;
use super::message::{Command, Error, data_chunk, error_chunk, simple_reply};
use super::outgoing::Outgoing;
use super::stream::{Stream, is_impatience, time_for, write_in_time};
use crate::device::DeviceError;
use crate::locked::locked;

/// What a reply needs of its request.
pub(super) struct Context {
    pub(super) cookie: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) command: Command,
    pub(super) _slot: Permit,
}

/// Where replies go. Whole messages, one after the other.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Open>>);

struct Open {
    stream: Arc<Stream>,
    /// How long the client may take no replies.
    patience: Duration,
    /// Nothing more goes out.
    broken: bool,
}

impl Output {
    pub(super) fn new(stream: &Arc<Stream>, patience: Duration) -> Output {
        Output(Arc::new(Mutex::new(Open {
            stream: Arc::clone(stream),
            patience,
            broken: false,
        })))
    }

    /// Writes a message, or several.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), CutOff> {
        self.open().write(bytes)
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        locked(&self.0)
    }
}

impl Open {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CutOff> {
        self.write_all(&mut [IoSlice::new(bytes)], bytes.len())
    }

    /// Sends what is to go out together.
    fn send(&mut self, outgoing: &mut Outgoing) -> Result<(), CutOff> {
        self.write_all(&mut outgoing.slices(), outgoing.len())?;
        outgoing.clear();
        Ok(())
    }

    fn write_all(&mut self, slices: &mut [IoSlice<'_>], len: usize) -> Result<(), CutOff> {
        if self.broken {
            return Err(CutOff::DoesNotRead);
        }
        let time = time_for(len, self.patience);
        let written = write_in_time(&*self.stream, slices, time);
        written.map_err(|error: io::Error| {
            // Nobody knows how much of the message is out.
            self.broken = true;
            self.stream.shutdown(Shutdown::Both);
            match is_impatience(&error) {
                true => CutOff::DoesNotRead,
                false => error.into(),
            }
        })
    }
}

/// Prints an answer without data.
pub(super) fn reply(bytes: &mut Vec<u8>, structured: bool, cookie: u64, error: Option<Error>) {
    match error {
        Some(error) if structured => error_chunk(bytes, cookie, error),
        error => simple_reply(bytes, cookie, error),
    }
}

/// Takes what has ended, and answers it.
pub(super) struct Replies {
    pub(super) structured: bool,
    pub(super) output: Output,
}

impl Replies {
    /// Answers until all has ended.
    pub(super) fn answer_all(&self, completer: &Completer<Context>) -> Result<(), CutOff> {
        let ended = self.answer_until_the_end(completer);
        if ended.is_err() {
            // The reader learns of it, and what is in flight is dropped when it ends.
            self.output.open().stream.shutdown(Shutdown::Both);
            completer.give_up();
            while let Ok(Some(_)) = completer.next_batch() {}
        }
        ended
    }

    fn answer_until_the_end(&self, completer: &Completer<Context>) -> Result<(), CutOff> {
        let mut outgoing = Outgoing::default();
        loop {
            match completer.next_batch() {
                Ok(Some(done)) => self.answer(done, &mut outgoing)?,
                Ok(None) => return Ok(()),
                Err(_) => {
                    self.answer(completer.left(), &mut outgoing)?;
                    return Err(CutOff::Device);
                }
            }
        }
    }

    /// Answers what has ended.
    fn answer(&self, done: Vec<Done<Context>>, outgoing: &mut Outgoing) -> Result<(), CutOff> {
        let mut output = self.output.open();
        // Kept until what they stand for is out.
        let mut permits = Vec::with_capacity(done.len());
        for Done {
            context,
            status,
            is_given_up,
            data,
            permit,
        } in done
        {
            permits.push(permit);
            let error = match is_given_up {
                true => Some(Error::Shutdown),
                false => error_of(status, context.command),
            };
            let bytes = &mut outgoing.heads;
            match error {
                None if context.command == Command::Read => match self.structured {
                    true => data_chunk(bytes, context.cookie, context.offset, context.length),
                    false => simple_reply(bytes, context.cookie, None),
                },
                error => {
                    reply(bytes, self.structured, context.cookie, error);
                    continue;
                }
            }
            for piece in data {
                outgoing.push_data(piece);
                if outgoing.is_full() {
                    output.send(outgoing)?;
                }
            }
        }
        output.send(outgoing)
    }
}

/// The answers to requests that the device does not take.
pub(super) fn refusals(refused: Vec<NoWay<Context>>, structured: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for NoWay { error, context } in refused {
        let error = match error {
            DeviceError::Stopped => Error::Shutdown,
            _ => Error::Io,
        };
        reply(&mut bytes, structured, context.cookie, Some(error));
    }
    bytes
}

fn error_of(status: Status, command: Command) -> Option<Error> {
    match status {
        Status::Ok => None,
        // A trim is a hint.
        Status::NotSupported if command == Command::Trim => None,
        Status::NotSupported => Some(Error::NotSupported),
        Status::NoSpace => Some(Error::NoSpace),
        Status::IoError => Some(Error::Io),
        Status::Invalid => Some(Error::Invalid),
    }
}
