//! What tells the cause of a violation from another: the promise that is broken, what was going on,
//! what showed it, and with which error.

use std::fmt;

use driver::blk::Operation;
use serde::{Deserialize, Serialize};

/// What a driver and its resizes promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Promise {
    /// A read returns, sector by sector, the last acknowledged write or one still in flight.
    ReadsShowTheLatest,
    /// After a crash a sector holds its last flushed content, or that of a later write.
    FlushedContentSurvives,
    /// The backing file is never written.
    BackingFileIsNotWritten,
    /// The device has its old size or its new one.
    SizeIsOldOrNew,
    /// What a crash leaves opens.
    GoodImagesOpen,
    /// What is damaged, or belongs to another backing file, does not.
    BadImagesAreRefused,
    /// Nobody else opens a device that is open.
    OneUserAtATime,
    /// An interrupted resize can be finished, once.
    RecoveryFinishes,
    /// The COW file is as `docs/format.md` says.
    FilesFollowTheFormat,
    /// Where the host has not failed, nothing fails.
    HealthyHostNoError,
    /// Each request completes, once; the driver lives, and comes to an end.
    WorkComesToAnEnd,
    /// What the host is asked for fits the device.
    HostIsAskedForLittle,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Promise::ReadsShowTheLatest => "a read shows the last write",
            Promise::FlushedContentSurvives => "what was flushed survives a crash",
            Promise::BackingFileIsNotWritten => "the backing file is never written",
            Promise::SizeIsOldOrNew => "a resize leaves the old size or the new one",
            Promise::GoodImagesOpen => "what a crash leaves opens",
            Promise::BadImagesAreRefused => "what is damaged is refused",
            Promise::OneUserAtATime => "a device is open once",
            Promise::RecoveryFinishes => "what was interrupted can be finished, once",
            Promise::FilesFollowTheFormat => "a COW file follows the format",
            Promise::HealthyHostNoError => "nothing fails on a host that has not failed",
            Promise::WorkComesToAnEnd => "each request completes, once",
            Promise::HostIsAskedForLittle => "the host is asked for what the device needs",
        })
    }
}

/// What was going on at a crash point, or when something wrong was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// An image tool, or the recovery of one.
    Tool,
    /// Opening, and finishing what was interrupted.
    Recovery,
    /// A request.
    Request,
    /// A flush, or what a FUA write has to make durable.
    Publication,
    /// A resize.
    Resize,
    /// Closing.
    Closing,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Tool => "an image tool",
            Phase::Recovery => "opening",
            Phase::Request => "a request",
            Phase::Publication => "a flush",
            Phase::Resize => "a resize",
            Phase::Closing => "closing",
        })
    }
}

/// What went wrong, or showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// An image tool.
    Tool,
    /// Opening the device.
    Open,
    /// Finishing an interrupted resize.
    Recover,
    /// A read of the guest.
    Read,
    /// A write.
    Write,
    /// A write with FUA.
    WriteFua,
    /// A flush.
    Flush,
    /// A discard.
    Discard,
    /// A write of zeros.
    WriteZeroes,
    /// A step of a resize.
    Resize,
    /// A step of the driver, of whichever request.
    Serve,
    /// Closing the device.
    Close,
    /// Reading the whole device.
    ReadAll,
    /// Reading the files without the driver.
    Look,
}

impl Act {
    /// The act of a request for `operation`.
    pub fn of(operation: Operation) -> Act {
        match operation {
            Operation::Read => Act::Read,
            Operation::Write { fua: false } => Act::Write,
            Operation::Write { fua: true } => Act::WriteFua,
            Operation::Flush => Act::Flush,
            Operation::Discard => Act::Discard,
            Operation::WriteZeroes => Act::WriteZeroes,
        }
    }
}

/// What tells one cause from another. It holds no sector, no size and no number of a request: it
/// is still the same when the case has been made small.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// What was broken.
    pub promise: Promise,
    /// What was going on when the crash came, or without a crash when it was seen.
    pub phase: Phase,
    /// What went wrong or showed it, where that is one thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Act>,
    /// The error, with `#` for each number in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An error's words with `#` for each number: places and sizes differ from case to case.
pub(crate) fn without_numbers(text: &str) -> String {
    let mut words = String::with_capacity(text.len());
    let mut in_number = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let digit_follows = characters.peek().is_some_and(char::is_ascii_digit);
        in_number = match in_number {
            false => character.is_ascii_digit(),
            // 1,234 and 0x1f are one number each.
            true if character == ',' => digit_follows,
            true => character == 'x' || character.is_ascii_hexdigit(),
        };
        match in_number {
            false => words.push(character),
            true if words.ends_with('#') => {}
            true => words.push('#'),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_whatever_the_numbers_in_it() {
        for (text, words) in [
            (
                "write of the COW file at byte 4096: I/O error",
                "write of the COW file at byte #: I/O error",
            ),
            ("found 1,234 of 0x1fe, and 5", "found # of #, and #"),
            ("os error 5", "os error #"),
            ("no number", "no number"),
        ] {
            assert_eq!(without_numbers(text), words);
        }
    }
}
