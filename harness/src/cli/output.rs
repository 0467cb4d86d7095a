//! The one place where text leaves the program: reports to standard output, everything else to
//! standard error. Nothing else prints; clippy.toml and the lints of this crate see to that.
//!
//! Text that came from outside (names, headers, descriptions, excerpts) may say anything. So
//! the unit here is the line: [`line`], [`remark`] and [`failure`] make one of whatever they are
//! given, with every character escaped that a terminal would obey, and the line feeds too, so
//! that no name can look like a line of output. [`lines`] takes types that promise the same of
//! each of their lines. It makes no difference whether the output is a terminal, a file or a
//! pipe.
//!
//! Data is not text: a trace that is written to standard output is the same there as in a file.
//! JSON has escapes of its own.
//!
//! Of text and data alike: a reader that goes away before the end (`ubdlab ... | head`) has what it
//! wanted, by whatever name it reads (`ubdlab trace generate /dev/stdout | head`). Standard output
//! that takes nothing, or was closed from the start, is a failure.

use std::fmt;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal, StdoutLock, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::{ContextKind, ContextValue};
use driver::{ManyLines, OneLine, is_control};

use super::startup::stdout_was_closed;
use super::{Failure, without_path};

/// Text of several lines. Its line feeds are its own: what comes from outside in it is
/// [`OneLine`], [`driver::shown`], or cannot have any.
pub(super) trait InLines: fmt::Display {}

/// A writer of lines to standard output that locks and flushes once.
pub(super) struct Listing(BufWriter<StdoutLock<'static>>);

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that writes to standard output"
)]
fn stdout() -> std::io::Stdout {
    std::io::stdout()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that writes to standard error"
)]
fn stderr() -> std::io::Stderr {
    std::io::stderr()
}

/// What kept standard output from taking a report, if something did.
static REFUSED: OnceLock<String> = OnceLock::new();

/// What is said of standard output that was closed when the program started.
pub(super) const CLOSED: &str = "it is closed";

/// Whether data was written that nobody reads any more.
static READER_LEFT: AtomicBool = AtomicBool::new(false);

/// Remembers what standard output said when something was written. A reader that went away is no
/// failure of ours: `ubdlab ... | head`.
fn note(written: std::io::Result<()>) {
    if stdout_was_closed() {
        let _ = REFUSED.set(CLOSED.to_owned());
    } else {
        note_error(written);
    }
}

fn note_error(written: std::io::Result<()>) {
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
    {
        // The first error is the one to report.
        let _ = REFUSED.set(without_path(&error));
    }
}

/// Whether all that was printed is out. A report that nobody can read is a failure, however well
/// what it reports on has ended.
///
/// # Errors
/// What standard output said.
pub(super) fn complete() -> Result<(), Failure> {
    // Of a command that prints nothing, nothing can be lost.
    note_error(stdout().flush());
    match REFUSED.get() {
        None => Ok(()),
        Some(error) => Err(Failure(format!(
            "standard output: the report could not be written: {}",
            driver::system_words(error)
        ))),
    }
}

/// Prints a line of a report.
pub(super) fn line(text: impl fmt::Display) {
    note(writeln!(stdout().lock(), "{}", OneLine(text)));
}

/// Prints a report of several lines, which ends with a line feed.
pub(super) fn lines(text: &impl InLines) {
    note(write!(stdout().lock(), "{}", ManyLines(text)));
}

/// Prints a program for a shell, as it is.
pub(super) fn script(text: &str) {
    note(write!(stdout().lock(), "{text}"));
}

/// Prints a line that is no report: what is going to happen, or what was noticed.
pub(super) fn remark(text: impl fmt::Display) {
    let _ = writeln!(stderr().lock(), "{}", OneLine(text));
}

/// Prints why the program could not do what it was told.
pub(super) fn failure(Failure(message): &Failure) {
    remark(format_args!("ubdlab: {message}"));
}

/// Prints one JSON document.
pub(super) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(Failure::operation)?;
    note(writeln!(stdout().lock(), "{}", Json(&text)));
    Ok(())
}

/// Prints help, or what is wrong with a command line; the exit status for it. A wrong argument
/// may be a name that a shell found in somebody else's directory.
pub(super) fn usage(mut error: clap::Error) -> u8 {
    if !error.use_stderr() {
        // Help and the version hold no foreign text, and may have colours.
        note(error.print());
        return match complete() {
            Ok(()) => 0,
            Err(error) => {
                failure(&error);
                3
            }
        };
    }
    let context: Vec<_> = error
        .context()
        .map(|(kind, value)| (kind, value.clone()))
        .collect();
    for (kind, value) in context {
        if let Some(value) = on_one_line(kind, value) {
            error.insert(kind, value);
        }
    }
    let _ = write!(stderr().lock(), "{}", ManyLines(error.render()));
    2
}

