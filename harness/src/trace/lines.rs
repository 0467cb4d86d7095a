//! Formats made of lines: one reader for all of them, with a bound on a line's length and
//! with line numbers, and what their parsers share.

use driver::units::FileOffset;

use super::entry::{Decoded, Decoder};
use super::error::{Place, excerpt};
use super::input::Input;
use super::{Stream, TraceError};

/// Longer lines are refused. The kernel's own are below a page.
pub const MAX_LINE_LEN: usize = 4096;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineFault {
    /// The part that is wrong; `None` for the whole line.
    pub(super) found: Option<String>,
    /// What should be there.
    pub(super) expected: String,
}

impl LineFault {
    /// The line as a whole is not what it should be.
    pub(super) fn line(expected: impl Into<String>) -> LineFault {
        LineFault {
            found: None,
            expected: expected.into(),
        }
    }

    /// A field of it is not what it should be.
    pub(super) fn field(found: &str, expected: impl Into<String>) -> LineFault {
        LineFault {
            found: Some(excerpt(found.as_bytes())),
            expected: expected.into(),
        }
    }
}

/// A format made of lines.
pub(super) trait LineFormat: Send {
    /// Whether the end of a line shows by itself that nothing is cut off. Otherwise a last line
    /// without line feed is refused: half a number is a number too.
    const SHOWS_ITS_END: bool;

    /// What a line says. It comes without its line feed.
    fn decode(&mut self, line: &str) -> Result<Decoded, LineFault>;

    /// There are no more lines. What is wrong with all of them together is said once.
    fn end(&mut self) -> Result<(), LineFault> {
        Ok(())
    }
}

/// Decodes a trace that is made of lines.
pub(super) struct Lines<F> {
    input: Input<Stream>,
    format: F,
    line: Vec<u8>,
    number: u64,
    start: FileOffset,
    /// The rest of a line that was too long has yet to be passed over.
    is_inside_line: bool,
}

impl<F: LineFormat> Lines<F> {
    /// Decodes the lines of `input`, which is at its start.
    pub(super) fn new(input: Input<Stream>, format: F) -> Lines<F> {
        Lines {
            input,
            format,
            line: Vec::new(),
            number: 0,
            start: FileOffset(0),
            is_inside_line: false,
        }
    }

    fn read_line(&mut self) -> Result<(), TraceError> {
        let limit = MAX_LINE_LEN as u64 + 1;
        loop {
            self.start = self.input.offset();
            self.input.read_line(&mut self.line, limit)?;
            let is_rest = self.is_inside_line;
            self.is_inside_line = self.line.len() > MAX_LINE_LEN && !self.line.ends_with(b"\n");
            if !is_rest {
                self.number += 1;
                return Ok(());
            }
        }
    }
}

impl<F: LineFormat> Decoder for Lines<F> {
    fn decode(&mut self) -> Result<Decoded, TraceError> {
        self.read_line()?;
        let place = || Place {
            line: Some(self.number),
            ..self.input.place(self.start)
        };
        if self.line.is_empty() {
            return match self.format.end() {
                Ok(()) => Ok(Decoded::End),
                Err(fault) => Err(TraceError::Bad {
                    place: Place {
                        line: None,
                        ..self.input.place(FileOffset(0))
                    },
                    found: fault.found.unwrap_or_default(),
                    expected: fault.expected,
                }),
            };
        }
        if self.is_inside_line {
            return Err(TraceError::Bad {
                place: place(),
                found: format!("a line that begins with {}", excerpt(&self.line)),
                expected: format!("at most {MAX_LINE_LEN} bytes in a line"),
            });
        }
        let is_complete = self.line.ends_with(b"\n");
        let text = String::from_utf8_lossy(&self.line);
        let decoded = match self.format.decode(text.trim_end_matches(['\n', '\r'])) {
            Ok(Decoded::Entry(_)) if !is_complete && !F::SHOWS_ITS_END => {
                Err(LineFault::line("a line feed after the last line"))
            }
            decoded => decoded,
        };
        decoded.map_err(|fault| match fault.found {
            // A line that is wrong and has no line feed is one that the end cut.
            None if !is_complete => TraceError::Cut {
                place: place(),
                found: format!("{} and no line feed", excerpt(&self.line)),
                expected: fault.expected,
            },
            found => TraceError::Bad {
                place: place(),
                found: found.unwrap_or_else(|| excerpt(self.line.trim_ascii())),
                expected: fault.expected,
            },
        })
    }

    fn place(&self) -> Place {
        Place {
            line: Some(self.number),
            ..self.input.place(self.start)
        }
    }
}

/// The lines that `prefix` begins with, without their line feeds. The last one may be cut.
pub(super) fn first_lines(prefix: &[u8]) -> impl Iterator<Item = std::borrow::Cow<'_, str>> {
    prefix
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line.trim_ascii_end()))
}
