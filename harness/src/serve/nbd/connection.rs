//! One client's connection, from its first word to its last.
//!
//! Two threads: [`Requests`] reads what the client asks for and submits it, [`Replies`] takes what
//! has ended and answers it.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::budget::Budget;
use super::super::export::Export;
use super::abilities::Abilities;
use super::input::Input;
use super::message::{LONGEST_TRANSFER, Malformed};
use super::negotiation::{NotSettled, Offer, Settled, negotiate};
use super::replies::{Context, Output, Replies};
use super::requests::{MOST_IN_FLIGHT, Requests};
use super::stream::{Hurried, Stream, is_impatience};

/// The stack of a thread of a connection: its buffers are elsewhere.
pub(super) const STACK: usize = 128 << 10;

/// The transfers that suit a device, in bytes.
const PREFERRED: u32 = 4096;

/// How often the patience for one message the whole of a negotiation may take.
const NEGOTIATION_PATIENCES: u32 = 3;

/// How clients are served.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    /// What they may ask for.
    pub(super) abilities: Abilities,
    /// How long one may stop in the middle of a message, or not take its replies.
    pub(super) patience: Duration,
    /// No more requests are taken, also those that have come.
    pub(super) ending: Arc<AtomicBool>,
}

impl Manner {
    /// Whether the server is ending.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}

/// Why a connection was cut off.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutOff {
    #[error("negotiation: {0}")]
    NotSettled(#[from] NotSettled),
    #[error("its negotiation has not ended after {0:?}")]
    StillNegotiating(Duration),
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

/// Serves a client from its first word to its last.
///
/// # Errors
/// Why it was cut off.
pub(super) fn serve(
    export: &Export,
    stream: &Arc<Stream>,
    name: &str,
    manner: &Manner,
) -> Result<(), CutOff> {
    let settled = settle(export, stream, manner)?;
    let (submitter, mut completer) = export.client::<Context>(name.to_owned());
    let lost = Arc::clone(stream);
    completer.when_lost(move || lost.shutdown(Shutdown::Both));
    let output = Output::new(stream, manner.patience);
    let replies = Replies {
        structured: settled.structured,
        output: output.clone(),
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
        manner,
    };
    let mut input = Input::new(&**stream);
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

/// Settles with the client what it wants. Of what it sends no more is read than belongs to that.
fn settle(export: &Export, stream: &Stream, manner: &Manner) -> Result<Settled, CutOff> {
    let offer = Offer {
        description: format!("ubd device of {}", driver::shown(&export.about().path)),
        flags: manner.abilities.flags(),
        preferred: PREFERRED,
    };
    let size = || (!manner.is_ending() && !export.is_ending()).then(|| export.capacity().bytes().0);
    let time = manner.patience * NEGOTIATION_PATIENCES;
    let hurried = Hurried::new(stream, manner.patience, time);
    let settled = negotiate(&hurried, &hurried, &offer, size).map_err(|error| match error {
        NotSettled::Io(error) if is_impatience(&error) => match hurried.is_over() {
            true => CutOff::StillNegotiating(time),
            false => CutOff::StoppedInTheMiddle,
        },
        error => error.into(),
    })?;
    stream.set_patience(manner.patience)?;
    Ok(settled)
}
