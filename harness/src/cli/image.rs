//! `ubdlab image`: the commands for real COW files. What they do is userhelper's; here they
//! are named, told what to do, and their results put in words.

mod check;
mod compare;
mod convert;
mod create;
mod info;
mod map;
mod merge;
mod rebase;
mod recover;
mod resize;
mod state;
mod watching;

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Subcommand, ValueEnum};
use driver::cow::HeaderError;
use driver::open::{ChosenBacking, OpenError};
use userhelper::image::ImageError;
use userhelper::image::open::{Format, Instead, Reach, Trust};

use super::device_arg::followed;
use super::paths::{absolute, for_header};
use super::{Failure, OPERATION_FAILED, Verdict, output};

/// Create, examine, check, resize, merge and convert COW files
///
/// COW files of every version (V1, V2, V3 and the V3 of 64-bit hosts before 2006) are read. Where a
/// command takes raw disks too, --format says which it is; left out, it is told by the content, and
/// what a mere guess names is not opened outside its directory. A file that a running UML, or
/// another ubdlab, holds is refused; `info` and `map` work beside one. UML holds its files only
/// while the guest has the disk open: shut it down before its disk is changed. Nothing is ever
/// written over that was not named as what is to be changed, and what is interrupted leaves a whole
/// image behind.
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Examples:
  ubdlab image create root.cow --backing root.img
  ubdlab image info root.cow
  ubdlab image resize root.cow +2G --dry-run
  ubdlab image resize root.cow +2G --extend-backing
  ubdlab image check root.cow
  ubdlab image merge root.cow merged.img

docs/images.md has the everyday tasks. Sizes take K, M, G, T, P and E, powers of 1024, and
fractions: 2.5G, 1TiB.")]
pub(super) enum Command {
    Create(create::Args),
    Info(info::Args),
    Map(map::Args),
    Check(check::Args),
    Resize(resize::Args),
    Recover(recover::Args),
    Merge(merge::Args),
    Rebase(rebase::Args),
    Convert(convert::Args),
    Compare(compare::Args),
}

impl Command {
    /// Of `check`, 3 says that there are leaks; that nothing could be said is another thing.
    pub(super) fn status_of_failure(&self) -> u8 {
        match self {
            Command::Check(_) => 1,
            _ => OPERATION_FAILED,
        }
    }
}

/// Runs the command.
pub(super) fn run(command: &Command) -> Result<Verdict, Failure> {
    match command {
        Command::Create(args) => create::run(args),
        Command::Info(args) => info::run(args),
        Command::Map(args) => map::run(args),
        Command::Check(args) => check::run(args),
        Command::Resize(args) => resize::run(args),
        Command::Recover(args) => recover::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Rebase(args) => rebase::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Compare(args) => compare::run(args),
    }
}

/// How far the path in a header is followed.
#[derive(Clone, Copy, Debug, clap::Args)]
struct TrustArgs {
    /// Refuse a backing path in the header that leads outside the COW file's directory
    ///
    /// For COW files that somebody else made: the path in the header is followed otherwise, as far
    /// as the user's rights go. A path through a symbolic link is refused too, because links come
    /// in archives.
    #[arg(long)]
    confine_backing: bool,
}

/// A backing file that takes the place of the one that the header names.
#[derive(Clone, Debug, clap::Args)]
#[command(group(ArgGroup::new("named_backing").multiple(true)))]
struct InsteadArgs {
    /// Read the clean sectors from FILE, whatever backing file the header names
    ///
    /// For a COW file of another machine, or a backing file that was moved or copied. The header is
    /// not changed. The size of FILE has to be right; nobody looks whether its content is.
    #[arg(short, long, value_name = "FILE", group = "named_backing")]
    backing: Option<PathBuf>,

    /// Refuse FILE unless it was modified when the header says
    #[arg(long, requires = "named_backing")]
    check_time: bool,

    /// Say that FILE is a raw disk, also if it begins like a COW file or another image
    ///
    /// A backing file is always a raw disk: COW files cannot be stacked. FILE is refused without
    /// this if it begins like an image or a compressed file, unless the header names it too.
    #[arg(
        long = "backing-format",
        value_enum,
        value_name = "FORMAT",
        requires = "named_backing"
    )]
    backing_format: Option<RawArg>,
}

