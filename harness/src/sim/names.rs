//! What happens to names: for every directory the durable names, the current ones,
//! and the ordered list of changes that lie between. Directories themselves are not
//! modelled: the directory of a name is what precedes its last component, and exists.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use super::survivors::{BadSurvivors, InodeNumber, UnsyncedNames};

/// One change of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are the names and the file they stood for"
)]
pub enum NameChange {
    /// A new file got a name.
    Create { path: Rc<Path>, inode: InodeNumber },
    /// A file got another name, and the file that had that one lost it.
    Rename {
        from: Rc<Path>,
        to: Rc<Path>,
        inode: InodeNumber,
    },
    /// A file lost its name.
    Remove { path: Rc<Path>, inode: InodeNumber },
}

impl NameChange {
    /// The file whose name it is.
    pub fn inode(&self) -> InodeNumber {
        match self {
            NameChange::Create { inode, .. }
            | NameChange::Rename { inode, .. }
            | NameChange::Remove { inode, .. } => *inode,
        }
    }

    /// Carries it out. Where an earlier change did not survive, a name is taken away
    /// only from the file that this change took it from.
    fn apply(&self, names: &mut Table) {
        let mut take = |path: &Rc<Path>, inode: &InodeNumber| {
            if names.get(path) == Some(inode) {
                names.remove(path);
            }
        };
        match self {
            NameChange::Create { path, inode } => {
                names.insert(Rc::clone(path), *inode);
            }
            NameChange::Rename { from, to, inode } => {
                take(from, inode);
                names.insert(Rc::clone(to), *inode);
            }
            NameChange::Remove { path, inode } => take(path, inode),
        }
    }
}

type Table = BTreeMap<Rc<Path>, InodeNumber>;

/// The names in one directory. The invariant: `durable`, then all `unsynced` in order,
/// gives `current`.
#[derive(Clone, Default)]
pub(crate) struct Directory {
    durable: Rc<Table>,
    current: Rc<Table>,
    unsynced: Vec<NameChange>,
}

/// All names on the host.
#[derive(Clone, Default)]
pub(crate) struct Names {
    directories: BTreeMap<Rc<Path>, Directory>,
}

/// A path as the key of a name: without `.` components, so that `./a` is `a`.
pub(crate) fn normalized(path: &Path) -> Rc<Path> {
    // Later in a path they are no components.
    if path.components().next() == Some(Component::CurDir) {
        let parts = path.components().filter(|part| *part != Component::CurDir);
        return parts.collect::<PathBuf>().into();
    }
    path.into()
}

/// Whether two paths are the same but for `.` components.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let parts = |path| Path::components(path).filter(|part| *part != Component::CurDir);
    parts(one).eq(parts(other))
}

/// The directory that a name is in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(OsStr::new("")))
}

impl Names {
    /// The file that the name stands for now.
    pub(crate) fn get(&self, path: &Path) -> Option<InodeNumber> {
        if let Some((_, inode)) = self.as_written(path) {
            return Some(inode);
        }
        let directory = self.directories.get(directory_of(path))?;
        directory.current.get(path).copied()
    }

    /// The file that a path leads to now, however it is written.
    pub(crate) fn reached(&self, path: &Path) -> Option<InodeNumber> {
        match self.as_written(path) {
            Some((_, inode)) => Some(inode),
            None => self.get(&normalized(path)),
        }
    }

    /// A path as the key of a name, as [`normalized`] makes it.
    pub(crate) fn key(&self, path: &Path) -> Rc<Path> {
        match self.as_written(path) {
            Some((name, _)) => Rc::clone(name),
            None => normalized(path),
        }
    }

    /// The name that has just these bytes. Comparing them costs far less than comparing components,
    /// and there are few names. A path with a dot or a slash too many has other bytes.
    fn as_written(&self, path: &Path) -> Option<(&Rc<Path>, InodeNumber)> {
        let mut all = self.iter();
        all.find(|(name, _)| name.as_os_str() == path.as_os_str())
    }

