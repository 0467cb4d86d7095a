//! A life that a driver outside of this program has lived: what its guest was to do, and what was
//! witnessed of it, in one order. The recording is all that is known of such a life. It is judged
//! by [`World::relive`](super::world::World::relive), as often as need be and anywhere.

use std::collections::BTreeMap;
use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use driver::blk::{Operation, split};
use driver::host::OperationKind;
use driver::system_words;
use driver::units::{SECTOR_SIZE, Sector, SectorCount, SectorRange};
use serde::{Deserialize, Serialize};

use crate::sim::Fault;
use crate::stamp::{Content, Stamp};

use super::case::{Life, Stimulus};

/// The requests of the first life have larger numbers than this one. They are stamps too: smaller
/// ones are those of what was there before.
const FIRST_REQUEST: u32 = 1000;

/// No life has that many requests.
const REQUESTS_A_LIFE: u32 = 1 << 24;

/// What the numbers of the requests of a life begin after; lives are counted from 0.
pub fn numbered_after(life: usize) -> u32 {
    let life = u32::try_from(life).unwrap_or(u32::MAX);
    FIRST_REQUEST.saturating_add(life.saturating_mul(REQUESTS_A_LIFE))
}

/// The most bytes that a recording may have in one place.
const LONGEST: u64 = 16 << 20;

/// What a guest does with its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Submits a request, when none is in flight that overlaps it and of which one changes what
    /// the other is about: Linux's block layer keeps no order between them.
    Submit(GuestRequest),
    /// Waits until the request ends that has been in flight for longest.
    WaitForOldest,
    /// Waits until no request is in flight.
    WaitForAll,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuestRequest {
    /// Its number, and the stamp of what it writes.
    pub number: u32,
    /// What it asks for.
    pub what: GuestOperation,
    /// The first sector.
    pub start: u64,
    /// Sectors.
    pub count: u64,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "named as Operation names them")]
pub enum GuestOperation {
    Read,
    Write,
    WriteWithFua,
    Flush,
    Discard,
    WriteZeroes,
}

impl GuestRequest {
    /// Its sectors.
    pub fn range(self) -> SectorRange {
        SectorRange::new(Sector(self.start), SectorCount(self.count))
    }

    /// What it asks for, in the driver's words.
    pub fn operation(self) -> Operation {
        match self.what {
            GuestOperation::Read => Operation::Read,
            GuestOperation::Write => Operation::Write { fua: false },
            GuestOperation::WriteWithFua => Operation::Write { fua: true },
            GuestOperation::Flush => Operation::Flush,
            GuestOperation::Discard => Operation::Discard,
            GuestOperation::WriteZeroes => Operation::WriteZeroes,
        }
    }

    /// Whether the two may not be in flight together.
    pub fn excludes(self, other: GuestRequest) -> bool {
        let changes = self.operation().is_change() || other.operation().is_change();
        changes && self.range().overlaps(other.range())
    }
}

/// What the guest of a first life does: see [`deeds_after`].
pub fn deeds(life: &Life, sectors: u64, longest: u64) -> Vec<Deed> {
    deeds_after(numbered_after(0), life, sectors, longest)
}

/// What the guest of a life does with a device of `sectors`: it reads all of it, does what the life
/// says, and reads all of it again. Its reads and writes have at most `longest` sectors. Steps of
/// the I/O thread, which nobody outside can take, are waits for one request. The numbers of its
/// requests begin after `number`.
pub fn deeds_after(number: u32, life: &Life, sectors: u64, longest: u64) -> Vec<Deed> {
    let mut doing = Doing {
        number,
        longest: SectorCount(longest.max(1)),
        deeds: Vec::new(),
    };
    doing.read_whole(sectors);
    for &action in &life.actions {
        let (what, start, count) = match action {
            Stimulus::Read { start, count } => (GuestOperation::Read, start, count),
            Stimulus::Write {
                start,
                count,
                fua: false,
            } => (GuestOperation::Write, start, count),
            Stimulus::Write { start, count, .. } => (GuestOperation::WriteWithFua, start, count),
            Stimulus::Flush => (GuestOperation::Flush, 0, 0),
            Stimulus::Discard { start, count } => (GuestOperation::Discard, start, count),
            Stimulus::WriteZeroes { start, count } => (GuestOperation::WriteZeroes, start, count),
            Stimulus::Step => {
                doing.deeds.push(Deed::WaitForOldest);
                continue;
            }
            Stimulus::Drain => {
                doing.deeds.push(Deed::WaitForAll);
                continue;
            }
            // Nothing outside of this program resizes a device, or opens it once more.
            _ => continue,
        };
        let is_within = what == GuestOperation::Flush || count > 0 && start + count <= sectors;
        if is_within {
            doing.submit(what, start, count);
        }
    }
    doing.deeds.push(Deed::WaitForAll);
    doing.read_whole(sectors);
    doing.deeds
}

/// The requests of a first life, by their numbers: see [`deeds_after`].
pub fn requests(life: &Life, sectors: u64, longest: u64) -> BTreeMap<u32, GuestRequest> {
    requests_after(numbered_after(0), life, sectors, longest)
}

