//! The host half: a planned request carried out on the two files. One host operation a
//! run, straight from or into the request's own buffers.

use crate::blk::{FileRole, HostFailure, Operation, Request, Segment};
use crate::cow::SectorMap;
use crate::host::{HostError, HostFile};
use crate::units::{Bytes, FileOffset, FileRange, Sector, SectorRange};

use super::placement::Placement;
use super::plan::{read_runs, write_runs};

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
    /// Carries out the data part of a request. After an error an unknown part of it has
    /// been done.
    pub(super) fn carry_out(
        &self,
        request: &mut Request,
        map: &SectorMap,
        placement: &Placement,
    ) -> Result<(), HostFailure> {
        match request.operation {
            Operation::Read => for_each_segment(request, |segment, range| {
                self.read(&mut segment.data, range, map, placement)
            }),
            Operation::Write { .. } => for_each_segment(request, |segment, range| {
                self.write(&segment.data, range, placement)
            }),
            Operation::Discard => self.discard(request.range(), map, placement),
            Operation::WriteZeroes => write_runs(placement, request.range()).try_for_each(|run| {
                zero(&self.cow, FileRange::new(run.at, run.range.count.bytes()))
                    .map_err(|error| failure(FileRole::Cow, run.at, error))
            }),
            Operation::Flush => Ok(()),
        }
    }

    fn read(
        &self,
        buffer: &mut [u8],
        range: SectorRange,
        map: &SectorMap,
        placement: &Placement,
    ) -> Result<(), HostFailure> {
        let mut rest = buffer;
        for run in read_runs(map, placement, range) {
            let (part, behind) = rest.split_at_mut(run.range.count.bytes().0 as usize);
            rest = behind;
            match (run.role, &self.backing) {
                (FileRole::Cow, _) => self.cow.read_exact_at(part, run.at),
                (FileRole::Backing, Some(backing)) => backing.read_exact_at(part, run.at),
                (FileRole::Backing, None) => Err(HostError::NotFound),
            }
            .map_err(|error| failure(run.role, run.at, error))?;
        }
        Ok(())
    }

    fn write(
        &self,
        data: &[u8],
        range: SectorRange,
        placement: &Placement,
    ) -> Result<(), HostFailure> {
        let mut rest = data;
        for run in write_runs(placement, range) {
            let (part, behind) = rest.split_at(run.range.count.bytes().0 as usize);
            rest = behind;
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
        for run in read_runs(map, placement, range) {
            if run.role == FileRole::Cow {
                self.cow
                    .punch_hole(FileRange::new(run.at, run.range.count.bytes()))
                    .map_err(|error| failure(run.role, run.at, error))?;
            }
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

fn for_each_segment(
    request: &mut Request,
    mut carry_out: impl FnMut(&mut Segment, SectorRange) -> Result<(), HostFailure>,
) -> Result<(), HostFailure> {
    let mut start: Sector = request.start;
    for segment in &mut request.segments {
        let range = SectorRange::new(start, segment.sectors);
        carry_out(segment, range)?;
        start = range.end();
    }
    Ok(())
}

pub(super) fn failure(role: FileRole, at: FileOffset, error: HostError) -> HostFailure {
    HostFailure { role, at, error }
}