/// An argument in a message about usage, if it is one.
fn on_one_line(kind: ContextKind, value: ContextValue) -> Option<ContextValue> {
    let one = |text: String| OneLine(text).to_string();
    match (kind, value) {
        // The usage is clap's own text, and may have several lines.
        (ContextKind::Usage, _) => None,
        (_, ContextValue::String(text)) => Some(ContextValue::String(one(text))),
        (_, ContextValue::Strings(texts)) => {
            let texts = texts.into_iter().map(one).collect();
            Some(ContextValue::Strings(texts))
        }
        // Tips, which quote the argument too.
        (_, ContextValue::StyledStrs(tips)) => {
            let tips = tips.into_iter().map(|tip| one(tip.to_string()).into());
            Some(ContextValue::StyledStrs(tips.collect()))
        }
        _ => None,
    }
}

impl Listing {
    /// An empty one.
    pub(super) fn new() -> Listing {
        Listing(BufWriter::new(stdout().lock()))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// That of standard output: there is no use in going on.
    pub(super) fn line(&mut self, text: fmt::Arguments<'_>) -> std::io::Result<()> {
        writeln!(self.0, "{}", OneLine(text))
    }

    /// Adds a part of a JSON document, with what stands before it.
    ///
    /// # Errors
    /// That of standard output.
    pub(super) fn json(&mut self, before: &str, part: &str) -> std::io::Result<()> {
        write!(self.0, "{before}{}", Json(part))
    }

    /// Hands over what is left.
    ///
    /// # Errors
    /// That of standard output.
    pub(super) fn finish(mut self) -> std::io::Result<()> {
        self.0.flush()
    }

    /// Remembers what [`Listing::line`], [`Listing::json`] or [`Listing::finish`] said, for
    /// [`complete`].
    pub(super) fn note(result: std::io::Result<()>) {
        note(result);
    }
}

/// Standard output for data.
pub(super) type Data = DataWriter<BufWriter<StdoutLock<'static>>>;

/// Where data goes whose reader may go away before the end: [`unless_reader_left`].
pub(super) struct DataWriter<W>(W);

/// Standard output for data that is `binary` or text in a format of its own: written as it is.
///
/// # Errors
/// If it is binary, and a terminal would have to make something of it; if it is closed.
pub(super) fn data(binary: bool) -> Result<Data, Failure> {
    let stdout = stdout();
    if stdout_was_closed() {
        return Err(Failure(format!("standard output: {CLOSED}")));
    }
    if binary && stdout.is_terminal() {
        return Err(Failure(
            "standard output: found a terminal, and a ubdtrace is no text: name a file, \
             or use --as csv"
                .to_owned(),
        ));
    }
    Ok(DataWriter(BufWriter::new(stdout.lock())))
}

/// A pipe, FIFO or device that the user named in place of a file.
pub(super) fn data_into(stream: &File) -> DataWriter<&File> {
    DataWriter(stream)
}

impl<W> DataWriter<W> {
    fn noted<T>(result: std::io::Result<T>) -> std::io::Result<T> {
        if let Err(error) = &result
            && error.kind() == ErrorKind::BrokenPipe
        {
            READER_LEFT.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<W: Write> Write for DataWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Self::noted(self.0.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Self::noted(self.0.flush())
    }
}

/// What came of writing [`Data`]; `None` if its reader has left, which is no failure.
///
/// # Errors
/// Any other.
pub(super) fn unless_reader_left<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Err(_) if READER_LEFT.load(Ordering::Relaxed) => Ok(None),
        result => result.map(Some),
    }
}

/// Whether a report goes to a terminal.
pub(super) fn is_terminal() -> bool {
    stdout().is_terminal()
}

/// Whether what is no report goes to a terminal.
pub(super) fn errors_go_to_terminal() -> bool {
    stderr().is_terminal()
}

/// JSON without a character in it that a terminal would obey. (JSON itself escapes those below
/// U+0020 only.) Such a one can only stand in a string.
struct Json<'a>(&'a str);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let obeyed = |c: char| c != '\n' && is_control(c);
        let mut rest = self.0;
        while let Some((at, character)) = rest.char_indices().find(|(_, c)| obeyed(*c)) {
            // All of them are in the first 65,536 characters, so that one escape is enough.
            write!(f, "{}\\u{:04x}", &rest[..at], u32::from(character))?;
            rest = &rest[at + character.len_utf8()..];
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_stays_what_it_says_and_is_not_obeyed() {
        let said = "a\u{9b}2J\u{202e}\u{7f}\u{2028}\n\u{1b}ü";
        let text = Json(&serde_json::to_string(said).unwrap()).to_string();
        assert!(!text.chars().any(is_control), "{text:?}");
        let back: String = serde_json::from_str(&text).unwrap();
        assert_eq!(back, said);
    }
}
