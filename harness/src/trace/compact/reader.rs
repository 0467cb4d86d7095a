//! Reading a `.ubdtrace` file, from front to back or from the middle.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use driver::exact_count;
use driver::units::{Bytes, FileOffset};

use super::super::compression::Compression;
use super::super::error::{Place, TraceError, excerpt};
use super::super::input::Input;
use super::super::{Description, Format, Nanoseconds, Notes, Record, Served, TraceSource};
use super::Fault;
use super::frame::{self, FrameHeader};
use super::header::{self, TraceHeader, Version};
use super::index::{ENTRY_LEN, INDEX_HEAD, INDEX_MAGIC, IndexEntry, TRAILER_LEN, Trailer};

/// Reads a compact trace. From front to back it needs [`Read`] only; to enter in
/// the middle, [`Seek`].
#[derive(Debug)]
pub struct CompactReader<R> {
    input: Input<R>,
    description: Description,
    /// Times that step back, who asked, and how requests ended. Nothing else is ever noticed: what
    /// is not as it should be is an error.
    notes: Notes,
    version: Version,
    /// The time of the record that was given out last; 0 where nothing came before.
    last_time: Nanoseconds,
    header_end: FileOffset,
    /// The decoded frame and how much of it was given out.
    frame: Vec<Record>,
    /// What is told of each of its records, in version 2.
    frame_served: Vec<Served>,
    position: usize,
    /// The number of the first record after `frame`.
    next_record: u64,
    frames_seen: Option<u64>,
    index: Option<(Vec<IndexEntry>, Trailer)>,
    ended: bool,
}

impl CompactReader<BufReader<File>> {
    /// Opens a file that is known to be a compact trace, to enter it in the middle.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let file = File::open(path).map_err(|error| TraceError::Io {
            place: Place::new(path, FileOffset(0)),
            error,
        })?;
        CompactReader::new(path, BufReader::new(file))
    }
}

impl<R: Read> CompactReader<R> {
    /// Reads the header from `reader`; `name` is what errors call the trace.
    pub fn new(name: &Path, reader: R) -> Result<CompactReader<R>, TraceError> {
        let mut input = Input::new(name, reader);
        let mut fixed = [0; header::FIXED_LEN];
        input.read_whole(&mut fixed, "the header")?;
        let start = FileOffset(0);
        let length = TraceHeader::description_len(&fixed);
        let length = length.map_err(|fault| misplaced(&input, start, fault))?;
        let version = Version::of(&fixed).map_err(|fault| misplaced(&input, start, fault))?;
        let mut text = vec![0; length];
        input.read_whole(&mut text, "the header's description")?;
        let header = TraceHeader::decode(&fixed, text);
        let header = header.map_err(|fault| misplaced(&input, start, fault))?;
        Ok(CompactReader {
            header_end: input.offset(),
            input,
            description: Description {
                device_size: header.device_size,
                text: header.description,
                ..Description::of(Format::Compact)
            },
            notes: Notes::default(),
            version,
            last_time: Nanoseconds(0),
            frame: Vec::new(),
            frame_served: Vec::new(),
            position: 0,
            next_record: 0,
            frames_seen: Some(0),
            index: None,
            ended: false,
        })
    }

    /// The reader of a trace that was decompressed on the way.
    pub(in super::super) fn compressed(mut self, how: Option<Compression>) -> CompactReader<R> {
        self.input = self.input.decompressed(how.is_some());
        self.description.compression = how.map(Compression::name);
        self
    }

    /// What the header says.
    pub fn description(&self) -> &Description {
        &self.description
    }

    fn read(&mut self) -> Result<Option<Record>, TraceError> {
        if self.position == self.frame.len() && !self.read_frame()? {
            return Ok(None);
        }
        let record = self.frame[self.position];
        if let Some(&served) = self.frame_served.get(self.position) {
            self.notes.served.add(served);
        }
        self.position += 1;
        self.notes.count_time(record.time, self.last_time);
        self.last_time = record.time;
        Ok(Some(record))
    }