/// The requests of a life, by their numbers: see [`deeds_after`].
pub fn requests_after(
    number: u32,
    life: &Life,
    sectors: u64,
    longest: u64,
) -> BTreeMap<u32, GuestRequest> {
    let deeds = deeds_after(number, life, sectors, longest).into_iter();
    let submitted = deeds.filter_map(|deed| match deed {
        Deed::Submit(asked) => Some((asked.number, asked)),
        Deed::WaitForOldest | Deed::WaitForAll => None,
    });
    submitted.collect()
}

/// The words for Linux's number of an error.
pub fn error_words(errno: i32) -> String {
    system_words(io::Error::from_raw_os_error(errno))
}

/// What a guest does, as it is made out.
struct Doing {
    number: u32,
    longest: SectorCount,
    deeds: Vec<Deed>,
}

impl Doing {
    fn submit_one(&mut self, what: GuestOperation, start: u64, count: u64) {
        self.number += 1;
        self.deeds.push(Deed::Submit(GuestRequest {
            number: self.number,
            what,
            start,
            count,
        }));
    }

    fn pieces(&self, start: u64, count: u64) -> impl Iterator<Item = SectorRange> + use<> {
        let range = SectorRange::new(Sector(start), SectorCount(count));
        split(range, self.longest)
    }

    fn submit(&mut self, what: GuestOperation, start: u64, count: u64) {
        use GuestOperation::{Read, Write, WriteWithFua};
        if !matches!(what, Read | Write | WriteWithFua) {
            return self.submit_one(what, start, count);
        }
        for piece in self.pieces(start, count) {
            self.submit_one(what, piece.start.0, piece.count.0);
        }
    }

    /// One piece after the other: of several at once the block layer may make one request.
    fn read_whole(&mut self, sectors: u64) {
        for piece in self.pieces(0, sectors) {
            self.submit_one(GuestOperation::Read, piece.start.0, piece.count.0);
            self.deeds.push(Deed::WaitForAll);
        }
    }
}

/// What was witnessed of a life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Witnessed {
    /// The host was asked for something.
    Host(HostRecord),
    /// The guest has said something.
    Guest(GuestWord),
}

/// What a guest says of its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuestWord {
    /// It waits for what it is to do.
    Ready,
    /// The device is open, and has this many sectors.
    Opened {
        /// How many.
        sectors: u64,
    },
    /// The device could not be opened.
    NotOpened {
        /// Linux's number of the error.
        errno: i32,
    },
    /// A request is submitted, right after this.
    Submitted {
        /// Its number.
        number: u32,
    },
    /// A request has ended.
    Ended {
        /// Its number.
        number: u32,
        /// Linux's number of the error, if it has failed.
        errno: Option<i32>,
        /// What a read has brought.
        brought: Vec<Piece>,
    },
    /// The device is closed.
    Closed,
    /// The guest cannot do its work.
    Broken {
        /// Why not.
        why: String,
    },
}

/// A run of sectors that a read has brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// This many sectors of zeros.
    Zeros(u64),
    /// Sectors that have this stamp, with consecutive numbers.
    Stamped {
        /// The stamp.
        stamp: u32,
        /// The number in the first one.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Other bytes, in base64.
    Bytes(String),
}

/// The pieces of what a read has brought.
pub fn pieces(content: &[u8]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for sector in content.chunks(SECTOR_SIZE as usize) {
        let is_whole = sector.len() as u64 == SECTOR_SIZE;
        let found = if is_whole {
            Content::of(sector)
        } else {
            Content::Foreign
        };
        match (found, pieces.last_mut()) {
            (Content::Zeros, Some(Piece::Zeros(count))) => *count += 1,
            (Content::Zeros, _) => pieces.push(Piece::Zeros(1)),
            (
                Content::Stamped(of, at),
                Some(Piece::Stamped {
                    stamp,
                    first,
                    count,
                }),
            ) if *stamp == of.0 && first.checked_add(*count) == Some(at.0) => *count += 1,
            (Content::Stamped(of, at), _) => pieces.push(Piece::Stamped {
                stamp: of.0,
                first: at.0,
                count: 1,
            }),
            (Content::Foreign, _) => pieces.push(Piece::Bytes(BASE64.encode(sector))),
        }
    }
    pieces
}

/// What a read has brought, of its pieces.
///
/// # Errors
/// If they are not those of a read.
pub fn content(pieces: &[Piece]) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    for piece in pieces {
        let count = match piece {
            Piece::Zeros(count) | Piece::Stamped { count, .. } => *count,
            Piece::Bytes(text) => (text.len() as u64).div_ceil(SECTOR_SIZE),
        };
        let len = count.saturating_mul(SECTOR_SIZE);
        if len.saturating_add(content.len() as u64) > LONGEST {
            return Err(format!("found a read of more than {LONGEST} bytes"));
        }
        let begin = content.len();
        match piece {
            Piece::Zeros(_) => content.resize(begin + len as usize, 0),
            Piece::Stamped { stamp, first, .. } => {
                if first.checked_add(count).is_none() {
                    return Err(format!("found sector {first} and {count} more"));
                }
                content.resize(begin + len as usize, 0);
                Stamp(*stamp).fill(Sector(*first), &mut content[begin..]);
            }
            Piece::Bytes(text) => {
                let bytes = BASE64.decode(text);
                content.extend(bytes.map_err(|error| format!("not base64: {error}"))?);
            }
        }
    }
    Ok(content)
}

