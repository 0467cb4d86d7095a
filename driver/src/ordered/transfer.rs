//! The host half: a planned request carried out on the two files. One host operation a
//! run, straight from or into the request's own buffers.

use crate::blk::{FileRole, HostFailure, Operation, Request, Segment};
use crate::cow::SectorMap;
use crate::host::{HostError, HostFile};
use crate::units::{Bytes, FileOffset, FileRange, Sector, SectorRange};

use super::placement::Placement;
use super::plan::{read_run, rest_after, write_run};

/// The two host files under a device.
#[derive(Debug)]
pub(super) struct Files<F> {
    /// The COW file, or a raw disk.
    pub(super) cow: F,
    /// The backing file; `None` for a raw disk, and where only the COW file is worked on.
    pub(super) backing: Option<F>,
}

/// Zeros are written from here where the host has no other way.
static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

impl<F: HostFile> Files<F> {
    /// Reads what a request for `range` asks for. After an error an unknown part of it has
    /// been read.
    #[inline]
    pub(super) fn read(
        &self,
        segments: &mut [Segment],
        start: Sector,
        map: &SectorMap,
        placement: &Placement,
    ) -> Result<(), HostFailure> {
        let mut start = start;
        for segment in segments {
            let range = SectorRange::new(start, segment.sectors);
            self.read_segment(&mut segment.data, range, map, placement)?;
            start = range.end();
        }
        Ok(())
    }

    /// Carries out the data part of a request for `range` that is not a read. After an error
    /// an unknown part of it has been done.
    #[inline]
    pub(super) fn change(
        &self,
        request: &Request,
        range: SectorRange,
        map: &SectorMap,
        placement: &Placement,
    ) -> Result<(), HostFailure> {
        match request.operation {
            Operation::Write { .. } => {
                let mut start = range.start;
                for segment in &request.segments {
                    let range = SectorRange::new(start, segment.sectors);
                    self.write_segment(&segment.data, range, placement)?;
                    start = range.end();
                }
                Ok(())
            }
            Operation::Discard => self.discard(range, map, placement),
            Operation::WriteZeroes => self.write_zeroes(range, placement),
            Operation::Read | Operation::Flush => Ok(()),
        }
    }

    #[inline]
    fn read_segment(
        &self,
        buffer: &mut [u8],
        range: SectorRange,
        map: &SectorMap,
        placement: &Placement,
    ) -> Result<(), HostFailure> {
        let (mut buffer, mut range) = (buffer, range);
        while !range.is_empty() {
            let run = read_run(map, placement, range);
            let (part, rest) = buffer.split_at_mut(run.range.count.bytes().0 as usize);
            (buffer, range) = (rest, rest_after(run, range));
            let file = match run.role {
                FileRole::Cow => Some(&self.cow),
                FileRole::Backing => self.backing.as_ref(),
            };
            file.ok_or(HostError::NotFound)
                .and_then(|file| file.read_exact_at(part, run.at))
                .map_err(|error| failure(run.role, run.at, error))?;
        }
        Ok(())
    }

    #[inline]
    fn write_segment(
        &self,
        data: &[u8],
        range: SectorRange,
        placement: &Placement,
    ) -> Result<(), HostFailure> {
        let (mut data, mut range) = (data, range);
        while !range.is_empty() {
            let run = write_run(placement, range);
            let (part, rest) = data.split_at(run.range.count.bytes().0 as usize);
            (data, range) = (rest, rest_after(run, range));
            self.cow
                .write_all_at(part, run.at)
                .map_err(|error| failure(run.role, run.at, error))?;
        }
        Ok(())
    }

    /// Punches out what is dirty. A clean sector keeps what the backing file has: a discard
    /// promises nothing, and a set bit would only cost.
    fn discard(
        &self,
        range: SectorRange,
        map: &SectorMap,
        placement: &Placement,
    ) -> Result<(), HostFailure> {
        let mut range = range;
        while !range.is_empty() {
            let run = read_run(map, placement, range);
            range = rest_after(run, range);
            if run.role == FileRole::Cow {
                self.cow
                    .punch_hole(FileRange::new(run.at, run.range.count.bytes()))
                    .map_err(|error| failure(run.role, run.at, error))?;
            }
        }
        Ok(())
    }

    fn write_zeroes(&self, range: SectorRange, placement: &Placement) -> Result<(), HostFailure> {
        let mut range = range;
        while !range.is_empty() {
            let run = write_run(placement, range);
            range = rest_after(run, range);
            zero(&self.cow, FileRange::new(run.at, run.range.count.bytes()))
                .map_err(|error| failure(run.role, run.at, error))?;
        }
        Ok(())
    }
}

/// Makes a range of a file read as zeros, by writing them where the host cannot.
pub(super) fn zero<F: HostFile>(file: &F, range: FileRange) -> Result<(), HostError> {
    match file.zero_range(range) {
        Err(HostError::Unsupported) => {
            let mut at = range.start;
            while at < range.end() {
                let len = ((range.end() - at).0 as usize).min(ZEROS.len());
                file.write_all_at(&ZEROS[..len], at)?;
                at += Bytes(len as u64);
            }
            Ok(())
        }
        result => result,
    }
}

pub(super) fn failure(role: FileRole, at: FileOffset, error: HostError) -> HostFailure {
    HostFailure { role, at, error }
}
