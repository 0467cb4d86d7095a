//! How a device that is served is doing, for whoever asks.

use serde::{Deserialize, Serialize};

use crate::device::Taken;

use super::record::RecordingStatus;

/// How a device is doing. The fields are those of the documented JSON; sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// The COW file, or the raw disk.
    pub file: String,
    /// The driver.
    pub driver: String,
    /// Its defects that are switched on.
    pub defects: Vec<String>,
    /// Who carries its operations out.
    pub io: Taken,
    /// It takes no writes.
    pub read_only: bool,
    /// Its size.
    pub size_bytes: u64,
    /// How much of it is in the COW file.
    pub dirty_bytes: u64,
    /// A sync has failed: nothing is acknowledged as durable until the device is opened
    /// again, before which the host has to be started anew.
    pub failed_sync: bool,
    /// What others have done to the file, in words.
    pub file_changed: Option<String>,
    /// Requests that are not answered.
    pub in_flight: usize,
    /// What their data takes of memory.
    pub buffered_bytes: u64,
    /// Requests that the driver has completed.
    pub requests: u64,
    /// Syncs of the COW file.
    pub syncs: u64,
    /// Its clients.
    pub clients: Vec<ClientStatus>,
    /// The resize under way, or the latest one.
    pub resize: Option<ResizeStatus>,
    /// The recording under way.
    pub recording: Option<RecordingStatus>,
}

/// A client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// Its number, which a recording has too. None comes twice.
    pub number: u64,
    /// What it is, and where it comes from.
    pub name: String,
    /// What it has asked for so far.
    pub requests: u64,
}

/// How a resize is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeStatus {
    /// The size before.
    pub old_size_bytes: u64,
    /// The size then.
    pub new_size_bytes: u64,
    /// By which strategy, once it is planned.
    pub strategy: Option<String>,
    /// Bytes that are moved.
    pub moved_bytes: u64,
    /// Bytes that have to be moved at most; `None` if nobody knows, as of a reflow that was
    /// interrupted.
    pub to_move_bytes: Option<u64>,
    /// Of a reflow, the sector from which on all is at its new place. It starts at the end of the
    /// old size, and comes down to 0.
    pub frontier_sector: Option<u64>,
    /// What the resize costs beside time and space: a sentence each.
    pub notes: Vec<String>,
    /// Since it was asked for, or until it ended, in nanoseconds.
    pub elapsed_ns: u64,
    /// How far it is.
    #[serde(flatten)]
    pub state: ResizeState,
}

/// How far a resize is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ResizeState {
    /// It is under way.
    Running,
    /// The device has its new size.
    Done,
    /// It was interrupted before the device was served, and is left as it is: the device takes no
    /// writes.
    Left,
    /// It has failed, and the device has its old size.
    Failed {
        /// Why.
        error: String,
    },
    /// It has stopped, and the file says that it is to be finished. The device has its old size;
    /// whoever opens it next finishes the resize.
    Unfinished {
        /// Why, and what comes next.
        error: String,
    },
}
