//! Writing down what clients ask for, as a trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use driver::blk::{Operation, Status};
use driver::units::SectorRange;
use serde::{Deserialize, Serialize};

use crate::clock::Started;

/// What a client has asked for, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    at: Started,
    operation: Operation,
    range: SectorRange,
}

impl Asked {
    pub(super) fn at(at: Started, operation: Operation, range: SectorRange) -> Asked {
        Asked {
            at,
            operation,
            range,
        }
    }
}

/// How a recording is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingStatus {
    /// The file.
    pub file: String,
    /// Requests that are in it, or on the way.
    pub recorded: u64,
    /// Requests that are not, because the disk was too slow.
    pub lost: u64,
    /// Why nothing more is written, if that is so: the rest counts as lost.
    pub error: Option<String>,
}

/// A recording under way.
#[derive(Debug)]
pub struct Recorder {
    file: String,
    recorded: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Recorder {
    /// TODO
    pub fn begin(path: &std::path::Path, export: &super::Export) -> Result<Recorder, String> {
        let _ = (path, export);
        Err("not yet".into())
    }

    /// TODO
    pub fn finish(self) -> Result<RecordingStatus, String> {
        Ok(self.status())
    }

    pub(super) fn note(&self, client: u64, asked: Asked, status: Status) {
        let _ = (client, asked.at, asked.operation, asked.range, status);
        self.recorded.fetch_add(1, Ordering::Relaxed);
    }

    /// How it is doing.
    pub fn status(&self) -> RecordingStatus {
        RecordingStatus {
            file: self.file.clone(),
            recorded: self.recorded.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            error: None,
        }
    }
}
