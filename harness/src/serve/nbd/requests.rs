//! The half of a connection that takes requests: read from the socket, checked, and submitted, all
//! that have come at a time. What is answered without the device, such as a request that is
//! refused, it answers itself.

use std::io::{self, BufRead, ErrorKind};
use std::sync::Arc;

use driver::units::SectorRange;

use super::super::budget::{Budget, Permit};
use super::super::client::{Job, Submitter};
use super::super::export::Export;
use super::super::pending::MOST_AT_ONCE;
use super::block_status;
use super::connection::{CutOff, Manner};
use super::input::{Input, READ_AHEAD};
use super::message::{
    Command, Error, LONGEST_TRANSFER, REQUEST_LEN, Request, command_flags, empty_chunk,
};
use super::negotiation::Settled;
use super::replies::{Context, Output, refusals, reply};
use super::stream::{Stream, is_impatience, read_in_time, skip_in_time, time_for};
use super::terms::Terms;
use crate::device::DeviceError;

/// The most requests of a connection that are in flight; those that come after wait in the socket.
pub const MOST_IN_FLIGHT: u64 = 128;

/// The most requests that are submitted together.
const BATCH: usize = 32;

/// A client's requests on their way to the device.
pub(super) struct Requests<'a> {
    pub(super) export: &'a Export,
    pub(super) settled: Settled,
    pub(super) slots: Arc<Budget>,
    pub(super) submitter: Submitter<Context>,
    pub(super) output: Output,
    pub(super) manner: &'a Manner,
}

/// Requests that are submitted together, each with its part of the memory.
type Batch = Vec<(Job, Context, Option<Permit>)>;

/// What becomes of a request.
enum Outcome {
    Submit(Job, Context, Option<Permit>),
    Answer(Vec<u8>),
}

