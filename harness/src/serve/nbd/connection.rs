//! One client's connection: its requests in, its replies out, as they end.
//!
//! Two threads: one reads requests and submits them, all that have come at a time; the other takes
//! what has ended and writes replies, likewise. What is answered without the device, such as a
//! request that is refused, the first one answers itself.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use driver::blk::Status;
use driver::units::{SECTOR_SIZE, SectorRange};

use super::super::budget::{Budget, Permit};
use super::super::client::{Completer, Done, Job, NoWay, Submitter};
use super::super::export::Export;
use super::super::extents::Extent;
use super::listener::STACK;
use super::message::{
    Command, Error, LONGEST_TRANSFER, Malformed, REQUEST_LEN, Request, block_status_chunk,
    command_flags, data_chunk, empty_chunk, error_chunk, simple_reply,
};
use super::negotiation::{MetaContext, NotSettled, Offer, Settled, flags, negotiate};
use super::stream::{Stream, read_in_time, time_for, write_in_time};

/// The most requests of a connection that are in flight; those that come after wait in the socket.
pub const MOST_IN_FLIGHT: u64 = 128;

/// The most requests that are submitted together.
const BATCH: usize = 32;

/// What is read from the socket at once. Each connection has a buffer of this length, which is most
/// of what one costs that says nothing.
const READ_AHEAD: usize = 32 << 10;

/// Data up to this length is copied, to be sent together with other replies.
const COPIED: usize = 16 << 10;

/// The most bytes that are sent together.
const TOGETHER: usize = 64 << 10;

/// The most extents in an answer.
const MOST_EXTENTS: usize = 128;

/// Extents in an answer end here, so that their lengths fit: a whole number of sectors.
const LONGEST_EXTENTS: u64 = u32::MAX as u64 / SECTOR_SIZE * SECTOR_SIZE;

/// Flags of [`MetaContext::Allocation`]: nothing is allocated, and reads are zeros.
const HOLE_AND_ZERO: u32 = 3;

/// Flag of [`MetaContext::Dirty`].
const DIRTY: u32 = 1;

/// Why a connection was cut off.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutOff {
    #[error("negotiation: {0}")]
    NotSettled(#[from] NotSettled),
    #[error("{}", driver::system_words(.0))]
    Io(#[from] io::Error),
    #[error("it stopped in the middle of a message")]
    StoppedInTheMiddle,
    #[error("it does not take its replies")]
    DoesNotRead,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("found a write of {found} bytes, expected at most {LONGEST_TRANSFER}")]
    TooLong { found: u32 },
    #[error("the device does not go on")]
    Device,
}

impl CutOff {
    /// Whether that is how connections end, and not worth a word.
    pub(super) fn is_usual(&self) -> bool {
        match self {
            CutOff::NotSettled(NotSettled::Ended) => true,
            CutOff::NotSettled(NotSettled::Io(error)) | CutOff::Io(error) => matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
            ),
            _ => false,
        }
    }
}

/// What a reply needs of its request.
struct Context {
    cookie: u64,
    offset: u64,
    length: u32,
    /// A read is answered with its data.
    is_read: bool,
    _slot: Permit,
}

/// Where replies go. Whole messages, one after the other.
struct Output {
    stream: Arc<Stream>,
    /// How long the client may take no replies.
    patience: Duration,
    /// Nothing more goes out.
    broken: bool,
}

/// Serves a client from its first word to its last.
///
/// # Errors
/// Why it was cut off.
pub(super) fn serve(
    export: &Export,
    stream: &Arc<Stream>,
    name: &str,
    (is_ending, patience): (&AtomicBool, Duration),
) -> Result<(), CutOff> {
    let offer = Offer {
        description: format!("ubd device of {}", driver::shown(&export.about().path)),
        flags: flags(export.about().read_only),
        preferred: 4096,
    };
    let mut input = BufReader::with_capacity(READ_AHEAD, &**stream);
    let size = || export.capacity().bytes().0;
    let settled = negotiate(&mut input, &**stream, &offer, size);
    let settled = settled.map_err(|error| match error {
        NotSettled::Io(error) if is_impatience(&error) => CutOff::StoppedInTheMiddle,
        error => error.into(),
    })?;
    let (submitter, mut completer) = export.client::<Context>(name.to_owned());
    let lost = Arc::clone(stream);
    completer.when_lost(move || lost.shutdown(Shutdown::Both));
    let output = Arc::new(Mutex::new(Output {
        stream: Arc::clone(stream),
        patience,
        broken: false,
    }));
    let replies = Replies {
        structured: settled.structured,
        output: Arc::clone(&output),
    };
    let writer = std::thread::Builder::new()
        .name("nbd-replies".into())
        .stack_size(STACK)
        .spawn(move || replies.answer_all(&completer))?;
    let mut requests = Requests {
        export,
        settled,
        slots: Budget::new(MOST_IN_FLIGHT),
        submitter,
        output,
        is_ending,
        patience,
    };
    let read = requests.read_all(&mut input);
    // Those in flight end, and then the replies.
    drop(requests);
    let wrote = writer.join().unwrap_or(Err(CutOff::Device));
    stream.shutdown(Shutdown::Both);
    // The side that broke off tells why; the other one only noticed.
    match (read, wrote) {
        (Err(read), Err(_)) if !read.is_usual() => Err(read),
        (_, Err(wrote)) => Err(wrote),
        (read, Ok(())) => read,
    }
}

