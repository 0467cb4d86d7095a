//! The control messages between a client and the library, passed on one by one.
//!
//! Data takes another way: queues are memory that both sides have, kicks and calls are descriptors.
//! The relay is there for what the library does not take, does not check or does not say:
//!
//! - UML 6.1 sends its table of memory with a body for two regions, and names one in it.
//! - A region may be longer than its file. Whoever touches it there is killed by the system.
//! - Kicks and calls make the library wait for as long as the client likes. They stay here
//!   (`signals`), and the library gets others, or none.
//! - The library cannot say that the configuration has changed, as it does when the device grows.
//! - The library lends no memory for what is in flight (`in_flight`).

use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{FileType, SealFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::passed_descriptors;

use super::in_flight::NoNotes;
use super::signals::{Call, Kick, NoSignal};

/// Request, flags and length of the body: 4 bytes each, little endian.
const HEADER: usize = 12;

/// The longest body that the library takes.
const LONGEST_BODY: u32 = 4096;

/// The most descriptors that come with a message, which the library takes.
const MOST_DESCRIPTORS: usize = 32;

const SET_MEM_TABLE: u32 = 5;
const SET_VRING_KICK: u32 = 12;
const SET_VRING_CALL: u32 = 13;
const SET_VRING_ERR: u32 = 14;
const SET_BACKEND_REQ_FD: u32 = 21;

/// The table of memory: the number of its regions in 8 bytes, and the regions.
const REGIONS: usize = 8;

/// A region: its address, its length, its address in the client, where it is in its file.
const REGION: usize = 32;

/// What a message with a queue's descriptor says: the queue in the lowest byte, and in the second
/// one whether there is no descriptor.
const VRING_DESCRIPTOR: usize = 8;
const NO_DESCRIPTOR: u8 = 1;

/// The flags of a reply: version 1, and that it is one.
const REPLY: u32 = 1 | 1 << 2;

/// The flag of a message that wants a reply.
const WANTS_REPLY: u32 = 1 << 3;

/// "The configuration has changed": request 2 of those that a device sends, version 1, no body.
const CONFIGURATION_CHANGE: [u8; HEADER] = [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];

/// Why a client's messages are not passed on.
#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error("found a message of {0} bytes, expected at most {LONGEST_BODY}")]
    Long(u32),
    #[error("found the end in the middle of a message")]
    CutOff,
    #[error("found more than {MOST_DESCRIPTORS} descriptors with a message")]
    Descriptors,
    #[error(
        "found a memory region of {len} bytes from byte {offset} of a file of {file_len} bytes"
    )]
    RegionPastEnd {
        offset: u64,
        len: u64,
        file_len: u64,
    },
    #[error("found a body of {0} bytes, expected where the notes of what is in flight are")]
    ShortBody(usize),
    #[error("found no descriptor of the notes of what is in flight")]
    NoDescriptor,
    #[error("{0}")]
    Notes(#[from] NoNotes),
    #[error("{0}")]
    Signal(#[from] NoSignal),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<Errno> for RelayError {
    fn from(error: Errno) -> RelayError {
        RelayError::Io(error.into())
    }
}

/// What of a message is kept from the library.
#[derive(Debug)]
pub(super) enum Kept {
    Nothing,
    /// Where the client wants to hear of changes.
    Channel(OwnedFd),
    /// By which a queue is kicked from now on.
    Kick(usize, Option<Kick>),
    /// Where a queue's answers are signalled from now on.
    Call(usize, Option<Call>),
}

/// A message, with the descriptors that came with it.
#[derive(Debug)]
pub(super) struct Message {
    header: [u8; HEADER],
    body: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Message {
    /// The next message; `None` at the end.
    pub(super) fn receive(from: &UnixStream) -> Result<Option<Message>, RelayError> {
        let mut header = [0; HEADER];
        let mut descriptors = Vec::new();
        let mut received = 0;
        while received < HEADER {
            match receive_part(from, &mut header[received..], &mut descriptors)? {
                0 if received == 0 => return Ok(None),
                0 => return Err(RelayError::CutOff),
                len => received += len,
            }
        }
        let len = word(&header, 8);
        if len > LONGEST_BODY {
            return Err(RelayError::Long(len));
        }
        let mut body = vec![0; len as usize];
        match (&*from).read_exact(&mut body) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(RelayError::CutOff);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Some(Message {
            header,
            body,
            descriptors,
        }))
    }

    /// What it asks for.
    pub(super) fn request(&self) -> u32 {
        word(&self.header, 0)
    }

    /// Whether the client waits for a reply, if the two have agreed on replies.
    pub(super) fn wants_reply(&self) -> bool {
        word(&self.header, 4) & WANTS_REPLY != 0
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// The descriptor that came with it, if there is just one.
    pub(super) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        match self.descriptors.len() {
            1 => self.descriptors.pop(),
            _ => None,
        }
    }

    /// The reply to it.
    pub(super) fn reply(&self, body: Vec<u8>, descriptor: Option<OwnedFd>) -> Message {
        let words = [self.request(), REPLY, body.len() as u32];
        let mut header = [0; HEADER];
        for (bytes, word) in header.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Message {
            header,
            body,
            descriptors: descriptor.into_iter().collect(),
        }
    }

    /// Sends it on.
    pub(super) fn send(&self, to: &UnixStream) -> Result<(), RelayError> {
        let descriptors: Vec<_> = self.descriptors.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(RelayError::Descriptors);
        }
        let bytes = [&self.header[..], &self.body[..]].concat();
        let mut sent = 0;
        while sent < bytes.len() {
            let rest = [IoSlice::new(&bytes[sent..])];
            let call = || rustix::net::sendmsg(to, &rest, &mut control, SendFlags::NOSIGNAL);
            sent += rustix::io::retry_on_intr(call)?;
            // They have gone with the first byte.
            control.clear();
        }
        Ok(())
    }

    /// Checks and mends what a client has sent. Gives back what is kept from the library.
    pub(super) fn mend(&mut self) -> Result<Kept, RelayError> {
        match self.request() {
            SET_MEM_TABLE => {
                self.cut_table();
                self.check_regions()?;
            }
            SET_VRING_KICK => {
                let Some((queue, kick)) = self.take_vring_descriptor() else {
                    return Ok(Kept::Nothing);
                };
                let kick = kick.map(Kick::of).transpose()?;
                if kick.is_some() {
                    self.descriptors.push(Kick::stand_in()?);
                }
                return Ok(Kept::Kick(queue, kick));
            }
            SET_VRING_CALL => {
                let Some((queue, call)) = self.take_vring_descriptor() else {
                    return Ok(Kept::Nothing);
                };
                self.body[1] |= NO_DESCRIPTOR;
                return Ok(Kept::Call(queue, call.map(Call::of).transpose()?));
            }
            SET_VRING_ERR => {
                // Nobody would ever write it.
                let error = self.take_vring_descriptor();
                if error.is_some() {
                    self.body[1] |= NO_DESCRIPTOR;
                }
            }
            SET_BACKEND_REQ_FD => {
                let channel = self.descriptors.first().map(OwnedFd::try_clone);
                return Ok(channel.transpose()?.map_or(Kept::Nothing, Kept::Channel));
            }
            _ => {}
        }
        Ok(Kept::Nothing)
    }

    /// The queue that a message is about, and the descriptor that came for it. `None` if the
    /// message is not as it should be, which the library says.
    fn take_vring_descriptor(&mut self) -> Option<(usize, Option<OwnedFd>)> {
        if self.body.len() != VRING_DESCRIPTOR {
            return None;
        }
        let has_none = self.body[1] & NO_DESCRIPTOR != 0;
        match (has_none, self.descriptors.len()) {
            (true, 0) | (false, 1) => Some((usize::from(self.body[0]), self.descriptors.pop())),
            _ => None,
        }
    }

    /// Cuts what comes after the last region that the table names.
    fn cut_table(&mut self) {
        let Some(count) = self.body.first_chunk().copied().map(u32::from_le_bytes) else {
            return;
        };
        let regions = usize::try_from(count)
            .ok()
            .and_then(|n| n.checked_mul(REGION));
        let Some(len) = regions.and_then(|regions| regions.checked_add(REGIONS)) else {
            return;
        };
        if count > 0 && len < self.body.len() {
            self.body.truncate(len);
            self.header[8..].copy_from_slice(&(len as u32).to_le_bytes());
        }
    }

    /// Whether the regions lie in their files, and stay there as far as that is in our power.
    fn check_regions(&self) -> Result<(), RelayError> {
        let regions = self.body.get(REGIONS..).unwrap_or_default();
        for (region, file) in regions.chunks_exact(REGION).zip(&self.descriptors) {
            let (len, offset) = (double_word(region, 8), double_word(region, 24));
            // Nobody can make it shorter after that, where it is memory that can be sealed.
            let _ = rustix::fs::fcntl_add_seals(file, SealFlags::SHRINK);
            let stat = rustix::fs::fstat(file)?;
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            let file_len = u64::try_from(stat.st_size).unwrap_or(0);
            let fits = offset.checked_add(len).is_some_and(|end| end <= file_len);
            if is_file && !fits {
                return Err(RelayError::RegionPastEnd {
                    offset,
                    len,
                    file_len,
                });
            }
        }
        Ok(())
    }
}

/// Receives some bytes, and the descriptors that come with them.
fn receive_part(
    from: &UnixStream,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Result<usize, RelayError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let (received, are_cut) = passed_descriptors::receive(from, bytes, descriptors, &mut space)?;
    match are_cut || descriptors.len() > MOST_DESCRIPTORS {
        true => Err(RelayError::Descriptors),
        false => Ok(received),
    }
}

/// Tells a client that the configuration has changed.
pub(super) fn tell_of_change(channel: &OwnedFd) {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    // Where there is no room, messages of the same kind are waiting to be read. A client that has
    // gone does not need to know.
    let _ = rustix::net::send(channel, &CONFIGURATION_CHANGE, flags);
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    u32::from_le_bytes(word.copied().unwrap_or_default())
}

fn double_word(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests;