impl Requests<'_> {
    /// Takes requests until there are no more.
    pub(super) fn read_all(&mut self, input: &mut Input<&Stream>) -> Result<(), CutOff> {
        let mut batch = Vec::new();
        loop {
            let has_more = input.buffer().len() >= REQUEST_LEN;
            if !has_more || batch.len() >= BATCH {
                self.submit(&mut batch)?;
            }
            if self.is_ending() {
                self.submit(&mut batch)?;
                return self.refuse_the_rest(input);
            }
            let Some(request) = self.next_request(input)? else {
                return self.submit(&mut batch);
            };
            if self.is_ending() {
                self.submit(&mut batch)?;
                self.refuse_at_the_end(&request, input)?;
                continue;
            }
            // A slot may come free only when what is submitted has ended.
            if self.slots.used() >= MOST_IN_FLIGHT {
                self.submit(&mut batch)?;
            }
            let Some(command) = Command::numbered(request.command) else {
                self.answer(self.refusal(&request, Error::Invalid))?;
                continue;
            };
            if command == Command::Disconnect {
                return self.submit(&mut batch);
            }
            match self.outcome(command, &request, input, &mut batch)? {
                Outcome::Submit(job, context, permit) => batch.push((job, context, permit)),
                Outcome::Answer(bytes) => self.answer(bytes)?,
            }
        }
    }

    /// Whether this endpoint is ending, or all of the server.
    fn is_ending(&self) -> bool {
        self.manner.is_ending() || self.export.is_ending()
    }

    /// The next request; `None` where the client has ended between two.
    fn next_request(&self, input: &mut Input<&Stream>) -> Result<Option<Request>, CutOff> {
        loop {
            match input.fill_buf().map(<[u8]>::is_empty) {
                Ok(true) => return Ok(None),
                Ok(false) => break,
                // It may say nothing as long as it likes. A client that has vanished is another
                // error.
                Err(error) if error.kind() == ErrorKind::WouldBlock => input.shorten(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut bytes = [0; REQUEST_LEN];
        let time = time_for(REQUEST_LEN, self.manner.patience);
        read_in_time(input, &mut bytes, time).map_err(in_the_middle)?;
        Ok(Some(Request::parse(bytes)?))
    }

    /// Answers what has come and was not begun when the server began to end.
    fn refuse_the_rest(&self, input: &mut Input<&Stream>) -> Result<(), CutOff> {
        // A client that goes now, wherever it is, has heard enough.
        while let Ok(Some(request)) = self.next_request(input) {
            if request.command == Command::Disconnect.number() {
                break;
            }
            if self.refuse_at_the_end(&request, input).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn refuse_at_the_end(
        &self,
        request: &Request,
        input: &mut Input<&Stream>,
    ) -> Result<(), CutOff> {
        if request.command == Command::Write.number() {
            let len = request.length as usize;
            let time = time_for(len.min(LONGEST_TRANSFER as usize), self.manner.patience);
            skip_in_time(input, len, time).map_err(in_the_middle)?;
        }
        self.answer(self.refusal(request, Error::Shutdown))
    }

    /// What becomes of a request, whose data is read too.
    fn outcome(
        &mut self,
        command: Command,
        request: &Request,
        input: &mut Input<&Stream>,
        batch: &mut Batch,
    ) -> Result<Outcome, CutOff> {
        let (data, permit) = match command {
            Command::Write => self.write_data(request, input, batch)?,
            _ => (Vec::new(), None),
        };
        let terms = Terms {
            abilities: self.manner.abilities,
            has_contexts: !self.settled.contexts.is_empty(),
            size: self.export.capacity().bytes().0,
        };
        let range = match terms.check(command, request) {
            Ok(range) => range,
            Err(error) => return Ok(Outcome::Answer(self.refusal(request, error))),
        };
        if range.is_empty() && command != Command::Flush {
            return Ok(Outcome::Answer(self.good(request)));
        }
        let fua = request.flags & command_flags::FUA != 0;
        let (job, permit) = match command {
            Command::BlockStatus => return self.block_status(request, range),
            // It is read, so that the host's cache has it; what is longer than a read is not.
            Command::Cache if request.length > LONGEST_TRANSFER => {
                return Ok(Outcome::Answer(self.good(request)));
            }
            Command::Read | Command::Cache => {
                let bytes = u64::from(request.length);
                (Job::Read(range), Some(self.permit(bytes, batch)?))
            }
            Command::Write => {
                let start = range.start;
                (Job::Write { start, data, fua }, permit)
            }
            Command::Trim => (Job::Discard { range, fua }, None),
            Command::WriteZeroes if request.flags & command_flags::NO_HOLE != 0 => {
                // Zeros that keep their space are data, of which no more is there at once.
                let bytes = range.count.min(MOST_AT_ONCE).bytes().0;
                let permit = self.permit(bytes, batch)?;
                (Job::WriteOutZeroes { range, fua }, Some(permit))
            }
            Command::WriteZeroes => (Job::WriteZeroes { range, fua }, None),
            Command::Flush | Command::Disconnect => (Job::Flush, None),
        };
        let context = self.context(command, request);
        Ok(Outcome::Submit(job, context, permit))
    }

    fn context(&self, command: Command, request: &Request) -> Context {
        Context {
            cookie: request.cookie,
            offset: request.offset,
            length: request.length,
            command,
            _slot: self.slots.take(1),
        }
    }

    /// Takes the data of a write off the socket, and its part of the memory. That of a short one
    /// is taken when the data is here, so that a client that stops in the middle holds none; that
    /// of a long one before, and its client is cut off after a time.
    fn write_data(
        &mut self,
        request: &Request,
        input: &mut Input<&Stream>,
        batch: &mut Batch,
    ) -> Result<(Vec<u8>, Option<Permit>), CutOff> {
        let length = request.length;
        if length > LONGEST_TRANSFER {
            return Err(CutOff::TooLong { found: length });
        }
        // What is in the buffer already does not need to wait; the rest may.
        if input.buffer().len() < length as usize {
            self.submit(batch)?;
        }
        let mut data = Vec::new();
        let bytes = u64::from(length);
        let time = time_for(length as usize, self.manner.patience);
        let read = |data: &mut Vec<u8>, input: &mut Input<&Stream>| {
            data.resize(length as usize, 0);
            read_in_time(input, data, time).map_err(in_the_middle)
        };
        if length as usize <= READ_AHEAD {
            read(&mut data, input)?;
            return Ok((data, Some(self.permit(bytes, batch)?)));
        }
        let permit = self.permit(bytes, batch)?;
        read(&mut data, input)?;
        Ok((data, Some(permit)))
    }

    /// A part of the memory. Who waits for it has submitted what it has, or might wait for itself.
    fn permit(&mut self, bytes: u64, batch: &mut Batch) -> Result<Permit, CutOff> {
        if let Some(permit) = self.submitter.share().try_take(bytes) {
            return Ok(permit);
        }
        self.submit(batch)?;
        Ok(self.submitter.share().take(bytes))
    }

    fn block_status(&self, request: &Request, range: SectorRange) -> Result<Outcome, CutOff> {
        let most = block_status::most_extents(request);
        Ok(Outcome::Answer(match self.export.extents(range, most) {
            Err(DeviceError::Stopped) => self.refusal(request, Error::Shutdown),
            Err(_) => return Err(CutOff::Device),
            // It has become smaller.
            Ok(extents) if extents.is_empty() => self.refusal(request, Error::Invalid),
            Ok(extents) => block_status::answer(request, &self.settled.contexts, &extents),
        }))
    }

    fn submit(&mut self, batch: &mut Batch) -> Result<(), CutOff> {
        if batch.is_empty() {
            return Ok(());
        }
        let submitted = self.submitter.submit(std::mem::take(batch));
        submitted.or_else(|refused| {
            // A device that has been stopped refuses what comes until the client has gone.
            let is_ending = refused.iter().all(|one| one.error == DeviceError::Stopped);
            self.answer(refusals(refused, self.settled.structured))?;
            match is_ending {
                true => Ok(()),
                false => Err(CutOff::Device),
            }
        })
    }

    fn answer(&self, bytes: Vec<u8>) -> Result<(), CutOff> {
        self.output.write(&bytes)
    }

    fn refusal(&self, request: &Request, error: Error) -> Vec<u8> {
        let mut bytes = Vec::new();
        let structured = self.settled.structured;
        reply(&mut bytes, structured, request.cookie, Some(error));
        bytes
    }

    /// The answer to what needs nothing done.
    fn good(&self, request: &Request) -> Vec<u8> {
        let mut bytes = Vec::new();
        let is_read = request.command == Command::Read.number();
        match is_read && self.settled.structured {
            true => empty_chunk(&mut bytes, request.cookie),
            false => reply(&mut bytes, self.settled.structured, request.cookie, None),
        }
        bytes
    }
}

fn in_the_middle(error: io::Error) -> CutOff {
    match is_impatience(&error) || error.kind() == ErrorKind::UnexpectedEof {
        true => CutOff::StoppedInTheMiddle,
        false => error.into(),
    }
}
