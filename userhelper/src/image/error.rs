//! What can go wrong with an image. Each message names the file, the place in it where there
//! is one, what was found and what was expected.

use std::path::{Path, PathBuf};

use driver::cow::HeaderError;
use driver::host::{FileRole, HostError};
use driver::open::{ImageFormat, OpenError};
use driver::ordered::CloseError;
use driver::resize::ResizeError;
use driver::units::{Bytes, FileOffset};
use driver::{exact_count, shell_path, shown};

use crate::planner::PlanError;

/// What can go wrong with an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It begins like a COW file, which nobody has said that it is, and does not open as one.
    #[error(
        "{}. It begins like a COW file, and nobody has said that it is one: --format raw if it is a \
         raw disk, --format cow if it is a COW file that you trust{}",
        .error.without_ways_out(),
        more_to_come(.error)
    )]
    GuessedCow {
        /// Why it does not open.
        error: OpenError,
    },
    /// It begins or ends like an image of a format that is not read here, and nobody has said that
    /// it is a raw disk.
    #[error(
        "{}: {}, which would be read as a raw disk, {} and all. {}; --format raw if it is a raw disk \
         all the same",
        shown(.path), .format.looks(), .format.more(), .format.to_raw()
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// What it begins or ends like.
        format: ImageFormat,
    },
    /// A host operation failed.
    #[error("{}: byte {at}: {doing}: {error}", shown(.path))]
    Host {
        /// On which file.
        path: PathBuf,
        /// Doing what.
        doing: &'static str,
        /// Where in the file.
        at: FileOffset,
        /// What the host said.
        error: HostError,
    },
    /// There is no plan for the resize.
    #[error("{}: {error}", shown(.path))]
    Plan {
        /// The image.
        path: PathBuf,
        /// Why not.
        error: PlanError,
    },
    /// A step of a change failed.
    #[error("{}: {error}", shown(.path))]
    Resize {
        /// The image.
        path: PathBuf,
        /// Why.
        error: ResizeError,
    },
    /// What was written could not be made durable.
    #[error("{}: closing: {error}", shown(.path))]
    Close {
        /// The image.
        path: PathBuf,
        /// Why.
        error: CloseError,
    },
    /// A header that cannot be made.
    #[error("{}: {error}", shown(.path))]
    Header {
        /// The image.
        path: PathBuf,
        /// Why not.
        error: HeaderError,
    },
    /// An interrupted change of the image has to be finished first.
    #[error(
        "{}: an interrupted {what} has to be finished first: ubdlab image recover {}",
        shown(.path),
        shell_path(.path)
    )]
    Unfinished {
        /// The image.
        path: PathBuf,
        /// What was interrupted.
        what: &'static str,
    },
    /// A tool for COW files was given something else.
    #[error("{}: a raw disk, expected a COW file", shown(.path))]
    NotCow {
        /// The file.
        path: PathBuf,
    },
    /// A file that was to be made is there already.
    #[error("{}: exists already: nothing is written over", shown(.path))]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The output is one of the files that are read.
    #[error("{}: is the {role} {} by another name: nothing is written over", shown(.path), shown(.source_path))]
    OntoSource {
        /// The output.
        path: PathBuf,
        /// What the file is.
        role: FileRole,
        /// Its other name.
        source_path: PathBuf,
    },
    /// The image cannot be what was asked for.
    #[error("{}: {problem}", shown(.path))]
    Refused {
        /// The image.
        path: PathBuf,
        /// Why not.
        problem: String,
    },
    /// A backing file has another size than is needed.
    #[error(
        "{}: found {}, expected {}: {why}",
        shown(.path), exact_count(.found.0, "byte"), exact_count(.expected.0, "byte")
    )]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: Bytes,
        /// The size that it needs.
        expected: Bytes,
        /// Why.
        why: &'static str,
    },
    /// A disk whose last bytes would not be those that it has.
    #[error(
        "{}: a COW file has whole sectors only: {} has {}, and the last {} of them, which \
         differ from what {} has there, would be lost: make it {} bytes large first, with {resized_with}",
        shown(.path), shown(.disk), exact_count(.size.0, "byte"), .last.0, shown(.backing), .size.sectors_touched().bytes().0
    )]
    PartialSector {
        /// The COW file that cannot have them.
        path: PathBuf,
        /// The disk.
        disk: PathBuf,
        /// Its size, which is no multiple of 512 bytes.
        size: Bytes,
        /// How much less than a sector it ends with.
        last: Bytes,
        /// The backing file that has something else there.
        backing: PathBuf,
        /// With what the disk can be made larger.
        resized_with: &'static str,
    },
    /// There is no such file, and none that was to get its name.
    #[error(
        "{}: opening: {}, nor is there {}, which an interrupted creation would have left: there is \
         nothing to recover",
        shown(.path), HostError::NotFound, shown(.unfinished)
    )]
    NothingToRecover {
        /// The name.
        path: PathBuf,
        /// What a new file is called until it is complete.
        unfinished: PathBuf,
    },
    /// The watcher said that it is enough.
    #[error("interrupted")]
    Interrupted,
    /// The watcher said that it is enough when a reflow was finished and nothing was left to be
    /// done but to give space back. Nothing in the file tells of that any more.
    #[error(
        "{}: interrupted: nothing is lost, and the resize is finished; space that nothing uses may \
         be left, which `ubdlab image check {} --repair` gives back",
        shown(.path),
        shell_path(.path)
    )]
    InterruptedFreeing {
        /// The image.
        path: PathBuf,
    },
}

