//! What the first process of a view's namespace ([`super::first_process`]) is asked for, and what
//! it answers, as bytes and descriptors in a socket. One answer has come before the next order
//! goes, but for the end of a command, which comes when it comes.

use std::ffi::OsString;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::later_mounts::Left;
use crate::passed_descriptors::receive;

/// What the first process is asked for.
#[derive(Debug)]
pub(super) enum Order {
    /// To start a command, whose output goes to this descriptor.
    Start {
        /// The directory in which it runs, and then its words.
        words: Vec<OsString>,
        output: OwnedFd,
    },
    /// To note what is mounted, with the simulated directory over this one. The descriptor is the
    /// list of the mounts outside of the view.
    NoteMounts {
        directory: OsString,
        outside: OwnedFd,
    },
    /// To kill all other processes, to wait until they have gone, and to take away what they have
    /// mounted.
    EndAll,
}

/// What it answers.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is there, or all that was asked for is done; with the simulated directory as it is then.
    Done(Left),
    /// The command was started. The descriptor is a pidfd.
    Started(OwnedFd),
    /// It could not be: the system's number, and what it is that is missing.
    NotStarted(i32, Missing),
    /// It has ended with this status, as `wait` tells it.
    Ended(i32),
}

/// What is missing where a command could not be started because something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The system does not say, or nothing is.
    Unknown,
    /// The directory in which it was to run.
    Place,
    /// What runs the program, which itself is there.
    Interpreter,
}

const START: u8 = 1;
const END_ALL: u8 = 2;
const NOTE_MOUNTS: u8 = 3;

const DONE: u8 = 1;
const STARTED: u8 = 2;
const NOT_STARTED: u8 = 3;
const ENDED: u8 = 4;

/// The bytes that a message begins with.
const HEAD: usize = 6;

/// More than the system lets a command have.
const MOST_BYTES: u32 = 64 << 20;

impl Order {
    pub(super) fn send(&self, to: &UnixStream) -> io::Result<()> {
        let (kind, words, descriptor) = match self {
            Order::Start { words, output } => (START, &**words, output),
            Order::NoteMounts { directory, outside } => {
                (NOTE_MOUNTS, std::slice::from_ref(directory), outside)
            }
            Order::EndAll => return send(to, &head(END_ALL, 0, 0), None),
        };
        let mut bytes = Vec::new();
        for word in words {
            let len = u32::try_from(word.len()).map_err(|_| Errno::TOOBIG)?;
            bytes.extend(len.to_le_bytes());
            bytes.extend(word.as_bytes());
        }
        let len = u32::try_from(bytes.len()).map_err(|_| Errno::TOOBIG)?;
        if len > MOST_BYTES {
            return Err(Errno::TOOBIG.into());
        }
        bytes.splice(..0, head(kind, 0, len));
        send(to, &bytes, Some(descriptor.as_fd()))
    }

    /// The next one. `None` if nobody can ask any more, or has asked for something else.
    pub(super) fn receive(from: &UnixStream) -> io::Result<Option<Order>> {
        let Some((kind, _, len, descriptor)) = receive_head(from)? else {
            return Ok(None);
        };
        if kind == END_ALL {
            return Ok(Some(Order::EndAll));
        }
        if !matches!(kind, START | NOTE_MOUNTS) || len > MOST_BYTES {
            return Ok(None);
        }
        let mut bytes = vec![0; len as usize];
        (&mut &*from).read_exact(&mut bytes)?;
        // Without one, this process has as many files open as it may.
        let descriptor = descriptor.ok_or(Errno::MFILE)?;
        let mut words = words(&bytes).ok_or(Errno::INVAL)?;
        Ok(Some(match kind {
            START => Order::Start {
                words,
                output: descriptor,
            },
            _ => Order::NoteMounts {
                directory: words.pop().ok_or(Errno::INVAL)?,
                outside: descriptor,
            },
        }))
    }
}

/// The words, each after its length.
fn words(mut bytes: &[u8]) -> Option<Vec<OsString>> {
    let mut words = Vec::new();
    while !bytes.is_empty() {
        let (len, rest) = bytes.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
        let (word, rest) = rest.split_at_checked(len)?;
        words.push(OsString::from_vec(word.to_vec()));
        bytes = rest;
    }
    Some(words)
}

