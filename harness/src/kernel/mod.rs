//! The real kernel in the laboratory: `linux.uml`, whose device has its files in a simulated
//! directory that is mounted. What the kernel's driver asks of them is witnessed, operation by
//! operation, together with what its guest sees, and judged as the models of the driver are.
//!
//! - [`guest_side`]: this program as the first process of the guest.
//! - `frame`: messages between the two, over a serial line; `orders`: those of the laboratory.
//! - [`running`]: a running UML.
//! - [`device_argument`]: how it is told the files of its device.
//! - [`laboratory`]: the mount and the UML, and how a life comes to be lived there.
//!   `words` are what the guest may say in one, `life_bounds` how much it may come to, and `thread`
//!   is the one that has the laboratory.
//! - [`case`]: the fuzzer's cases, as far as a kernel can live them.
//! - [`campaign`]: many of them. [`naming`] says which known defect explains what was found, two of
//!   them by `taken_for_done`, what the host has not done. [`smaller`] makes that small, and
//!   [`finding`] is that as a file.
//! - [`again`]: a finding's case, tried once more. [`wanted`] says whether it shows.
//! - [`ubd`]: the driver of a running kernel as any other; [`brings_up`] has a replay come by it.
//! - [`faults_met`]: what the host has failed in.
//! - [`against`]: kernel and model side by side, operation by operation.
//! - `files`: a case's files in the mounted directory, and what is asked of them in a case's words.
//!
//! # Why the words of the guest and the operations of its driver have one order
//!
//! UML writes what its guest says to a pipe within the guest's own system call. So the words that a
//! request is submitted are in the pipe before the driver can ask anything for it, and the
//! laboratory reads the pipe before it answers each operation. Words that a request has ended may
//! be heard late, which demands less of what a crash leaves, and nothing wrong.

pub mod again;
pub mod against;
pub mod brings_up;
pub mod campaign;
pub mod case;
pub mod device_argument;
pub mod faults_met;
mod files;
pub mod finding;
mod frame;
pub mod guest_side;
pub mod laboratory;
mod life_bounds;
pub mod naming;
mod orders;
pub mod running;
pub mod smaller;
mod taken_for_done;
mod thread;
pub mod ubd;
pub mod wanted;
mod words;

use std::io;
use std::path::PathBuf;

use driver::units::Bytes;

use crate::fuzz::world::NotRelived;

/// The command of this program that is the guest's first process.
pub const COMMAND: &str = "kernel-guest";

/// Why the kernel cannot be fuzzed.
#[derive(Debug, thiserror::Error)]
pub enum CannotFuzz {
    /// A program is missing.
    #[error("{program}: not found; it takes {package} (apt install {package})")]
    Missing {
        /// Which.
        program: String,
        /// What it comes with.
        package: &'static str,
    },
    /// The simulated directory cannot be mounted.
    #[error("{0}")]
    Mount(String),
    /// The kernel cannot be started.
    #[error("{}: {}", driver::shown(kernel), driver::system_words(error))]
    Starting {
        /// Which.
        kernel: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It has started, and its guest does not come up.
    #[error(
        "{}: its guest does not come up: {why}; the last of its console: {console}",
        driver::shown(kernel)
    )]
    NoGuest {
        /// Which.
        kernel: PathBuf,
        /// What was seen.
        why: String,
        /// What the kernel has said.
        console: String,
    },
    /// A file of the laboratory's own cannot be made.
    #[error("{}: {}", driver::shown(path), driver::system_words(error))]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The thread that has the laboratory does not start.
    #[error("a thread for the laboratory: {}", driver::system_words(.0))]
    Thread(io::Error),
    /// A case that a kernel cannot live.
    #[error("the case: {0}")]
    Case(String),
    /// The kernel would take a path for another.
    #[error(
        "{}: {what}; it takes another path (TMPDIR has temporary files)",
        driver::shown(path)
    )]
    Path {
        /// Which.
        path: PathBuf,
        /// What was found in it.
        what: String,
    },
    /// The guest's memory does not fit where temporary files are.
    #[error(
        "{}: found {found} free, expected {needed} for the kernel's memory; TMPDIR has temporary \
         files",
        driver::shown(directory)
    )]
    NoRoom {
        /// The directory.
        directory: PathBuf,
        /// What is free.
        found: Bytes,
        /// The guest's memory.
        needed: Bytes,
    },
    /// What was recorded is not a life of its case.
    #[error("the case of seed {seed}: {error}")]
    Recording {
        /// The seed.
        seed: u64,
        /// What is wrong with it.
        error: NotRelived,
    },
    /// What is to be tried again is no finding of a kernel.
    #[error("{0}")]
    NoFinding(String),
    /// Nobody wants to know any more.
    #[error("interrupted")]
    Stopped,
}