/// What a host was asked for of a file, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRecord {
    /// What was asked for, by the name of its kind.
    pub kind: String,
    /// The file's path on the host of a case.
    pub path: String,
    /// The first byte.
    pub at: u64,
    /// How many were asked for.
    pub len: u64,
    /// How many of them it has done, from the first one on.
    pub done: u64,
    /// Of a write, the bytes that were written, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Linux's number of the error that it was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
}

impl HostRecord {
    /// What was asked for.
    ///
    /// # Errors
    /// If nothing is called so.
    pub fn kind(&self) -> Result<OperationKind, String> {
        let kind = OperationKind::from_name(&self.kind);
        kind.ok_or_else(|| format!("found kind {:?}, expected an operation's name", self.kind))
    }

    /// Whether the host has failed in it.
    pub fn has_failed(&self) -> bool {
        self.errno.is_some() || self.done < self.len
    }

    /// What a simulated host does in the place of this operation, which is of this kind, so that
    /// whoever asks hears the same.
    pub fn fault(&self, kind: OperationKind) -> Option<Fault> {
        match (self.errno, kind) {
            (Some(28), _) => Some(Fault::NoSpace),
            (Some(95), _) => Some(Fault::Unsupported),
            (Some(_), _) if self.done == self.len && self.len > 0 => Some(Fault::IoAfter),
            (Some(_), _) => Some(Fault::Io),
            (None, OperationKind::Write) => Some(Fault::ShortWrite(self.done)),
            // At the end of a file a read is short by itself.
            (None, OperationKind::Read) if self.done > 0 => Some(Fault::ShortRead(self.done)),
            (None, _) => None,
        }
    }

    /// The bytes that were written.
    ///
    /// # Errors
    /// If the recording has others.
    pub fn data(&self) -> Result<Vec<u8>, String> {
        let text = self.data.as_deref().unwrap_or_default();
        let data = BASE64.decode(text);
        let data = data.map_err(|error| format!("not base64: {error}"))?;
        match data.len() as u64 == self.done {
            true => Ok(data),
            false => Err(format!(
                "found {} bytes, expected {} that were written",
                data.len(),
                self.done
            )),
        }
    }

    /// These bytes, as [`HostRecord::data`] has them.
    pub fn encoded(data: &[u8]) -> String {
        BASE64.encode(data)
    }
}

/// How a life came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The guest did all that it was to do.
    Whole,
    /// The kernel was killed where the case says so. What is left is what the next life begins
    /// with.
    Killed,
    /// The kernel died, and this is the last that it said.
    Died(String),
    /// Nothing happened any more for the time that was allowed, and this is the last that the
    /// kernel said.
    Hung(String),
    /// The host was asked for more than the life can need, of which the recording has the
    /// beginning. This is the last that the kernel said.
    Endless(String),
    /// The guest has said what it cannot have to say. The kernel was killed.
    Astray {
        /// What.
        why: String,
        /// The last that the kernel said.
        console: String,
    },
}

/// A recorded life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// The kernel, in its own words.
    pub kernel: String,
    /// The most sectors of a read or write of the guest.
    pub longest: u64,
    /// What was witnessed, in order.
    pub witnessed: Vec<Witnessed>,
    /// How it ended.
    pub ending: Ending,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_read_has_brought_comes_back_from_its_pieces() {
        let mut bytes = vec![0; 6 * 512];
        Stamp(7).fill(Sector(3), &mut bytes[512..3 * 512]);
        Stamp(7).fill(Sector(9), &mut bytes[3 * 512..4 * 512]);
        bytes[4 * 512..5 * 512].fill(0xa5);
        for len in [0, 512, 3 * 512, 6 * 512] {
            let pieces = pieces(&bytes[..len]);
            assert_eq!(content(&pieces), Ok(bytes[..len].to_vec()));
        }
        assert_eq!(pieces(&bytes).len(), 5);
        let whole = Piece::Zeros(u64::MAX);
        assert!(content(&[whole]).is_err(), "it would take all memory");
    }

    #[test]
    fn requests_that_change_what_another_is_about_exclude_it() {
        let asked = |what, start, count| GuestRequest {
            number: 1,
            what,
            start,
            count,
        };
        let write = asked(GuestOperation::Write, 4, 4);
        assert!(write.excludes(asked(GuestOperation::Read, 7, 1)));
        assert!(asked(GuestOperation::Read, 0, 5).excludes(write));
        assert!(!write.excludes(asked(GuestOperation::Write, 8, 1)));
        assert!(!write.excludes(asked(GuestOperation::Flush, 0, 0)));
        let read = asked(GuestOperation::Read, 4, 4);
        assert!(!read.excludes(read));
    }
}
