//! The host of the model, which answers it as the kernel's host has answered the kernel.

use driver::host::{
    Access, Action, Finished, HostError, HostFile, HostNames, HostResult, Operation,
};

use crate::fuzz::recorded::HostRecord;
use crate::sim::SimFile;

use super::asked::path_of;
use super::comparing::{Comparing, Stop};

impl Comparing<'_> {
    /// Does to a file of the model's host what was done to the kernel's.
    pub(super) fn carry_out(
        &mut self,
        mut operation: Operation,
        record: &HostRecord,
    ) -> Result<Finished, Stop> {
        let result = self.answer(self.at, &mut operation.action, record);
        let path = path_of(operation.file, self.backing()).to_owned();
        let done = record.done as usize;
        let written = record.data().unwrap_or_default();
        let file = self.file(&path)?;
        let carried: HostResult<bool> = match &mut operation.action {
            Action::ReadOnce { at, buffer, .. } => {
                let begin = buffer.part.start;
                let part = &mut buffer.data[begin..begin + done];
                file.read_at(part, *at).map(|count| count == done)
            }
            Action::WriteOnce { at, .. } => {
                // With what the kernel has written where that is not compared.
                file.write_all_at(&written, *at).map(|()| true)
            }
            Action::PunchHole(range) | Action::ZeroRange(range) => {
                let mut range = *range;
                range.len.0 = record.done;
                match record.done {
                    0 => Ok(true),
                    _ => file.punch_hole(range).map(|()| true),
                }
            }
            Action::SyncData if record.errno.is_none() => file.sync_data().map(|()| true),
            _ => Ok(true),
        };
        match carried {
            Ok(true) => Ok(Finished { operation, result }),
            Ok(false) => Err(Stop::Wrong(format!(
                "{} of {path}: found {done} bytes read, and the file has fewer there",
                record.kind
            ))),
            Err(error) => Err(Stop::Wrong(format!("{} of {path}: {error}", record.kind))),
        }
    }

    fn file(&mut self, path: &str) -> Result<&SimFile, Stop> {
        let wrong = |why: String| Stop::Wrong(format!("{path}: {why}"));
        if !self.files.contains_key(path) {
            let file = self.host.open(path.as_ref(), Access::ReadWrite);
            let file = file.map_err(|error| wrong(error.to_string()))?;
            self.files.insert(path.to_owned(), file);
        }
        let file = self.files.get(path);
        file.ok_or_else(|| wrong("not open".to_owned()))
    }
}

/// Notes how much of an operation was done.
pub(super) fn count_done(action: &mut Action, record: &HostRecord) {
    if let Action::ReadOnce { count, .. } | Action::WriteOnce { count, .. } = action {
        *count = record.done as usize;
    }
}

/// What the host has said.
pub(super) fn result_of(record: &HostRecord) -> HostResult<()> {
    match record.errno {
        None => Ok(()),
        Some(5) => Err(HostError::Io),
        Some(28) => Err(HostError::NoSpace),
        Some(95) => Err(HostError::Unsupported),
        Some(other) => Err(HostError::Os(other)),
    }
}