    /// Replaces the frame by the next one. At the index, checks it and the trailer
    /// against what was read, and returns false.
    fn read_frame(&mut self) -> Result<bool, TraceError> {
        let start = self.input.offset();
        let mut bytes = [0; frame::HEADER_LEN];
        self.input
            .read_whole(&mut bytes[..4], "a frame or the index")?;
        if bytes[..4] == INDEX_MAGIC {
            self.read_end(start)?;
            return Ok(false);
        }
        if bytes[..4] != frame::MAGIC {
            let expected = "a frame, \"UBDF\", or the index, \"UBDI\"";
            return Err(self.input.bad(start, excerpt(&bytes[..4]), expected));
        }
        self.input
            .read_whole(&mut bytes[4..], "the rest of a frame's header")?;
        let header = FrameHeader::decode(&bytes);
        let header = header.map_err(|fault| misplaced(&self.input, start, fault))?;
        if header.first_record != self.next_record {
            let found = format!("a frame that begins with record {}", header.first_record);
            let expected = format!("record {}", self.next_record);
            return Err(self.input.bad(start + Bytes(8), found, expected));
        }
        let mut payload = vec![0; header.payload_len];
        self.input.read_whole(&mut payload, "a frame's payload")?;
        self.clear_frame();
        let decoded = frame::decode(
            &header,
            &payload,
            self.version,
            &mut self.frame,
            &mut self.frame_served,
        );
        if let Err(fault) = decoded {
            self.clear_frame();
            return Err(misplaced(&self.input, start, fault));
        }
        self.next_record += header.records as u64;
        self.frames_seen = self.frames_seen.map(|frames| frames + 1);
        Ok(true)
    }

    /// Everything from the index on, of which the magic has been read. The entries
    /// are not kept: they may be many, and nobody asked to seek.
    fn read_end(&mut self, start: FileOffset) -> Result<(), TraceError> {
        let mut head = [0; INDEX_HEAD.len()];
        head[..4].copy_from_slice(&INDEX_MAGIC);
        self.input
            .read_whole(&mut head[4..], "the rest of the index's head")?;
        if head != INDEX_HEAD {
            return Err(self
                .input
                .bad(start + Bytes(4), excerpt(&head[4..]), "four bytes of 0"));
        }
        let mut crc = crc32c::crc32c(&head);
        let mut entries = 0;
        // The trailer is shorter than two entries, so it shows itself by what is left.
        let mut bytes = [0; ENTRY_LEN + TRAILER_LEN];
        let mut filled = self.input.read_up_to(&mut bytes)?;
        while filled == bytes.len() {
            crc = crc32c::crc32c_append(crc, &bytes[..ENTRY_LEN]);
            entries += 1;
            bytes.copy_within(ENTRY_LEN.., 0);
            filled = TRAILER_LEN + self.input.read_up_to(&mut bytes[TRAILER_LEN..])?;
        }
        let end = self.input.offset();
        // A cut may leave anything between nothing and more than a trailer's length.
        if filled != TRAILER_LEN || !Trailer::is_complete(&bytes[..TRAILER_LEN]) {
            return Err(TraceError::Cut {
                place: self.input.place(FileOffset(end.0 - filled as u64)),
                found: format!(
                    "{}, no trailer, before the end of the file",
                    exact_count(filled as u64, "byte")
                ),
                expected: format!("whole index entries, then a trailer of {TRAILER_LEN} bytes"),
            });
        }
        let trailer_at = FileOffset(end.0 - TRAILER_LEN as u64);
        let mut trailer = [0; TRAILER_LEN];
        trailer.copy_from_slice(&bytes[..TRAILER_LEN]);
        let trailer = Trailer::decode(&trailer, self.version);
        let trailer = trailer.map_err(|fault| misplaced(&self.input, trailer_at, fault))?;
        if trailer.index_crc != crc {
            let fault = Fault::checksum(24, "the index", trailer.index_crc, crc);
            return Err(misplaced(&self.input, trailer_at, fault));
        }
        let frames = self.frames_seen.unwrap_or(entries);
        for (what, at, said, is) in [
            ("an index at offset", 0, trailer.index.0, start.0),
            ("a number of frames of", 8, trailer.frames, frames),
            ("a number of index entries of", 8, trailer.frames, entries),
            (
                "a number of records of",
                16,
                trailer.records,
                self.next_record,
            ),
        ] {
            if said != is {
                let place = trailer_at + Bytes(at);
                return Err(self
                    .input
                    .bad(place, format!("{what} {said}"), is.to_string()));
            }
        }
        self.notes.served.lost = trailer.lost.into();
        Ok(())
    }