impl InsteadArgs {
    /// Its absolute path.
    fn path(&self) -> Result<Option<PathBuf>, Failure> {
        self.backing.as_deref().map(absolute).transpose()
    }

    fn instead(&self) -> Instead {
        instead(self.check_time)
    }

    fn is_raw(&self) -> bool {
        self.backing_format.is_some()
    }

    /// How the backing file is reached that the header names, or `path` in its place.
    fn reach<'a>(&self, trust: Trust, path: Option<&'a PathBuf>) -> Reach<'a> {
        reach(trust, path, self.is_raw(), self.instead())
    }
}

fn instead(check_time: bool) -> Instead {
    match check_time {
        true => Instead::SameTime,
        false => Instead::AnyTime,
    }
}

/// How the backing file is reached that the header names, or `path` in its place.
fn reach(trust: Trust, path: Option<&PathBuf>, raw: bool, instead: Instead) -> Reach<'_> {
    Reach {
        trust,
        instead: path.map(|path| (ChosenBacking { path, raw }, instead)),
    }
}

/// What an image on the command line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    /// A raw disk, whatever it begins with
    Raw,
    /// A COW file, of which you trust the path of the backing file
    Cow,
}

impl FormatArg {
    /// Of an option that may have been left out.
    fn format(this: Option<FormatArg>) -> Format {
        match this {
            None => Format::Guess,
            Some(FormatArg::Raw) => Format::Raw,
            Some(FormatArg::Cow) => Format::Cow,
        }
    }
}

/// What the image is, of a command that takes both kinds.
#[derive(Clone, Copy, Debug, clap::Args)]
struct FormatArgs {
    /// What the image is [default: a COW file if it begins like one]
    ///
    /// A guest can write the header of a COW file to its raw disk, with the path of any file of the
    /// host as backing file. One that only begins like a COW file therefore has no backing file
    /// opened outside its own directory or through a symbolic link, nor one of which it says that
    /// it is being changed. Name what a guest could write to: raw. What begins like an image of
    /// another format, or like a compressed file, is read as a raw disk only where it is named so.
    #[arg(short, long, value_enum)]
    format: Option<FormatArg>,
}

/// What a backing file is of that the user names.
#[derive(Clone, Copy, Debug, clap::Args)]
struct BackingFormatArgs {
    /// Say that the backing file is a raw disk, also if it begins like a COW file
    ///
    /// A backing file is always a raw disk: COW files cannot be stacked. One that begins like a
    /// COW file, like an image of another format or like a compressed file is refused without
    /// this, because its disk is not what its bytes are.
    #[arg(long = "backing-format", value_enum, value_name = "FORMAT")]
    backing_format: Option<RawArg>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RawArg {
    /// A raw disk, whatever it begins with
    Raw,
}

impl BackingFormatArgs {
    fn is_raw(self) -> bool {
        self.backing_format.is_some()
    }
}

impl FormatArgs {
    fn format(self) -> Format {
        FormatArg::format(self.format)
    }
}

impl TrustArgs {
    fn trust(self) -> Trust {
        followed(self.confine_backing)
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Failure {
        Failure::operation(error)
    }
}

/// The failure of a command that takes a raw disk too, but only where it is named as one: it says
/// how.
fn or_raw(format: Format) -> impl Fn(ImageError) -> Failure {
    move |error| match error {
        ImageError::Open(OpenError::Header {
            error: HeaderError::BadMagic { .. },
            ..
        }) if format == Format::Guess => {
            Failure(format!("{error}. If it is a raw disk: --format raw"))
        }
        // A guest may have written that something is to be finished.
        ImageError::Open(
            error @ OpenError::Header {
                error: HeaderError::HalfChanged { .. },
                ..
            },
        ) if format == Format::Guess => ImageError::GuessedCow { error }.into(),
        error => error.into(),
    }
}

/// Says what is worth a note about a backing file, if anything is.
fn note(of_backing: Option<String>) {
    if let Some(note) = of_backing {
        output::remark(format_args!("note: {note}"));
    }
}

/// The path of an image that is there, with its symbolic links followed: a rebuild replaces
/// the name that it is given.
fn existing(path: &Path) -> Result<PathBuf, Failure> {
    match std::fs::canonicalize(path) {
        Ok(path) => Ok(path),
        // Opening it says what is wrong.
        Err(_) => absolute(path),
    }
}
