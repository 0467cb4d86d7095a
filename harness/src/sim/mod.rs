//! The simulated host: files and names in memory that remember what of them is durable,
//! and that can crash.
//!
//! [`SimHost`] implements the seams of [`driver::host`], so the drivers and the
//! relocation run in it unchanged. For every file and every directory it keeps what is
//! durable and the ordered list of what has not been synced. From any moment two kinds
//! of crash lead to a new host:
//!
//! - *kill*, [`SimHost::after_kill`]: the process died between two operations. The page
//!   cache survives; handles and locks are gone. What was unsynced still is.
//! - *power cut*, [`SimHost::after_power_cut`]: of the unsynced operations those survive
//!   that the given [`Survivors`] name. [`SimHost::unsynced`] tells what is at stake,
//!   and enumerates ([`Unsynced::subsets`]) or draws ([`Unsynced::sample`]) survivors.
//!
//! A power cut in the middle of an operation needs no crash point of its own. What it leaves of
//! a write is among what a power cut after the write can leave, if the write survives torn. A kill
//! in the middle of a write leaves a part of it, unsynced: a snapshot knows the write that
//! comes next, and gives these hosts too ([`SimHost::after_kill_in_write`]). What is assumed about
//! the machine stands in [`assumptions`] and nowhere else.
//!
//! Operations of a device may go side by side: [`SideBySide`] decides when each takes effect, and
//! when it ends: as a seed says, or as a list of decisions does, of which there is one for every
//! order.
//!
//! Nothing is copied that was not touched: content is pages in a persistent tree, and
//! the data of a write is held once, by the list of unsynced operations.

mod allowance;
pub mod assumptions;
mod call;
mod change;
mod change_list;
mod content;
mod crash;
mod decisions;
mod enumerate;
mod executor;
mod faults;
mod file;
mod foreign;
mod host;
mod image_host;
mod inode;
mod mishearing;
mod names;
mod page;
mod pages;
mod payload;
mod rule_met;
mod sample;
mod state;
mod survivors;
mod times;
pub mod tree;
mod wide_hash;

pub use allowance::{Allowance, Exceeded, Resource};
pub use assumptions::Assumptions;
pub use call::{Call, LoggedCall};
pub use content::FileContent;
pub(crate) use decisions::{Decisions, Search};
pub use enumerate::{Subsets, Tearing, TooManySurvivors};
pub use executor::{Happened, SideBySide};
pub use faults::{
    Fault, FaultDecider, FaultPlan, FaultRates, FaultRule, FileMatch, Injected, Occurrence,
};
pub use file::SimFile;
pub use host::SimHost;
pub use mishearing::Mishearing;
pub use names::NameChange;
pub use page::PAGE_SIZE;
pub use rule_met::{Idle, RuleMet};
pub use sample::SurvivalWeights;
pub use survivors::{
    BadSurvivors, InodeNumber, Survival, Survivors, Unsynced, UnsyncedFile, UnsyncedNames,
    UnsyncedOperation,
};
