//! Why nothing was crashed.

use std::io;
use std::path::PathBuf;

use driver::shown;

use super::command::Ran;
use super::finding_file::BadFinding;
use crate::sim::tree::load::CannotLoad;
use crate::sim::tree::store::CannotStore;

/// Why nothing was crashed.
#[derive(Debug, thiserror::Error)]
pub enum CannotCrash {
    /// The directory cannot be read.
    #[error(transparent)]
    Load(#[from] CannotLoad),
    /// There is no view of the file system with a mount in it.
    #[error("{0}")]
    Place(String),
    /// A thread or a command cannot be started.
    #[error("{what}: {}", driver::system_words(error))]
    Start {
        /// Which.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// A command has not done what it should.
    #[error("{what} {}", ran.end)]
    Failed {
        /// Which.
        what: &'static str,
        /// What it did.
        ran: Ran,
    },
    /// A file is no finding.
    #[error(transparent)]
    Finding(#[from] BadFinding),
    /// What the directory became cannot be written beside it.
    #[error(transparent)]
    Store(#[from] CannotStore),
    /// It cannot be put in the directory's place.
    #[error("{}: {}", shown(directory), driver::system_words(error))]
    Replace {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        error: io::Error,
    },
}
