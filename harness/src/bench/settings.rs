//! What the benchmarks with other programs have in common: how and where they measure, and why
//! something could not be measured.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use driver::open::OpenError;
use driver::units::Bytes;
use userhelper::image::ImageError;

use super::Only;
use crate::device::Io;

/// How and where to measure.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// An empty directory for the files.
    pub directory: &'a Path,
    /// The program `ubdlab`, to be started as other programs are.
    pub program: &'a Path,
    /// How many bytes are dirty on each device that is resized.
    pub dirty: Bytes,
    /// Who carries out what a device asks of its files, if not each of those that there are rows
    /// of.
    pub io: Option<Io>,
    /// Which rows are measured.
    pub only: &'a Only,
    /// Becomes true when the measuring is to end.
    pub stop: &'a AtomicBool,
}

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file could not be made.
    #[error("{}: {doing}: {}", driver::shown(.path), driver::system_words(.error))]
    File {
        /// The file.
        path: PathBuf,
        /// What was done to it.
        doing: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// A program failed.
    #[error("{command}: {problem}")]
    Program {
        /// How it was called.
        command: String,
        /// What it or the system said.
        problem: String,
    },
    /// A device could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An operation on an image failed.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A device did not do what it was asked for.
    #[error("the device: {0}")]
    Device(String),
    /// It was told to stop.
    #[error("interrupted; everything that was made is removed")]
    Interrupted,
}

impl BenchError {
    pub(in crate::bench) fn file(
        path: &Path,
        doing: &'static str,
    ) -> impl FnOnce(std::io::Error) -> BenchError {
        let path = path.to_owned();
        move |error| BenchError::File { path, doing, error }
    }
}

impl Settings<'_> {
    pub(in crate::bench) fn wanted(&self, name: &str) -> bool {
        self.only.wanted(name)
    }

    pub(in crate::bench) fn check_stop(&self) -> Result<(), BenchError> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(BenchError::Interrupted),
            false => Ok(()),
        }
    }
}
