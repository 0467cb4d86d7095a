//! A file that the user named as the place for a result: written under another name, and given
//! its own when it is whole. While it is written only its owner may open it; then it has the
//! owner, mode and attributes of the file that it replaces or, if there was none, what the umask
//! leaves, less what the files that it was made from keep from others.
//!
//! Only a regular file is ever replaced. A symbolic link stays, and what it names is replaced. A
//! character device or FIFO is written into, as a shell's `>` would; a FIFO waits for its reader.
//! Anything else is refused, and so is a regular file that begins like a disk image, or that the
//! command reads. A name of one of the program's own descriptors (`/dev/stdout`, `/dev/fd/3`)
//! stands for that descriptor, whatever it leads to: [`super::descriptor`].

use std::fs::{File, FileType, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use driver::host::{Access, HostError, HostNames};
use driver::open::ImageFormat;
use userhelper::real_files::{
    Belongings, Given, RealHost, give_mode_at, give_storage_attributes_at, why_fixed,
};

use super::temporary::TemporaryFile;
use super::{Failure, descriptor, output, without_path};

/// As many symbolic links may lead to one another as Linux follows.
pub(super) const MOST_LINKS: usize = 40;

/// A result under way. Dropped before it is finished, it leaves no file behind.
#[derive(Debug)]
pub(super) struct OutputFile<'a> {
    target: &'a Path,
    /// The files that its content comes from.
    sources: Vec<&'a Path>,
    /// It stays its owner's alone.
    is_private: bool,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// A temporary file that takes this name.
    Named(TemporaryFile, PathBuf),
    /// A device, FIFO or descriptor.
    Into(File),
}

impl Way {
    /// The way to what is at `target`, or will be.
    fn to(target: &Path) -> Result<Way, Failure> {
        let failed = |error: io::Error| not_written(target, &error);
        Ok(match std::fs::metadata(target) {
            Ok(found) if is_stream(found.file_type()) => {
                Way::Into(File::options().write(true).open(target).map_err(failed)?)
            }
            Ok(found) if !found.is_file() => {
                let kind = kind(found.file_type());
                let target = driver::shown(target);
                return Err(Failure(format!(
                    "{target}: writing: found {kind}, expected a regular file, a character device, \
                     a FIFO or nothing; nothing was changed"
                )));
            }
            Ok(found) if found.nlink() > 1 => {
                let (names, target) = (found.nlink(), driver::shown(target));
                return Err(Failure(format!(
                    "{target}: writing: found a file with {names} names (hard links), and a new \
                     file would get only this one; nothing was changed"
                )));
            }
            _ if target.as_os_str().as_encoded_bytes().ends_with(b"/") => {
                let target = driver::shown(target);
                return Err(Failure(format!(
                    "{target}: writing: found a name that ends with a slash, expected that of a file"
                )));
            }
            _ => {
                let name = linked(target).map_err(failed)?;
                // Beforehand: making what it is to hold may take hours.
                if let Some(fixed) = why_fixed(&name) {
                    let target = driver::shown(target);
                    return Err(Failure(format!("{target}: writing: {fixed}")));
                }
                refuse_image(target, &name)?;
                let temporary = TemporaryFile::new_in(directory_of(&name)).map_err(failed)?;
                give_storage_attributes_at(&name, temporary.as_file());
                Way::Named(temporary, name)
            }
        })
    }
}

impl<'a> OutputFile<'a> {
    /// What is going to be at `target`.
    pub(super) fn create(target: &'a Path) -> Result<OutputFile<'a>, Failure> {
        let way = match descriptor::named_by(target) {
            Some(file) => Way::Into(file?),
            None => Way::to(target)?,
        };
        let sources = Vec::new();
        Ok(OutputFile {
            target,
            sources,
            is_private: false,
            way,
        })
    }

    /// Keeps it for its owner alone, whatever the umask says, and whatever it replaces.
    pub(super) fn private(mut self) -> OutputFile<'a> {
        self.is_private = true;
        self
    }

    /// Says which file the content comes from. A new file is not more public than that, and of an
    /// existing one that is, it is said.
    pub(super) fn made_from(mut self, source: &'a Path) -> OutputFile<'a> {
        self.sources.push(source);
        self
    }

    /// Refuses to write over one of these files, which the command reads, under whatever name it
    /// comes.
    pub(super) fn not_over<P: AsRef<Path>>(&self, read: &[P]) -> Result<(), Failure> {
        let Some(own) = self.written_over() else {
            return Ok(());
        };
        let is_own = |file: &&P| std::fs::metadata(file).is_ok_and(|read| is_same(&read, &own));
        let Some(file) = read.iter().find(is_own) else {
            return Ok(());
        };
        let [target, file] = [self.target, file.as_ref()].map(driver::shown);
        let found = match target == file {
            true => "found a file that the command reads".to_owned(),
            false => format!("found the file {file}, which the command reads"),
        };
        Err(Failure(format!(
            "{target}: writing: {found}, expected another one or nothing; nothing was changed"
        )))
    }

    /// The regular file that is there now, if it is going to be replaced or written into.
    fn written_over(&self) -> Option<Metadata> {
        let found = match &self.way {
            Way::Named(_, name) => std::fs::metadata(name),
            Way::Into(file) => file.metadata(),
        };
        found.ok().filter(Metadata::is_file)
    }

    /// What it is going to be.
    pub(super) fn target(&self) -> &'a Path {
        self.target
    }

