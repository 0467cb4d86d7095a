//! Why nothing was crashed.

use std::io;

use super::command::Ran;
use super::finding_file::BadFinding;
use super::keeping::CannotKeep;
use crate::sim::RuleMet;
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
        what: String,
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
        /// What has come of the rules for what was to fail.
        rules: Vec<RuleMet>,
    },
    /// A file is no finding.
    #[error(transparent)]
    Finding(#[from] BadFinding),
    /// What the directory became cannot be written beside it.
    #[error(transparent)]
    Store(#[from] CannotStore),
    /// The directory is not replaced by it.
    #[error(transparent)]
    Keep(#[from] CannotKeep),
}
