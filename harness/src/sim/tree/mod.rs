//! A simulated directory: files, directories and symbolic links with all that a program can ask of
//! them, which remembers what of it is durable and can crash. It is what a mount shows
//! ([`crate::mount`]) and what `ubdlab crash` cuts the power of ([`crate::crash`]).
//!
//! [`SimHost`](super::SimHost) has the seams that our own code asks for, and knows directories only
//! as the front of a path. This is the host for programs that know nothing of us. Files are the
//! simulator's own (`sim/inode.rs`), with its assumptions.
//!
//! - [`change`]: every change as a value, with its payload. A tree is a pure function of the list
//!   of its changes, so that any moment of a run can be had again from the list, on any thread.
//! - [`Tree`]: what there is now, and how a change is carried out (`carry_out`).
//! - `name_changes`: those of names among them.
//! - `names`: directories, and which changes of names are durable.
//! - [`cut`]: what a power cut or a kill leaves.
//! - `digest`: a number by which crash images that are alike are known.
//! - [`load`], [`store`]: from a real directory to a list of changes, and back.
//!
//! # What is assumed beside [`Assumptions`](super::Assumptions)
//!
//! - A name is durable after a sync of its directory, and not by a sync of its file.
//! - With ordered names, the changes of names that survive are first ones in each directory. A
//!   rename from one directory to another happens in both or in neither. That a directory is made
//!   or removed counts in its parent and in itself: no name survives in a directory that does not.
//! - A directory has one name. Where names are not ordered and several would survive, it keeps the
//!   one nearest the top.
//! - A sync of a directory makes durable what its changes need in others, too, as a journal does.
//! - Owners, modes, times and the targets of symbolic links are not subject to crashes.
//! - Space that is allocated and not written is kept for the file by a sync of it.

mod carry_out;
pub mod change;
pub mod cut;
mod digest;
pub mod load;
mod name_changes;
mod names;
mod node;
pub mod store;

pub use carry_out::{Listed, ROOT, Tree};
pub use change::{Attributes, EntryName, Moment, NewNode, Recorded, TreeChange};
pub use cut::{AtStake, TreeSurvivors};
pub use node::{Found, NodeKind};