    fn clear_frame(&mut self) {
        self.frame.clear();
        self.frame_served.clear();
        self.position = 0;
    }
}

impl<R: Read + Seek> CompactReader<R> {
    /// How many records the trace has, by its index.
    pub fn records(&mut self) -> Result<u64, TraceError> {
        Ok(self.index()?.1.records)
    }

    /// Makes record `number`, counted from 0, the next one. The number of records
    /// itself is allowed and leads to the end.
    pub fn seek_record(&mut self, number: u64) -> Result<(), TraceError> {
        let (entries, trailer) = self.index()?;
        let (records, index) = (trailer.records, trailer.index);
        if number > records {
            return Err(TraceError::NoSuchRecord {
                file: self.input.file().to_owned(),
                wanted: number,
                records,
            });
        }
        // The last frame that begins at or before the record.
        let frame = entries.partition_point(|entry| entry.first_record <= number);
        match frame.checked_sub(1).filter(|_| number < records) {
            Some(frame) => {
                let entry = entries[frame];
                self.enter(entry)?;
                self.position = (number - entry.first_record) as usize;
                if self.position >= self.frame.len() {
                    let found = format!("a frame that ends before record {number}");
                    return Err(self.input.bad(entry.offset, found, "what the index says"));
                }
            }
            None => self.leave_at(index, records)?,
        }
        self.ended = false;
        Ok(())
    }

    /// Makes the first record at or after `time` the next one; the end, if there is
    /// none. Where times step back, that is the first one in the file's order.
    pub fn seek_time(&mut self, time: Nanoseconds) -> Result<(), TraceError> {
        let (entries, trailer) = self.index()?;
        let (records, index) = (trailer.records, trailer.index);
        match entries
            .iter()
            .find(|entry| entry.latest_time >= time)
            .copied()
        {
            Some(entry) => {
                self.enter(entry)?;
                let position = self.frame.iter().position(|record| record.time >= time);
                self.position = position.unwrap_or(self.frame.len());
            }
            None => self.leave_at(index, records)?,
        }
        self.ended = false;
        Ok(())
    }

    fn enter(&mut self, entry: IndexEntry) -> Result<(), TraceError> {
        self.leave_at(entry.offset, entry.first_record)?;
        if !self.read_frame()? {
            return Err(self
                .input
                .bad(entry.offset, "the index", "a frame, as the index says"));
        }
        Ok(())
    }

    /// Forgets the frame; the next one is read from `offset`.
    fn leave_at(&mut self, offset: FileOffset, next_record: u64) -> Result<(), TraceError> {
        // Until the seek has succeeded there is nothing to read on from.
        self.ended = true;
        self.clear_frame();
        self.last_time = Nanoseconds(0);
        self.next_record = next_record;
        self.frames_seen = None;
        self.input.seek(offset)
    }

    /// The index, read at the first use. Afterwards the position is somewhere.
    fn index(&mut self) -> Result<&(Vec<IndexEntry>, Trailer), TraceError> {
        if self.index.is_none() {
            let resume = self.input.offset();
            let index = self.load_index();
            self.input.seek(resume)?;
            self.index = Some(index?);
        }
        match &self.index {
            Some(index) => Ok(index),
            None => unreachable!("it has just been set"),
        }
    }

