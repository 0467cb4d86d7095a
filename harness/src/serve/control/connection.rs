//! A client of the control socket: its lines, and how long is waited for them.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Started};

use super::answering::answer;
use super::message::{Answer, Request};
use super::{Clients, LONGEST_LINE, MOST_CONNECTIONS, MOST_IDLE, PATIENCE};

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
    /// It has been told so.
    #[error("another client has come, and this one was idle for the longest time")]
    Displaced,
    /// It has gone, which is its right.
    #[error("it has gone")]
    Gone,
}

/// Answers all requests of a client.
pub(super) fn serve(stream: UnixStream, shared: &Arc<Clients>, number: u64) {
    let export = &shared.export;
    let mut requests = Requests {
        stream: &stream,
        buffer: Vec::new(),
        begun: None,
        patience: PATIENCE,
    };
    let cut = loop {
        let line = match requests.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(cut) => break cut,
        };
        if !shared.begin(number) {
            break Cut::Displaced;
        }
        let mut say = |answer: &Answer| say(&stream, answer);
        let served = match Request::parse(&line) {
            Ok(request) => answer(request, shared, &mut say),
            Err(error) => say(&Answer::Error(error)),
        };
        if let Err(cut) = served {
            break cut;
        }
        shared.end(number);
    };
    if !matches!(cut, Cut::Gone | Cut::Displaced) {
        // If it listens, it hears why.
        let _ = say(&stream, &Answer::Error(format!("cut off: {cut}")));
        export.tell(&format_args!("control: a client was cut off: {cut}"));
    }
}

/// Lets an idle client go whose place another one takes.
pub(super) fn displace(stream: &UnixStream) {
    let error = Answer::Error(format!("cut off: {}", Cut::Displaced));
    // It has taken all its answers, so that there is room for a line.
    let _ = stream.set_nonblocking(true);
    let _ = write_line(stream, &error, None);
    let _ = stream.shutdown(Shutdown::Both);
}

/// Says to a client for whom there is no room why it is not served.
pub(super) fn turn_away(stream: UnixStream) {
    let error = Answer::Error(format!(
        "found {MOST_CONNECTIONS} clients of the control socket that wait for answers, which is the \
         most, or a server that ends: try again later"
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
    /// How long that may last.
    patience: Duration,
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
                Some(begun) => match left(begun, self.patience) {
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
fn left(begun: Started, patience: Duration) -> Option<Duration> {
    patience
        .checked_sub(begun.elapsed())
        .filter(|left| !left.is_zero())
}

/// Sends an answer.
pub(super) fn say(stream: &UnixStream, answer: &Answer) -> Result<(), Cut> {
    write_line(stream, answer, Some(PATIENCE))
}

/// Writes an answer as a line, within this time; without it, as much of it as can be written at
/// once.
fn write_line(stream: &UnixStream, answer: &Answer, patience: Option<Duration>) -> Result<(), Cut> {
    let mut line = serde_json::to_vec(answer).map_err(|_| Cut::Gone)?;
    line.push(b'\n');
    let begun = clock::start();
    let mut rest = &line[..];
    let mut stream = stream;
    while !rest.is_empty() {
        if let Some(patience) = patience {
            let left = left(begun, patience).ok_or(Cut::Deaf)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    fn requests(stream: &UnixStream) -> Requests<'_> {
        Requests {
            stream,
            buffer: Vec::new(),
            begun: None,
            patience: SHORT,
        }
    }

    #[test]
    fn lines_come_one_after_the_other_however_they_were_sent() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"one\n\ntw").unwrap();
        let mut requests = requests(&server);
        assert_eq!(requests.next_line().unwrap().unwrap(), b"one");
        assert_eq!(requests.next_line().unwrap().unwrap(), b"");
        client.write_all(b"o\n").unwrap();
        assert_eq!(requests.next_line().unwrap().unwrap(), b"two");
        assert!(requests.begun.is_none());
        drop(client);
        assert!(requests.next_line().unwrap().is_none());
    }

    #[test]
    fn a_client_that_stops_in_the_middle_of_a_line_is_cut_off() {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"{\"request\"").unwrap();
        assert!(matches!(requests(&server).next_line(), Err(Cut::Slow)));
        // A byte now and then does not help.
        let mut late = requests(&server);
        late.begun = Some(clock::start());
        while late.begun.is_some_and(|begun| left(begun, SHORT).is_some()) {
            std::thread::yield_now();
        }
        client.write_all(b"x").unwrap();
        assert!(matches!(late.next_line(), Err(Cut::Slow)));
        drop(client);
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(b"half").unwrap();
        drop(client);
        assert!(matches!(requests(&server).next_line(), Err(Cut::Gone)));
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let sent = std::thread::spawn(move || client.write_all(&vec![b'x'; 1 << 20]).is_err());
        let mut requests = requests(&server);
        assert!(matches!(requests.next_line(), Err(Cut::TooLong)));
        assert!(requests.buffer.len() <= LONGEST_LINE + CHUNK);
        drop(server);
        assert!(sent.join().unwrap());
    }

    #[test]
    fn a_client_that_takes_no_answers_is_cut_off() {
        let (client, server) = UnixStream::pair().unwrap();
        let long = Answer::Error("x".repeat(8 << 20));
        let written = write_line(&server, &long, Some(SHORT));
        assert!(matches!(written, Err(Cut::Deaf)), "{written:?}");
        drop(client);
        let written = write_line(&server, &long, Some(SHORT));
        assert!(matches!(written, Err(Cut::Gone)), "{written:?}");
    }
}