    /// Changes a name, in memory.
    pub(crate) fn change(&mut self, change: NameChange) {
        let (NameChange::Create { path, .. }
        | NameChange::Rename { to: path, .. }
        | NameChange::Remove { path, .. }) = &change;
        let directory = self.directory(path);
        change.apply(Rc::make_mut(&mut directory.current));
        directory.unsynced.push(change);
    }

    /// Gives a file a name durably, without a trace in the list of changes.
    pub(crate) fn install(&mut self, path: &Rc<Path>, inode: InodeNumber) {
        let directory = self.directory(path);
        Rc::make_mut(&mut directory.current).insert(Rc::clone(path), inode);
        Rc::make_mut(&mut directory.durable).insert(Rc::clone(path), inode);
    }

    /// Makes the names in the directory of `path` durable.
    pub(crate) fn sync_directory_of(&mut self, path: &Path) {
        if let Some(directory) = self.directories.get_mut(directory_of(path)) {
            directory.sync();
        }
    }

    /// Makes all names durable.
    pub(crate) fn settle(&mut self) {
        self.directories.values_mut().for_each(Directory::sync);
    }

    /// All current names, in order, and the files that they stand for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Rc<Path>, InodeNumber)> {
        (self.directories.values())
            .flat_map(|directory| (directory.current.iter()).map(|(path, &inode)| (path, inode)))
    }

    /// Whether the same names stand for the same files now.
    pub(crate) fn are_now(&self, other: &Names) -> bool {
        self.iter().eq(other.iter())
    }

    /// Whether the file may have a name after a power cut.
    pub(crate) fn may_survive(&self, inode: InodeNumber) -> bool {
        self.directories.values().any(|directory| {
            directory.durable.values().any(|&named| named == inode)
                || (directory.unsynced.iter()).any(|change| change.inode() == inode)
        })
    }

    /// What is at stake when the power fails now.
    pub(crate) fn unsynced(&self) -> Vec<UnsyncedNames> {
        (self.directories.iter())
            .filter(|(_, directory)| !directory.unsynced.is_empty())
            .map(|(path, directory)| UnsyncedNames {
                directory: Rc::clone(path),
                changes: directory.unsynced.clone(),
            })
            .collect()
    }

    /// The names after a power cut that left these survivors.
    pub(crate) fn after_power_cut(
        &self,
        survivors: &BTreeMap<PathBuf, Vec<bool>>,
        ordered: bool,
    ) -> Result<Names, BadSurvivors> {
        for path in survivors.keys() {
            let directory = self.directories.get(path.as_path());
            if directory.is_none_or(|directory| directory.unsynced.is_empty()) {
                return Err(BadSurvivors::NoSuchDirectory(path.clone()));
            }
        }
        let mut after = Names::default();
        for (path, directory) in &self.directories {
            // The look-up of a path costs more than the rest, and mostly there is nothing.
            let kept = match directory.unsynced.is_empty() {
                true => None,
                false => survivors.get(&**path),
            };
            let directory = directory.after_power_cut(path, kept.map(Vec::as_slice), ordered)?;
            after.directories.insert(Rc::clone(path), directory);
        }
        Ok(after)
    }

    fn directory(&mut self, path: &Path) -> &mut Directory {
        let directory = directory_of(path);
        if !self.directories.contains_key(directory) {
            self.directories
                .insert(directory.into(), Directory::default());
        }
        self.directories
            .get_mut(directory)
            .expect("the directory was inserted above if it was missing")
    }
}

impl Directory {
    fn sync(&mut self) {
        self.durable = Rc::clone(&self.current);
        self.unsynced.clear();
    }