/// Why a change of the backing file ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// A step of it failed.
    #[error(transparent)]
    Step(#[from] ResizeError),
    /// The watcher said that it is enough.
    #[error("interrupted")]
    Interrupted,
}

impl ImageError {
    /// For `map_err`: a change of the backing file of the image ended early.
    pub fn change(path: &Path) -> impl Fn(ChangeError) -> ImageError + '_ {
        move |error| match error {
            ChangeError::Step(error) => ImageError::resize(path)(error),
            ChangeError::Interrupted => ImageError::Interrupted,
        }
    }

    /// For `map_err`: the resize of `path` cannot be planned.
    pub fn plan(path: &Path) -> impl Fn(PlanError) -> ImageError + '_ {
        move |error| ImageError::Plan {
            path: path.to_owned(),
            error,
        }
    }

    /// For `map_err`: `doing` on `path` failed, at this byte.
    pub fn host<'a>(
        path: &'a Path,
        doing: &'static str,
        at: FileOffset,
    ) -> impl Fn(HostError) -> ImageError + 'a {
        move |error| ImageError::Host {
            path: path.to_owned(),
            doing,
            at,
            error,
        }
    }

    /// For `map_err`: a step of a change of the image failed.
    pub fn resize(path: &Path) -> impl Fn(ResizeError) -> ImageError + '_ {
        move |error| ImageError::Resize {
            path: path.to_owned(),
            error,
        }
    }

    /// That the image is a raw disk, and was to be read over another backing file.
    pub fn has_no_backing(path: &Path) -> ImageError {
        let problem = "a raw disk has no backing file that another could take the place of";
        ImageError::refused(path, problem)
    }

    /// That the image cannot be what was asked for.
    pub fn refused(path: &Path, problem: impl Into<String>) -> ImageError {
        ImageError::Refused {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}

/// What else `--format cow` does for a file whose error has ways out that a guess does not show.
fn more_to_come(error: &OpenError) -> &'static str {
    match error {
        OpenError::BackingModified { .. } => ", which then says what to do about the time",
        OpenError::Header {
            error: HeaderError::HalfChanged { .. },
            ..
        } => ", which then says what finishes the change",
        _ => "",
    }
}
