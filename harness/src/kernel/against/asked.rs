//! What a driver asks of its host, as it can be seen from outside: what is the same of two drivers,
//! and what is not, in words.

use std::fmt;

use driver::host::{Action, FileRole, Operation, OperationKind};
use driver::units::SECTOR_SIZE;

use crate::fuzz::paths::COW;
use crate::fuzz::recorded::HostRecord;
use crate::sim::Call;

/// The most bytes of a write that are shown.
const SHOWN: usize = 16;

/// One host operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    kind: OperationKind,
    path: String,
    at: u64,
    len: u64,
    /// Of a write, the bytes that are known, from the first one on.
    data: Option<Vec<u8>>,
}

/// Whether a recording has operations of this kind. What is asked of names, locks and attributes
/// does not come through the mount, or is not written down.
pub(super) fn is_seen(kind: OperationKind) -> bool {
    use OperationKind::{CreateNew, PunchHole, Read, SetLen, SyncData, Write, ZeroRange};
    matches!(
        kind,
        CreateNew | PunchHole | Read | SetLen | SyncData | Write | ZeroRange
    )
}

/// Whether an operation is about bytes of a file.
fn has_range(kind: OperationKind) -> bool {
    use OperationKind::{PunchHole, Read, Write, ZeroRange};
    matches!(kind, PunchHole | Read | Write | ZeroRange)
}

impl Asked {
    /// What a recording has.
    ///
    /// # Errors
    /// If that is not an operation.
    pub(super) fn recorded(record: &HostRecord) -> Result<Asked, String> {
        let kind = record.kind()?;
        let has_end = record.at.checked_add(record.len).is_some();
        if !has_end || has_range(kind) && record.done > record.len {
            let HostRecord { at, len, done, .. } = record;
            return Err(format!(
                "found {done} bytes done of {len} from byte {at} on"
            ));
        }
        let data = match kind {
            OperationKind::Write => Some(record.data()?),
            _ => None,
        };
        Ok(Asked {
            kind,
            path: record.path.clone(),
            at: record.at,
            len: record.len,
            data,
        })
    }

    /// What a model gives as a value. Its backing file is `backing`.
    pub(super) fn given(operation: &Operation, backing: &str) -> Asked {
        let range = operation.action.range();
        let data = match &operation.action {
            Action::Write { buffer, .. } | Action::WriteOnce { buffer, .. } => {
                Some(buffer.data[buffer.part.clone()].to_vec())
            }
            _ => None,
        };
        Asked {
            kind: operation.action.kind(),
            path: path_of(operation.file, backing).to_owned(),
            at: range.start.0,
            len: range.len.0,
            data,
        }
    }

    /// What was asked of a simulated host, which does not keep the bytes of a write.
    pub(super) fn called(call: &Call) -> Asked {
        Asked {
            kind: call.kind,
            path: call.path.to_string_lossy().into_owned(),
            at: call.range.start.0,
            len: call.range.len.0,
            data: None,
        }
    }

    /// What a recording has, and what a model asks, where these are not the same. Bytes are
    /// compared that both have. Words of a bitmap reach past its end, which is at byte
    /// `bitmap_end` of the COW file, if its bytes are not whole words. The kernel writes there what
    /// its memory held, and the model a mark: that is not compared.
    pub(super) fn differs(&self, model: &Asked, bitmap_end: u64) -> Option<(String, String)> {
        let place = |it: &Asked| (it.kind, it.path.clone(), it.at, it.len);
        if place(self) != place(model) {
            return Some((self.to_string(), model.to_string()));
        }
        let (Some(here), Some(there)) = (&self.data, &model.data) else {
            return None;
        };
        let known = match self.len < SECTOR_SIZE {
            true => bitmap_end.saturating_sub(self.at) as usize,
            false => here.len(),
        };
        let mut both = here.iter().zip(there).take(known);
        let at = both.position(|(here, there)| here != there)?;
        let told = |it: &Asked, byte: u8| match it.len as usize {
            ..=SHOWN => it.to_string(),
            _ => format!("{it}, with {byte:02x} at byte {at} of it"),
        };
        Some((told(self, here[at]), told(model, there[at])))
    }
}

/// The path of a file of a case.
pub(super) fn path_of(role: FileRole, backing: &str) -> &str {
    match role {
        FileRole::Backing => backing,
        FileRole::Cow | FileRole::New | FileRole::RawDisk => COW,
    }
}

/// As in a message: `write /disk/cow 8192+16 (00 03 ..)`.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.path)?;
        match self.kind {
            OperationKind::CreateNew | OperationKind::SyncData => return Ok(()),
            OperationKind::SetLen => return write!(f, " {}", self.at),
            _ => write!(f, " {}+{}", self.at, self.len)?,
        }
        match &self.data {
            Some(data) if !data.is_empty() && data.len() <= SHOWN => {
                let bytes: Vec<String> = data.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(f, " ({})", bytes.join(" "))
            }
            _ => Ok(()),
        }
    }
}
