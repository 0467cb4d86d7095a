//! The other end of a control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use driver::shown;

use super::message::{Answer, Request};

/// The longest answer that is taken, in bytes.
const LONGEST_ANSWER: u64 = 64 << 20;

/// A connection to a server.
#[derive(Debug)]
pub struct Asking {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The server says that it has failed.
    #[error("{0}")]
    Refused(String),
    /// There is no server, or its answer makes no sense; with the path.
    #[error("{0}")]
    Lost(String),
}

impl Asking {
    /// Connects to the server that listens at `path`.
    ///
    /// # Errors
    /// [`NoAnswer::Lost`].
    pub fn connect(path: &Path) -> Result<Asking, NoAnswer> {
        let failed = |error: io::Error| {
            // Of what is no socket Linux says that nobody listens.
            let found = path.metadata().map(|found| found.file_type().is_socket());
            let why = match error.kind() {
                io::ErrorKind::ConnectionRefused if matches!(found, Ok(false)) => {
                    "found no socket, expected the control socket of ubdlab serve".into()
                }
                io::ErrorKind::ConnectionRefused => {
                    "nobody listens on this socket: the server has ended".into()
                }
                _ => driver::system_words(error),
            };
            NoAnswer::Lost(format!("{}: connecting: {why}", shown(path)))
        };
        let stream = UnixStream::connect(path).map_err(failed)?;
        Ok(Asking {
            path: path.to_owned(),
            stream: BufReader::new(stream),
        })
    }

    /// What ends a wait for an answer when it is called.
    ///
    /// # Errors
    /// [`NoAnswer::Lost`]: the system's.
    pub fn hang_up(&self) -> Result<impl FnOnce() + Send + use<>, NoAnswer> {
        let stream = self.stream.get_ref().try_clone();
        let stream = stream.map_err(|error| self.lost(&driver::system_words(error)))?;
        Ok(move || {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`NoAnswer::Lost`].
    pub fn ask(&mut self, request: &Request) -> Result<(), NoAnswer> {
        let text = serde_json::to_string(request);
        let text = text.map_err(|error| self.lost(&error.to_string()))?;
        let sent = writeln!(self.stream.get_mut(), "{text}");
        sent.or_else(|error| match error.kind() {
            // One that was turned away has an answer all the same.
            io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(self.lost(&driver::system_words(error))),
        })
    }

    /// Waits for the next answer.
    ///
    /// # Errors
    /// [`NoAnswer::Refused`] if the server says that it has failed, and [`NoAnswer::Lost`].
    pub fn next_answer(&mut self) -> Result<Answer, NoAnswer> {
        let mut line = Vec::new();
        let read = (&mut self.stream)
            .take(LONGEST_ANSWER)
            .read_until(b'\n', &mut line);
        let read = match read {
            // One who turns a client away does not read what it has sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            read => read,
        };
        read.map_err(|error| self.lost(&driver::system_words(error)))?;
        if !line.ends_with(b"\n") {
            return Err(self.lost("the server has ended before it has answered"));
        }
        match serde_json::from_slice(&line) {
            Ok(Answer::Error(error)) => Err(NoAnswer::Refused(error)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.lost(&format!("found no answer of a server: {error}"))),
        }
    }

    fn lost(&self, why: &str) -> NoAnswer {
        NoAnswer::Lost(format!("{}: {why}", shown(&self.path)))
    }
}