    fn load_index(&mut self) -> Result<(Vec<IndexEntry>, Trailer), TraceError> {
        let end = FileOffset(self.input.length()?.0);
        let room = end.0.saturating_sub(self.header_end.0);
        let smallest = (INDEX_HEAD.len() + TRAILER_LEN) as u64;
        let cut = |input: &Input<R>, fault: Fault| TraceError::Cut {
            place: input.place(FileOffset(end.0.saturating_sub(TRAILER_LEN as u64))),
            found: fault.found,
            expected: fault.expected,
        };
        if room < smallest {
            let found = format!("{} after the header", exact_count(room, "byte"));
            let fault = Fault::new(0, found, "an index");
            return Err(cut(&self.input, fault));
        }
        let trailer_at = FileOffset(end.0 - TRAILER_LEN as u64);
        self.input.seek(trailer_at)?;
        let mut bytes = [0; TRAILER_LEN];
        self.input.read_whole(&mut bytes, "the trailer")?;
        let trailer =
            Trailer::decode(&bytes, self.version).map_err(|fault| cut(&self.input, fault))?;
        if trailer.end_of_file() != Some(end) || trailer.index < self.header_end {
            let found = format!(
                "an index at offset {} of {}",
                trailer.index,
                exact_count(trailer.frames, "frame")
            );
            let expected = format!("one that ends at this trailer, offset {trailer_at}");
            return Err(self.input.bad(trailer_at, found, expected));
        }
        self.input.seek(trailer.index)?;
        let mut head = [0; INDEX_HEAD.len()];
        self.input.read_whole(&mut head, "the index's head")?;
        if head != INDEX_HEAD {
            let expected = excerpt(&INDEX_HEAD);
            return Err(self.input.bad(trailer.index, excerpt(&head), expected));
        }
        let mut computed = crc32c::crc32c(&head);
        // The file may be longer than it has bytes, so that no more is read than can be right.
        let mut entries = Vec::new();
        for _ in 0..trailer.frames {
            let mut bytes = [0; ENTRY_LEN];
            self.input.read_whole(&mut bytes, "an entry of the index")?;
            computed = crc32c::crc32c_append(computed, &bytes);
            let entry = IndexEntry::decode(&bytes);
            self.check_entry(&entries, &entry, &trailer)?;
            entries.push(entry);
        }
        if trailer.index_crc != computed {
            let fault = Fault::checksum(24, "the index", trailer.index_crc, computed);
            return Err(misplaced(&self.input, trailer_at, fault));
        }
        if entries.is_empty() && trailer.records > 0 {
            let found = format!("{} without a frame", exact_count(trailer.records, "record"));
            let expected = "an entry for each frame";
            return Err(self.input.bad(trailer.index, found, expected));
        }
        Ok((entries, trailer))
    }

    /// The index leads forward, from record 0, within the frames.
    fn check_entry(
        &self,
        before: &[IndexEntry],
        entry: &IndexEntry,
        trailer: &Trailer,
    ) -> Result<(), TraceError> {
        let is_next = match before.last() {
            Some(last) => entry.offset > last.offset && entry.first_record > last.first_record,
            None => entry.offset >= self.header_end && entry.first_record == 0,
        };
        let is_inside = entry.offset < trailer.index && entry.first_record < trailer.records;
        if is_next && is_inside {
            return Ok(());
        }
        let at = INDEX_HEAD.len() as u64 + before.len() as u64 * ENTRY_LEN as u64;
        let found = format!(
            "an entry for offset {}, record {}",
            entry.offset, entry.first_record
        );
        let expected = "entries in order, inside the file";
        Err(self.input.bad(trailer.index + Bytes(at), found, expected))
    }
}

/// The error for a fault in the structure at `start`.
fn misplaced<R>(input: &Input<R>, start: FileOffset, fault: Fault) -> TraceError {
    input.bad(start + Bytes(fault.at), fault.found, fault.expected)
}

impl<R: Read> Iterator for CompactReader<R> {
    type Item = Result<Record, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl<R: Read + Send> TraceSource for CompactReader<R> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn notes(&self) -> &Notes {
        &self.notes
    }

    fn tells_served(&self) -> bool {
        self.version == Version::Two
    }

    fn served(&self) -> Option<Served> {
        let last = self.position.checked_sub(1)?;
        self.frame_served.get(last).copied()
    }
}
