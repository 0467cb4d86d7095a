//! The half of a connection that answers: what has ended goes out, as it ends.

use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use driver::blk::Status;

use super::super::budget::Permit;
use super::super::client::{Completer, Done, NoWay};
use super::connection::CutOff;
use super::message::{Command, Error, data_chunk, error_chunk, simple_reply};
use super::stream::{Stream, is_impatience, time_for, write_in_time};
use crate::device::DeviceError;
use crate::locked::locked;

/// Data up to this length is copied, to be sent together with other replies.
const COPIED: usize = 16 << 10;

/// The most bytes that are sent together.
const TOGETHER: usize = 64 << 10;

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
        if self.broken {
            return Err(CutOff::DoesNotRead);
        }
        let time = time_for(bytes.len(), self.patience);
        let written = write_in_time(&*self.stream, bytes, time);
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

    /// Writes `bytes` and then this data; what is short of it is left in `bytes`.
    fn write_data(&mut self, bytes: &mut Vec<u8>, data: Vec<Vec<u8>>) -> Result<(), CutOff> {
        for piece in data {
            if bytes.len() + piece.len() > TOGETHER {
                self.write(bytes)?;
                bytes.clear();
            }
            if piece.len() <= COPIED {
                bytes.extend(piece);
            } else {
                self.write(bytes)?;
                bytes.clear();
                self.write(&piece)?;
            }
        }
        Ok(())
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
        let mut bytes = Vec::new();
        loop {
            match completer.next_batch() {
                Ok(Some(done)) => self.answer(done, &mut bytes)?,
                Ok(None) => return Ok(()),
                Err(_) => {
                    self.answer(completer.left(), &mut bytes)?;
                    return Err(CutOff::Device);
                }
            }
        }
    }

    /// Answers what has ended.
    fn answer(&self, done: Vec<Done<Context>>, bytes: &mut Vec<u8>) -> Result<(), CutOff> {
        let mut output = self.output.open();
        bytes.clear();
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
            output.write_data(bytes, data)?;
        }
        output.write(bytes)
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