impl Answer {
    pub(super) fn send(&self, to: &UnixStream) -> io::Result<()> {
        match self {
            Answer::Done(left) => {
                let left = match left {
                    Left::Whole => 0,
                    Left::Covered => 1,
                    Left::TakenAway => 2,
                };
                send(to, &head(DONE, left, 0), None)
            }
            Answer::Started(process) => send(to, &head(STARTED, 0, 0), Some(process.as_fd())),
            Answer::NotStarted(errno, missing) => {
                let missing = match missing {
                    Missing::Unknown => 0,
                    Missing::Place => 1,
                    Missing::Interpreter => 2,
                };
                send(to, &head(NOT_STARTED, missing, *errno as u32), None)
            }
            Answer::Ended(status) => send(to, &head(ENDED, 0, *status as u32), None),
        }
    }

    /// The next one.
    ///
    /// # Errors
    /// There can be none any more.
    pub(super) fn receive(from: &UnixStream) -> io::Result<Answer> {
        let ended = || io::Error::other("the first process of its namespace has ended");
        let (kind, more, number, descriptor) = receive_head(from)?.ok_or_else(ended)?;
        Ok(match (kind, descriptor) {
            (DONE, _) => Answer::Done(match more {
                1 => Left::Covered,
                2 => Left::TakenAway,
                _ => Left::Whole,
            }),
            (STARTED, descriptor) => Answer::Started(descriptor.ok_or(Errno::MFILE)?),
            (NOT_STARTED, _) => {
                let missing = match more {
                    1 => Missing::Place,
                    2 => Missing::Interpreter,
                    _ => Missing::Unknown,
                };
                Answer::NotStarted(number as i32, missing)
            }
            (ENDED, _) => Answer::Ended(number as i32),
            _ => return Err(ended()),
        })
    }
}

fn head(kind: u8, more: u8, number: u32) -> [u8; HEAD] {
    let [a, b, c, d] = number.to_le_bytes();
    [kind, more, a, b, c, d]
}

/// What a message begins with: its kind, more of that, and a number; and its descriptor.
type Head = (u8, u8, u32, Option<OwnedFd>);

/// The next one. `None` where the other side has closed.
fn receive_head(from: &UnixStream) -> io::Result<Option<Head>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut descriptors = Vec::new();
    let mut bytes = [0; HEAD];
    let (count, _) = receive(from, &mut bytes, &mut descriptors, &mut space)?;
    if count == 0 {
        return Ok(None);
    }
    (&mut &*from).read_exact(&mut bytes[count..])?;
    let [kind, more, number @ ..] = bytes;
    let number = u32::from_le_bytes(number);
    Ok(Some((kind, more, number, descriptors.into_iter().next())))
}

/// Sends these bytes, the descriptor with the first of them.
fn send(to: &UnixStream, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let first = [IoSlice::new(bytes)];
    let sent = retry_on_intr(|| sendmsg(to, &first, &mut control, SendFlags::NOSIGNAL))?;
    (&mut &*to).write_all(&bytes[sent..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_comes_as_it_was_sent() {
        let (to, from) = UnixStream::pair().unwrap();
        let long = "x".repeat(100_000);
        let sent = ["/place", "sh", "", "a b\n", &long].map(OsString::from);
        let order = Order::Start {
            words: sent.to_vec(),
            output: tempfile::tempfile().unwrap().into(),
        };
        // Longer than a socket holds.
        let sending = std::thread::spawn(move || order.send(&to).map(|()| to));
        let Some(Order::Start { words, .. }) = Order::receive(&from).unwrap() else {
            panic!("another order");
        };
        assert_eq!(words, sent);
        let to = sending.join().unwrap().unwrap();
        Order::EndAll.send(&to).unwrap();
        assert!(matches!(
            Order::receive(&from).unwrap(),
            Some(Order::EndAll)
        ));
        drop(to);
        assert!(Order::receive(&from).unwrap().is_none());
    }

    #[test]
    fn an_answer_comes_as_it_was_sent() {
        let (to, from) = UnixStream::pair().unwrap();
        Answer::NotStarted(2, Missing::Interpreter)
            .send(&to)
            .unwrap();
        let answer = Answer::receive(&from).unwrap();
        assert!(matches!(
            answer,
            Answer::NotStarted(2, Missing::Interpreter)
        ));
        Answer::Ended(0x0700).send(&to).unwrap();
        assert!(matches!(
            Answer::receive(&from).unwrap(),
            Answer::Ended(0x0700)
        ));
        let file = tempfile::tempfile().unwrap();
        Answer::Started(file.into()).send(&to).unwrap();
        assert!(matches!(
            Answer::receive(&from).unwrap(),
            Answer::Started(_)
        ));
        Answer::Done(Left::TakenAway).send(&to).unwrap();
        assert!(matches!(
            Answer::receive(&from).unwrap(),
            Answer::Done(Left::TakenAway)
        ));
        drop(to);
        assert!(Answer::receive(&from).is_err());
    }
}