struct Requests<'a> {
    export: &'a Export,
    settled: Settled,
    slots: Arc<Budget>,
    submitter: Submitter<Context>,
    output: Arc<Mutex<Output>>,
    /// No more requests are taken, also those that have come.
    is_ending: &'a AtomicBool,
    /// How long the client may stop in the middle of a message.
    patience: Duration,
}

/// What becomes of a request.
enum Outcome {
    Submit(Job, Context, Option<Permit>),
    Answer(Vec<u8>),
}

impl Requests<'_> {
    fn read_all(&mut self, input: &mut BufReader<&Stream>) -> Result<(), CutOff> {
        let mut batch = Vec::new();
        loop {
            let has_more = input.buffer().len() >= REQUEST_LEN;
            if !has_more || batch.len() >= BATCH {
                self.submit(&mut batch)?;
            }
            if self.is_ending.load(Ordering::Relaxed) {
                return self.submit(&mut batch);
            }
            let Some(request) = next_request(input, self.patience)? else {
                return self.submit(&mut batch);
            };
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

    /// What becomes of a request, whose data is read too.
    fn outcome(
        &mut self,
        command: Command,
        request: &Request,
        input: &mut BufReader<&Stream>,
        batch: &mut Vec<(Job, Context, Option<Permit>)>,
    ) -> Result<Outcome, CutOff> {
        let (data, permit) = match command {
            Command::Write => self.write_data(request, input, batch)?,
            _ => (Vec::new(), None),
        };
        let range = match self.check(command, request) {
            Ok(range) => range,
            Err(error) => return Ok(Outcome::Answer(self.refusal(request, error))),
        };
        let fua = request.flags & command_flags::FUA != 0;
        let (job, permit) = match command {
            Command::BlockStatus => return self.block_status(request, range),
            Command::Read => {
                let bytes = u64::from(request.length);
                (Job::Read(range), Some(self.permit(bytes, batch)?))
            }
            // It is read, so that the host's cache has it; what is longer than a read is not.
            Command::Cache if request.length > LONGEST_TRANSFER => {
                return Ok(Outcome::Answer(self.good(request)));
            }
            Command::Cache => {
                let bytes = u64::from(request.length);
                (Job::Read(range), Some(self.permit(bytes, batch)?))
            }
            Command::Write => {
                let start = range.start;
                (Job::Write { start, data, fua }, permit)
            }
            Command::Trim => (Job::Discard { range, fua }, None),
            Command::WriteZeroes if request.flags & command_flags::NO_HOLE != 0 => {
                return self.zeros_with_space(request, range, batch);
            }
            Command::WriteZeroes => (Job::WriteZeroes { range, fua }, None),
            Command::Flush | Command::Disconnect => (Job::Flush, None),
        };
        let is_empty = range.is_empty() && command != Command::Flush;
        if is_empty {
            return Ok(Outcome::Answer(self.good(request)));
        }
        let context = self.context(request, command == Command::Read);
        Ok(Outcome::Submit(job, context, permit))
    }

    /// Zeros that keep their space are data.
    fn zeros_with_space(
        &mut self,
        request: &Request,
        range: SectorRange,
        batch: &mut Vec<(Job, Context, Option<Permit>)>,
    ) -> Result<Outcome, CutOff> {
        let is_fast = request.flags & command_flags::FAST_ZERO != 0;
        if is_fast || request.length > LONGEST_TRANSFER {
            // The client writes them itself then, in pieces.
            let error = match is_fast {
                true => Error::NotSupported,
                false => Error::Overflow,
            };
            return Ok(Outcome::Answer(self.refusal(request, error)));
        }
        if range.is_empty() {
            return Ok(Outcome::Answer(self.good(request)));
        }
        let permit = self.permit(u64::from(request.length), batch)?;
        let job = Job::Write {
            start: range.start,
            data: vec![0; request.length as usize],
            fua: request.flags & command_flags::FUA != 0,
        };
        Ok(Outcome::Submit(
            job,
            self.context(request, false),
            Some(permit),
        ))
    }

    fn context(&self, request: &Request, is_read: bool) -> Context {
        Context {
            cookie: request.cookie,
            offset: request.offset,
            length: request.length,
            is_read,
            _slot: self.slots.take(1),
        }
    }

    /// The sectors of a request that the device can have.
    fn check(&self, command: Command, request: &Request) -> Result<SectorRange, Error> {
        let known = match command {
            Command::Write | Command::Trim => command_flags::FUA,
            Command::WriteZeroes => {
                command_flags::FUA | command_flags::NO_HOLE | command_flags::FAST_ZERO
            }
            Command::Read => command_flags::DF | command_flags::FUA,
            Command::BlockStatus => command_flags::REQ_ONE | command_flags::FUA,
            // Some clients set it everywhere.
            Command::Flush | Command::Cache | Command::Disconnect => command_flags::FUA,
        };
        if request.flags & !known != 0 {
            return Err(Error::Invalid);
        }
        let changes = matches!(
            command,
            Command::Write | Command::Trim | Command::WriteZeroes
        );
        if changes && self.export.about().read_only {
            return Err(Error::NotPermitted);
        }
        match command {
            Command::Flush | Command::Disconnect => return Ok(SectorRange::default()),
            Command::Read if request.length > LONGEST_TRANSFER => return Err(Error::Overflow),
            Command::BlockStatus if self.settled.contexts.is_empty() || request.length == 0 => {
                return Err(Error::Invalid);
            }
            _ => {}
        }
        let range = self
            .export
            .sectors(request.offset, u64::from(request.length));
        range.ok_or_else(|| {
            let end = request.offset.checked_add(u64::from(request.length));
            let is_past_end = end.is_none_or(|end| end > self.export.capacity().bytes().0);
            match changes && is_past_end {
                true => Error::NoSpace,
                false => Error::Invalid,
            }
        })
    }

    /// Takes the data of a write off the socket, and its part of the memory. That of a short one
    /// is taken when the data is here, so that a client that stops in the middle holds none; that
    /// of a long one before, and its client is cut off after a time.
    fn write_data(
        &mut self,
        request: &Request,
        input: &mut BufReader<&Stream>,
        batch: &mut Vec<(Job, Context, Option<Permit>)>,
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
        let time = time_for(length as usize, self.patience);
        let read = |data: &mut Vec<u8>, input: &mut BufReader<&Stream>| {
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
    fn permit(
        &mut self,
        bytes: u64,
        batch: &mut Vec<(Job, Context, Option<Permit>)>,
    ) -> Result<Permit, CutOff> {
        if let Some(permit) = self.submitter.share().try_take(bytes) {
            return Ok(permit);
        }
        self.submit(batch)?;
        Ok(self.submitter.share().take(bytes))
    }

    fn block_status(&self, request: &Request, range: SectorRange) -> Result<Outcome, CutOff> {
        let most = match request.flags & command_flags::REQ_ONE != 0 {
            true => 1,
            false => MOST_EXTENTS,
        };
        let extents = self.export.extents(range, most);
        let extents = extents.map_err(|_| CutOff::Device)?;
        if extents.is_empty() {
            // It has become smaller.
            return Ok(Outcome::Answer(self.refusal(request, Error::Invalid)));
        }
        let mut answer = Vec::new();
        let contexts = &self.settled.contexts;
        for (number, context) in contexts.iter().enumerate() {
            let described = described(*context, &extents, most);
            let is_last = number + 1 == contexts.len();
            let id = context.id();
            block_status_chunk(&mut answer, request.cookie, id, &described, is_last);
        }
        Ok(Outcome::Answer(answer))
    }

    fn submit(&mut self, batch: &mut Vec<(Job, Context, Option<Permit>)>) -> Result<(), CutOff> {
        if batch.is_empty() {
            return Ok(());
        }
        let submitted = self.submitter.submit(std::mem::take(batch));
        submitted.map_err(|refused: Vec<NoWay<Context>>| {
            drop(refused);
            CutOff::Device
        })
    }

    fn answer(&self, bytes: Vec<u8>) -> Result<(), CutOff> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.write(&bytes)
    }

    fn refusal(&self, request: &Request, error: Error) -> Vec<u8> {
        let mut bytes = Vec::new();
        reply(
            &mut bytes,
            self.settled.structured,
            request.cookie,
            Some(error),
        );
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

fn reply(bytes: &mut Vec<u8>, structured: bool, cookie: u64, error: Option<Error>) {
    match error {
        Some(error) if structured => error_chunk(bytes, cookie, error),
        error => simple_reply(bytes, cookie, error),
    }
}

/// The next request; `None` where the client has ended between two.
fn next_request(
    input: &mut BufReader<&Stream>,
    patience: Duration,
) -> Result<Option<Request>, CutOff> {
    loop {
        match input.fill_buf() {
            Ok([]) => return Ok(None),
            Ok(_) => break,
            // It may say nothing as long as it likes.
            Err(error) if is_impatience(&error) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut bytes = [0; REQUEST_LEN];
    let time = time_for(REQUEST_LEN, patience);
    read_in_time(input, &mut bytes, time).map_err(in_the_middle)?;
    Ok(Some(Request::parse(bytes)?))
}

/// Whether the time is up that was given to the client.
fn is_impatience(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn in_the_middle(error: io::Error) -> CutOff {
    match is_impatience(&error) || error.kind() == ErrorKind::UnexpectedEof {
        true => CutOff::StoppedInTheMiddle,
        false => error.into(),
    }
}

/// The extents as one meta context has them, at most `most`; neighbours differ.
fn described(context: MetaContext, extents: &[Extent], most: usize) -> Vec<(u32, u32)> {
    let mut described: Vec<(u64, u32)> = Vec::new();
    let mut total = 0;
    for extent in extents {
        let flags = match context {
            MetaContext::Allocation if extent.hole => HOLE_AND_ZERO,
            MetaContext::Dirty if extent.dirty => DIRTY,
            _ => 0,
        };
        let length = extent.sectors.count.bytes().0.min(LONGEST_EXTENTS - total);
        total += length;
        if let Some(last) = described.last_mut().filter(|last| last.1 == flags) {
            last.0 += length;
        } else if length > 0 && described.len() < most {
            described.push((length, flags));
        } else {
            break;
        }
    }
    // No sum is longer than the longest.
    let fits = |(length, flags)| (length as u32, flags);
    described.into_iter().map(fits).collect()
}

struct Replies {
    structured: bool,
    output: Arc<Mutex<Output>>,
}

impl Replies {
    fn answer_all(&self, completer: &Completer<Context>) -> Result<(), CutOff> {
        let ended = self.answer_until_the_end(completer);
        if ended.is_err() {
            // The reader learns of it, and what is in flight is dropped when it ends.
            let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
            output.stream.shutdown(Shutdown::Both);
            drop(output);
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

    fn answer(&self, done: Vec<Done<Context>>, bytes: &mut Vec<u8>) -> Result<(), CutOff> {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.clear();
        // Kept until what they stand for is out.
        let mut permits = Vec::with_capacity(done.len());
        for Done {
            context,
            status,
            data,
            permit,
        } in done
        {
            permits.push(permit);
            match error_of(status) {
                None if context.is_read => match self.structured {
                    true => data_chunk(bytes, context.cookie, context.offset, context.length),
                    false => simple_reply(bytes, context.cookie, None),
                },
                error => {
                    reply(bytes, self.structured, context.cookie, error);
                    continue;
                }
            }
            for piece in data {
                if bytes.len() + piece.len() > TOGETHER {
                    output.write(bytes)?;
                    bytes.clear();
                }
                if piece.len() <= COPIED {
                    bytes.extend(piece);
                } else {
                    output.write(bytes)?;
                    bytes.clear();
                    output.write(&piece)?;
                }
            }
        }
        output.write(bytes)
    }
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> Result<(), CutOff> {
        if self.broken {
            return Err(CutOff::DoesNotRead);
        }
        let time = time_for(bytes.len(), self.patience);
        let written = write_in_time(&*self.stream, bytes, time);
        written.map_err(|error| {
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

fn error_of(status: Status) -> Option<Error> {
    match status {
        Status::Ok => None,
        Status::NotSupported => Some(Error::NotSupported),
        Status::NoSpace => Some(Error::NoSpace),
        Status::IoError => Some(Error::Io),
        Status::Invalid => Some(Error::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use driver::units::{Sector, SectorCount};

    use super::*;

    fn extent(start: u64, count: u64, dirty: bool, hole: bool) -> Extent {
        Extent {
            sectors: SectorRange::new(Sector(start), SectorCount(count)),
            dirty,
            hole,
        }
    }

    #[test]
    fn each_context_has_extents_of_its_own() {
        let extents = [
            extent(0, 1, true, false),
            extent(1, 2, false, false),
            extent(3, 1, false, true),
        ];
        let allocated = described(MetaContext::Allocation, &extents, 9);
        assert_eq!(allocated, [(1536, 0), (512, 3)]);
        let dirty = described(MetaContext::Dirty, &extents, 9);
        assert_eq!(dirty, [(512, 1), (1536, 0)]);
        assert_eq!(described(MetaContext::Dirty, &extents, 1), [(512, 1)]);
        // Longer than a length on the wire.
        let long = [
            extent(0, 1 << 24, true, false),
            extent(1 << 24, 8, true, false),
        ];
        let told = described(MetaContext::Dirty, &long, 9);
        assert_eq!(told, [(0xffff_fe00, 1)]);
    }
}
