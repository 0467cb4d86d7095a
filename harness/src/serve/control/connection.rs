//! A client of the control socket: its lines, and how long is waited for them.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Started};

use super::answering::answer;
use super::message::{Answer, Request};
use super::{LONGEST_LINE, MOST_CONNECTIONS, MOST_IDLE, PATIENCE, Shared};

/// Bytes that are read at once.
const CHUNK: usize = 4096;

/// Why a client is cut off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("a line is longer than {LONGEST_LINE} bytes")]
    TooLong,
    #[error("a line is unfinished after {} seconds", PATIENCE.as_secs())]
    Slow,
    #[error("no request has come for {} seconds", MOST_IDLE.as_secs())]
    Idle,
    #[error("an answer is not taken after {} seconds", PATIENCE.as_secs())]
    Deaf,
    /// It has gone, which is its right.
    #[error("it has gone")]
    Gone,
}

/// Answers all requests of a client.
pub(super) fn serve(stream: UnixStream, shared: &Arc<Shared>) {
    let export = &shared.export;
    let mut requests = Requests {
        stream: &stream,
        buffer: Vec::new(),
        begun: None,
    };
    let cut = loop {
        let line = match requests.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(cut) => break cut,
        };
        let mut say = |answer: &Answer| say(&stream, answer);
        let served = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => answer(request, shared, &mut say),
            Err(error) => say(&Answer::Error(format!("not a request: {error}"))),
        };
        if let Err(cut) = served {
            break cut;
        }
    };
    if !matches!(cut, Cut::Gone) {
        // If it listens, it hears why.
        let _ = say(&stream, &Answer::Error(format!("cut off: {cut}")));
        export.tell(&format_args!("control: a client was cut off: {cut}"));
    }
}

/// Says to a client for whom there is no room why it is not served.
pub(super) fn turn_away(stream: UnixStream) {
    let error = Answer::Error(format!(
        "found {MOST_CONNECTIONS} clients of the control socket, which is the most, or a server \
         that ends: try again later"
    ));
    // A new connection has room for a line.
    let _ = stream.set_nonblocking(true);
    let _ = write_line(&stream, &error, None);
}

struct Requests<'a> {
    stream: &'a UnixStream,
    /// What has been read and not given out.
    buffer: Vec<u8>,
    /// Since when there is an unfinished line in it.
    begun: Option<Started>,
}

impl Requests<'_> {
    /// The next line, without its line feed; `None` at the end.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, Cut> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(end);
                self.begun = (!self.buffer.is_empty()).then(clock::start);
                return match line.len() > LONGEST_LINE {
                    true => Err(Cut::TooLong),
                    false => Ok(Some(line)),
                };
            }
            if self.buffer.len() > LONGEST_LINE {
                return Err(Cut::TooLong);
            }
            let (patience, or) = match self.begun {
                None => (MOST_IDLE, Cut::Idle),
                Some(begun) => match left(begun) {
                    None => return Err(Cut::Slow),
                    Some(left) => (left, Cut::Slow),
                },
            };
            let mut chunk = [0; CHUNK];
            let read = (self.stream.set_read_timeout(Some(patience)))
                .and_then(|()| self.stream.read(&mut chunk));
            match read {
                Ok(0) if self.buffer.is_empty() => return Ok(None),
                Ok(0) => return Err(Cut::Gone),
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    self.begun.get_or_insert_with(clock::start);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(or),
                    _ => return Err(Cut::Gone),
                },
            }
        }
    }
}

/// What is left of the patience that began then.
fn left(begun: Started) -> Option<Duration> {
    PATIENCE
        .checked_sub(begun.elapsed())
        .filter(|left| !left.is_zero())
}

/// Sends an answer.
pub(super) fn say(stream: &UnixStream, answer: &Answer) -> Result<(), Cut> {
    write_line(stream, answer, Some(clock::start()))
}

/// Writes an answer as a line, within the patience that began then; without it, as much of it as
/// can be written at once.
fn write_line(stream: &UnixStream, answer: &Answer, begun: Option<Started>) -> Result<(), Cut> {
    let mut line = serde_json::to_vec(answer).map_err(|_| Cut::Gone)?;
    line.push(b'\n');
    let mut rest = &line[..];
    let mut stream = stream;
    while !rest.is_empty() {
        if let Some(begun) = begun {
            let left = left(begun).ok_or(Cut::Deaf)?;
            stream
                .set_write_timeout(Some(left))
                .map_err(|_| Cut::Gone)?;
        }
        match stream.write(rest) {
            Ok(0) => return Err(Cut::Gone),
            Ok(n) => rest = &rest[n..],
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Err(Cut::Deaf),
                _ => return Err(Cut::Gone),
            },
        }
    }
    Ok(())
}