    /// Where to write. What reads a stream may go away before the end, and has what it wanted then:
    /// [`output::unless_reader_left`].
    pub(super) fn writer(&self) -> output::DataWriter<&File> {
        output::data_into(match &self.way {
            Way::Named(temporary, _) => temporary.as_file(),
            Way::Into(file) => file,
        })
    }

    /// Writes all that it is going to hold, and finishes it.
    pub(super) fn write_whole(self, content: impl AsRef<[u8]>) -> Result<(), Failure> {
        let written = self.writer().write_all(content.as_ref());
        let written = written.map_err(|error| not_written(self.target, &error));
        match output::unless_reader_left(written)? {
            Some(()) => self.finish().map(drop),
            None => Ok(()),
        }
    }

    /// Makes it durable and gives it its name, durably too; its length in bytes, if it has one.
    pub(super) fn finish(self) -> Result<Option<u64>, Failure> {
        let OutputFile {
            target,
            sources,
            is_private,
            way,
        } = self;
        let Way::Named(temporary, name) = way else {
            return Ok(None);
        };
        let file = temporary.as_file();
        let old = Belongings::at(&name);
        // A temporary file is its owner's alone.
        let given = (!is_private).then(|| give_mode_at(&name, file, &sources));
        let given = given.transpose();
        let given = given
            .map_err(|error| Failure(format!("{}: writing: {error}", driver::shown(target))))?;
        let synced = file.sync_all().and_then(|()| file.metadata());
        let len = synced.map_err(|error| not_written(target, &error))?.len();
        let new = Belongings::of(file).ok();
        temporary
            .persist(&name)
            .map_err(|error| not_written(target, &error))?;
        if !is_private {
            tell_what_is_lacking(target, old, new);
        }
        if given == Some(Given::Shown) {
            output::remark(shown_to_more(target, sources[0]));
        }
        match RealHost.sync_directory_of(&name) {
            // Some file systems do not sync directories.
            Ok(()) | Err(HostError::Unsupported) => Ok(Some(len)),
            Err(error) => {
                let target = driver::shown(target);
                Err(Failure(format!("{target}: syncing its directory: {error}")))
            }
        }
    }
}

/// Says what the new file `target` lacks of what the one that it has replaced had, if there was
/// one and if there is anything.
pub(super) fn tell_what_is_lacking(
    target: &Path,
    old: Option<Belongings>,
    new: Option<Belongings>,
) {
    let Some(lack) = old.zip(new).map(|(old, new)| new.lack_of(&old)) else {
        return;
    };
    if !lack.is_empty() {
        let target = driver::shown(target);
        output::remark(format_args!(
            "{target}: the new file could not be given all that the one that it replaces had: it \
             lacks {}",
            lack.join(", ")
        ));
    }
}

/// Says that more users may read `target` than `source`, whose content comes into it.
pub(super) fn shown_to_more(target: &Path, source: &Path) -> String {
    let [target, source] = [target, source].map(driver::shown);
    format!(
        "{target}: more users may read it than {source}, whose content comes into it: chmod keeps \
         them off"
    )
}

/// Whether both are of one file, whatever its names.
fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// The directory in which a file of this name is.
pub(super) fn directory_of(name: &Path) -> &Path {
    match name.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Refuses to replace the file `name` with `target` if it begins like a disk image: it may be
/// somebody's disk, and was hardly meant. What cannot be read tells nothing.
fn refuse_image(target: &Path, name: &Path) -> Result<(), Failure> {
    let file = RealHost.open(name, Access::ReadOnly);
    let format = file.ok().and_then(|file| ImageFormat::of(&file).ok()?);
    match format.filter(|format| format.is_disk()) {
        None => Ok(()),
        Some(format) => {
            let (target, looks) = (driver::shown(target), format.looks());
            Err(Failure(format!(
                "{target}: writing: found a file that {looks}, and what replaces it would destroy a \
                 disk; nothing was changed. If it is not needed, remove it first"
            )))
        }
    }
}

/// What takes bytes one after the other, and is never replaced.
fn is_stream(kind: FileType) -> bool {
    kind.is_char_device() || kind.is_fifo()
}

fn kind(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_block_device() => "a block device",
        kind if kind.is_socket() => "a socket",
        _ => "something else",
    }
}

/// The name at the end of the symbolic links that `target` may be the first of. There need not be
/// a file of that name.
pub(super) fn linked(target: &Path) -> io::Result<PathBuf> {
    let mut name = target.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&name) {
            // An absolute path replaces all of it.
            Ok(next) => name = name.parent().unwrap_or(Path::new("")).join(next),
            Err(_) => return Ok(name),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// That the target could not be written.
pub(super) fn not_written(target: &Path, error: &io::Error) -> Failure {
    let cause = cause(target, error);
    Failure(format!("{}: writing: {cause}", driver::shown(target)))
}

/// That a file or directory could not be made.
pub(super) fn not_created(target: &Path, error: &io::Error) -> Failure {
    let cause = cause(target, error);
    Failure(format!("{}: creating: {cause}", driver::shown(target)))
}

/// Why `target` could not be made or changed, in the words that the image commands have for it.
pub(super) fn cause(target: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => match why_fixed(target) {
            Some(fixed) => fixed.to_string(),
            None => without_path(error),
        },
        io::ErrorKind::ReadOnlyFilesystem => HostError::ReadOnlyFileSystem.to_string(),
        io::ErrorKind::NotFound if !directory_of(target).exists() => {
            format!(
                "there is no directory {}",
                driver::shown(directory_of(target))
            )
        }
        _ => without_path(error),
    }
}
