//! What a device needs for reads past the page cache: buffers that begin at a disk's block, and its
//! operations on files that were opened for it.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Finished, HostFile, Operation};
use driver::units::FileOffset;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use userhelper::real_files::RealFile;

use super::super::device::SetUpError;
use super::cases::BLOCK;

/// What the address of a buffer has to be a multiple of.
const ALIGNMENT: usize = 512;

/// The most buffers that are thrown away for one that lies as wanted.
const TRIES: usize = 1024;

/// A buffer for one block, where direct I/O takes it. An allocator gives addresses that are
/// multiples of 16, one after the other: one in 32 of them will do.
pub(super) fn block() -> Result<Vec<u8>, SetUpError> {
    let mut others = Vec::new();
    for _ in 0..TRIES {
        let buffer = vec![0; BLOCK as usize];
        if buffer.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            return Ok(buffer);
        }
        others.push(buffer);
    }
    Err(SetUpError::NoBuffer {
        tries: TRIES,
        alignment: ALIGNMENT,
    })
}

/// Makes reads of these files direct. `None` where their file system does not take them, or wants
/// other addresses.
pub(super) fn direct(files: Files<RealFile>) -> Result<Option<Files<RealFile>>, SetUpError> {
    let mut buffer = block()?;
    for file in [Some(&files.cow), files.backing.as_ref()]
        .into_iter()
        .flatten()
    {
        let descriptor = file.as_fd();
        let set = fcntl_getfl(descriptor)
            .and_then(|flags| fcntl_setfl(descriptor, flags | OFlags::DIRECT));
        if set.is_err() || file.read_at(&mut buffer, FileOffset(0)).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(files))
}

/// An executor on other files than the device's.
pub(super) struct Redirected<'a> {
    files: Files<RealFile>,
    executor: &'a mut dyn Executor<RealFile>,
}

impl Redirected<'_> {
    pub(super) fn to(
        files: Files<RealFile>,
        executor: &mut dyn Executor<RealFile>,
    ) -> Redirected<'_> {
        Redirected { files, executor }
    }
}

impl Executor<RealFile> for Redirected<'_> {
    fn room(&self) -> usize {
        self.executor.room()
    }

    fn under_way(&self) -> usize {
        self.executor.under_way()
    }

    fn begin(&mut self, operation: Operation, _files: &Files<RealFile>) {
        self.executor.begin(operation, &self.files);
    }

    fn finished(&mut self, wait: Wait) -> Result<Option<Finished>, Died> {
        self.executor.finished(wait)
    }
}

/// Carries each operation out where it begins.
#[derive(Default)]
pub(super) struct Inline(VecDeque<Finished>);

impl Executor<RealFile> for Inline {
    fn room(&self) -> usize {
        1_usize.saturating_sub(self.0.len())
    }

    fn under_way(&self) -> usize {
        self.0.len()
    }

    fn begin(&mut self, operation: Operation, files: &Files<RealFile>) {
        self.0.push_back(files.carry_out(operation));
    }

    fn finished(&mut self, _: Wait) -> Result<Option<Finished>, Died> {
        Ok(self.0.pop_front())
    }
}