    fn after_power_cut(
        &self,
        path: &Path,
        kept: Option<&[bool]>,
        ordered: bool,
    ) -> Result<Directory, BadSurvivors> {
        let mut names = Rc::clone(&self.durable);
        if let Some(kept) = kept {
            if kept.len() != self.unsynced.len() {
                return Err(BadSurvivors::NameCount {
                    directory: path.into(),
                    found: kept.len(),
                    expected: self.unsynced.len(),
                });
            }
            let out_of_order = kept.windows(2).position(|pair| !pair[0] && pair[1]);
            if let Some(lost) = out_of_order.filter(|_| ordered) {
                return Err(BadSurvivors::NamesOutOfOrder {
                    directory: path.into(),
                    position: lost + 1,
                });
            }
            for (change, _) in self.unsynced.iter().zip(kept).filter(|(_, kept)| **kept) {
                change.apply(Rc::make_mut(&mut names));
            }
        }
        Ok(Directory {
            durable: Rc::clone(&names),
            current: names,
            unsynced: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: InodeNumber = InodeNumber(1);
    const NEW: InodeNumber = InodeNumber(2);

    fn path(text: &str) -> Rc<Path> {
        Path::new(text).into()
    }

    /// `d/a` is replaced by way of a new `d/b`.
    fn replaced() -> Names {
        let mut names = Names::default();
        names.install(&path("d/a"), OLD);
        names.change(NameChange::Create {
            path: path("d/b"),
            inode: NEW,
        });
        names.change(NameChange::Rename {
            from: path("d/b"),
            to: path("d/a"),
            inode: NEW,
        });
        names
    }

    fn after(
        names: &Names,
        kept: &[bool],
        ordered: bool,
    ) -> Result<Vec<(String, u64)>, BadSurvivors> {
        let survivors = BTreeMap::from([(PathBuf::from("d"), kept.to_vec())]);
        let after = names.after_power_cut(&survivors, ordered)?;
        let listed = after
            .iter()
            .map(|(path, inode)| (path.display().to_string(), inode.0));
        Ok(listed.collect())
    }

    #[test]
    fn a_replaced_name_stands_for_the_old_file_or_the_new_and_never_for_none() {
        let names = replaced();
        let [a, b] = ["d/a", "d/b"].map(String::from);
        assert_eq!(
            after(&names, &[false, false], true),
            Ok(vec![(a.clone(), 1)])
        );
        assert_eq!(
            after(&names, &[true, false], true),
            Ok(vec![(a.clone(), 1), (b, 2)])
        );
        assert_eq!(after(&names, &[true, true], true), Ok(vec![(a.clone(), 2)]));
        assert_eq!(
            after(&names, &[false, true], true),
            Err(BadSurvivors::NamesOutOfOrder {
                directory: "d".into(),
                position: 1
            })
        );
        assert_eq!(after(&names, &[false, true], false), Ok(vec![(a, 2)]));
    }

    #[test]
    fn a_removal_that_survives_alone_does_not_hit_another_file() {
        let mut names = replaced();
        names.change(NameChange::Remove {
            path: path("d/a"),
            inode: NEW,
        });
        assert_eq!(names.iter().count(), 0);
        let kept = after(&names, &[false, false, true], false);
        assert_eq!(kept, Ok(vec![("d/a".into(), 1)]));
    }

    #[test]
    fn a_name_is_the_same_with_and_without_dots() {
        assert_eq!(normalized(Path::new("./a")), path("a"));
        assert_eq!(normalized(Path::new("/x/./a")), path("/x/a"));
        let same = |one: &str, other: &str| is_same(Path::new(one), Path::new(other));
        assert!(same("./a", "a") && same(".", "./.") && same("a/./b", "./a/b"));
        assert!(!same("a", "b") && !same(".", "a") && !same("/a", "a"));
        assert_eq!(directory_of(Path::new("a")), Path::new(""));
        let names = replaced();
        for written in ["d/a", "./d/a", "d/./a", "d//a"].map(Path::new) {
            assert_eq!(names.reached(written), Some(NEW), "{written:?}");
            assert_eq!(names.key(written), normalized(written));
        }
        let gone = Path::new("d/b");
        assert_eq!((names.reached(gone), names.key(gone)), (None, path("d/b")));
    }
}
