//! A simulated directory ([`crate::sim::tree`]) as a FUSE mount: any program can use it, and all
//! that it changes is in a list of which every moment can be had again, as a crash would leave it.
//!
//! - [`MountedTree`]: the directory with what is open in it, its log and its limits. It has one
//!   owner: the thread that calls [`TreeMount::serve`].
//! - `tree_filesystem`: takes requests from the kernel and sends each to the owner, with its reply.
//!   It waits for none of them, so that many are in flight.
//! - `translation`: the kernel's words and ours.
//! - `file_requests`, `name_requests`: what each request means.
//! - `faults`: what fails of them, by rules as the simulator has them; `known_names`: the paths
//!   that rules, and the stories of crashes, go by.
//! - `rules`: such rules as a user writes them.
//! - [`TreeMount`]: the mount, from the kernel's call to the end.
//! - `own_view`: a mount that only one thread, and what it starts, can see.
//!
//! # What the kernel keeps
//!
//! Nothing of names, attributes or content: no entry or attribute outlives its answer, and files
//! are open for direct I/O. The owner can put another directory in the place of the one that is
//! shown ([`MountedTree::show`]), while nobody uses it; its inodes have another generation, by
//! which the kernel knows them from the ones before.
//!
//! A private mapping works. A shared one works where the kernel has `FUSE_DIRECT_IO_ALLOW_MMAP`
//! (Linux 6.6 and later): what is written through it arrives when it is synced or unmapped, or when
//! the file is closed. An older kernel refuses it with ENODEV.
//!
//! POSIX and OFD locks, and those of `flock`, stay with the kernel, which knows of every process
//! that uses the one mount, and when it ends. They are nothing that a crash could leave, and the
//! simulator has no fault of them either. As requests to a server they would have a cost: `fuser`
//! does not take the kernel's word that a request is interrupted, so that no signal could end a
//! process that waits for a lock.
//!
//! The kernel tells a FUSE server nothing of `sync` and `syncfs`. A program that relies on them
//! instead of `fsync` loses more here than it would on a disk.

mod faults;
mod file_requests;
pub(crate) mod known_names;
mod mounted_tree;
mod name_requests;
pub(crate) mod own_view;
mod rules;
mod translation;
mod tree_filesystem;
mod tree_mount;

pub use mounted_tree::{Answered, Limit, Limits, MountedTree};
pub use rules::{asked_kinds, parse_fault_rule};
pub use tree_mount::{CannotMountTree, Come, ForOwner, TreeMount};
