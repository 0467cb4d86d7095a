//! The files that a command reads and those that it writes. None that it writes may be another of
//! them, under whatever name: the one that comes later would replace the other. That is wrong
//! usage, and it is said before anything is done.
//!
//! What a command makes in a directory, as findings in `--out`, has names that nobody knows
//! beforehand. So the command's other files may have no name that one of those could get, and what
//! is made replaces none of them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::descriptor;
use super::output_file::{directory_of, linked};

/// The files of a command.
#[derive(Debug)]
pub(super) struct OwnFiles {
    /// Those that are read, and for what.
    read: Vec<(&'static str, PathBuf, Place)>,
    /// Those that are written, by their options.
    written: Vec<(&'static str, PathBuf)>,
    making: Option<Making>,
}

/// What a command makes in a directory.
#[derive(Debug)]
struct Making {
    directory: PathBuf,
    /// What each of it is, in words.
    what: &'static str,
    /// Whether a file at this path below the directory could be one.
    may_be: fn(&Path) -> bool,
}

/// The option with the directory in which a command makes files.
const OUT: &str = "--out";

const STANDARD_OUTPUT: &str = "standard output";

impl OwnFiles {
    /// Those of a command that prints and has no others.
    pub(super) fn new() -> OwnFiles {
        OwnFiles {
            read: Vec::new(),
            written: vec![(STANDARD_OUTPUT, "/dev/stdout".into())],
            making: None,
        }
    }

    /// Reads these files too, for this option or argument.
    pub(super) fn reading<P: AsRef<Path>>(
        mut self,
        option: &'static str,
        files: impl IntoIterator<Item = P>,
    ) -> OwnFiles {
        let files = files.into_iter().map(|file| {
            let file = file.as_ref();
            (option, file.to_owned(), Place::of(file))
        });
        self.read.extend(files);
        self
    }

    /// Writes this file too, if it was asked for with this option.
    pub(super) fn writing(mut self, option: &'static str, file: Option<&Path>) -> OwnFiles {
        let file = file.map(|file| (option, file.to_owned()));
        self.written.extend(file);
        self
    }

    /// Makes files in the directory of `--out`, if there is one: such files, and wherever in it
    /// they may be.
    pub(super) fn making(
        mut self,
        what: &'static str,
        directory: Option<&Path>,
        may_be: fn(&Path) -> bool,
    ) -> OwnFiles {
        self.making = directory.map(|directory| Making {
            directory: directory.to_owned(),
            what,
            may_be,
        });
        self
    }

    /// Whether each file that is written is another one.
    ///
    /// # Errors
    /// Which is not, as wrong usage.
    pub(super) fn check(&self) -> Result<(), String> {
        let read = self.read.iter();
        let read = read.map(|(option, _, place)| (for_reading(option), false, place.clone()));
        let mut before: Vec<_> = read.collect();
        for (option, file) in &self.written {
            let (place, is_descriptor) = (Place::of(file), descriptor::is_named_by(file));
            // Through the name of a descriptor it goes after what is printed, and replaces nothing.
            let is_replaced = |(_, is_printed, other): &&(String, bool, Place)| {
                place.is(other) && !(is_descriptor && *is_printed)
            };
            let other = before
                .iter()
                .find(is_replaced)
                .map(|(what, ..)| what.clone());
            let made = self
                .making
                .as_ref()
                .filter(|making| making.may_make(&place));
            let made = made.map(|making| format!("a name that {} in {OUT} may get", making.what));
            if let Some(what) = other.or(made) {
                let file = driver::shown(file);
                return Err(format!(
                    "{option}: found {file}, {what}, expected another one"
                ));
            }
            before.push((for_writing(option), *option == STANDARD_OUTPUT, place));
        }
        Ok(())
    }

    /// Whether a file that the command makes replaces none of the others.
    ///
    /// # Errors
    /// Which one it would replace.
    pub(super) fn check_made(&self, made: &Path) -> Result<(), String> {
        let place = Place::of(made);
        let read = self.read.iter().find(|(_, _, read)| place.is(read));
        let read = read.map(|(option, file, _)| (&**file, for_reading(option)));
        let is_written = |(_, file): &&(&str, PathBuf)| place.is(&Place::of(file));
        let written = || self.written.iter().find(is_written);
        let written = || written().map(|(option, file)| (&**file, for_writing(option)));
        let Some((file, what)) = read.or_else(written) else {
            return Ok(());
        };
        let [made, file] = [made, file].map(driver::shown);
        let found = match made == file {
            true => what,
            false => format!("{file}, {what}"),
        };
        Err(format!(
            "{made}: writing: found {found}, expected another file or nothing; it was not changed"
        ))
    }
}

/// The name of a JSON file, without its suffix, if it is right in the directory below which this
/// path is.
pub(super) fn json_right_in(below: &Path) -> Option<&str> {
    let name = below.to_str().and_then(|name| name.strip_suffix(".json"));
    name.filter(|name| !name.contains('/'))
}

fn for_reading(option: &str) -> String {
    format!("what the command reads for {option}")
}

fn for_writing(option: &str) -> String {
    format!("the file of {option}")
}

impl Making {
    /// Whether one of what is made could come to this place.
    fn may_make(&self, place: &Place) -> bool {
        let directory = whole(&self.directory);
        let below = directory.zip(place.name.as_deref());
        let below = below
            .as_ref()
            .and_then(|(directory, name)| name.strip_prefix(directory).ok());
        below.is_some_and(self.may_be)
    }
}

/// Which regular file a path leads to, or would lead to if it were written.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Its device and inode, if it is there.
    file: Option<(u64, u64)>,
    /// Its name by its directory's own name. What is there and no regular file has none.
    name: Option<PathBuf>,
}

impl Place {
    fn of(path: &Path) -> Place {
        match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => Place::default(),
            found => Place {
                file: found.ok().as_ref().map(inode),
                name: own_name(path),
            },
        }
    }

    fn is(&self, other: &Place) -> bool {
        match (self.file, other.file) {
            (None, None) => self.name.is_some() && self.name == other.name,
            (one, other) => one == other,
        }
    }
}

fn inode(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// The name that a file at `target` has or gets, by its directory's own name.
fn own_name(target: &Path) -> Option<PathBuf> {
    let name = linked(target).ok()?;
    Some(whole(directory_of(&name))?.join(name.file_name()?))
}

/// A directory's own name, without symbolic links and `..`. It may be still to be made.
fn whole(directory: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(directory).ok()?;
    let mut upwards = absolute.ancestors();
    let (there, mut name) =
        upwards.find_map(|there| Some((there, std::fs::canonicalize(there).ok()?)))?;
    // What is not there is no link.
    for component in absolute.strip_prefix(there).ok()?.components() {
        match component {
            Component::ParentDir => _ = name.pop(),
            component => name.push(component),
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_name_in_a_directory_that_is_not_there_yet_is_known_by_any_way_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir(at("there")).unwrap();
        symlink(at("there"), at("link")).unwrap();
        let name = own_name(&at("there/new/file")).unwrap();
        assert!(name.ends_with("there/new/file"), "{name:?}");
        for other in [
            "link/new/file",
            "there/new/../new/file",
            "link/../there/new/./file",
        ] {
            assert_eq!(own_name(&at(other)), Some(name.clone()), "{other}");
        }
        assert_ne!(own_name(&at("new/file")), Some(name));
    }
}
