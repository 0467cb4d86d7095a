//! Finding the files of the other CPUs: blktrace names them `sda.blktrace.0`,
//! `sda.blktrace.1` and so on.
//!
//! This is the one place where a name counts, and only once the content has shown that it is
//! blktrace's: which files belong together is in the names and nowhere else. Nobody has asked for
//! those files, so only regular ones are taken: opening a FIFO waits for somebody, and opening a
//! device may do anything.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// What comes before and after the CPU's number in a name such as `sda.blktrace.3.gz`.
fn parts(name: &str) -> Option<(&str, u32, &str)> {
    let (stem, compression) = match name {
        _ if name.ends_with(".gz") => name.split_at(name.len() - 3),
        _ if name.ends_with(".zst") => name.split_at(name.len() - 4),
        _ => (name, ""),
    };
    let (front, number) = stem.rsplit_once('.')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || !front.ends_with(".blktrace") {
        return None;
    }
    Some((front, number.parse().ok()?, compression))
}

/// Files that belong to one recording.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Siblings {
    /// One for each CPU, by CPU.
    pub(in super::super) files: Vec<PathBuf>,
    /// How many more there are for a CPU that has one: the same file, compressed or not.
    pub(in super::super) doubles: usize,
}

/// The files of all CPUs of the recording that `path` belongs to; only `path` if its name is not
/// one that blktrace gives. Where a CPU has several, compressed and not, it is the one named, or
/// one compressed like that, or the one whose name comes first.
pub(in super::super) fn siblings(path: &Path) -> io::Result<Siblings> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some((front, _, compression)) = name.and_then(parts) else {
        return Ok(Siblings {
            files: vec![path.to_owned()],
            doubles: 0,
        });
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?.file_name();
        let other = entry.to_str().and_then(parts);
        if let Some((other_front, cpu, other_compression)) = other
            && other_front == front
        {
            let is_other_form = other_compression != compression;
            files.push((cpu, is_other_form, path.with_file_name(&entry)));
        }
    }
    files.sort();
    let all = files.len();
    files.dedup_by_key(|&mut (cpu, ..)| cpu);
    Ok(Siblings {
        doubles: all - files.len(),
        files: files.into_iter().map(|(.., path)| path).collect(),
    })
}

/// The first file of the recording that is called `path`, as blktrace's `-D` and blkparse call
/// it, if it is there: `sda.blktrace.0` of `sda`.
pub(in super::super) fn recorded(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?;
    let endings = [".blktrace.0", ".blktrace.0.gz", ".blktrace.0.zst", ".0"];
    let files = endings.into_iter().map(|ending| {
        let mut file = name.to_owned();
        file.push(ending);
        path.with_file_name(file)
    });
    let is_one = |file: &PathBuf| file.to_str().and_then(parts).is_some() && file.is_file();
    files.into_iter().find(is_one)
}

/// Opens a file that nobody has named, if it is a regular one. A symbolic link is none: it came
/// with the trace, and leads to what its author chose.
pub(in super::super) fn open_regular(path: &Path) -> io::Result<Option<File>> {
    if !std::fs::symlink_metadata(path)?.is_file() {
        return Ok(None);
    }
    // It may be another one by now: neither followed, nor waited for, nor made the process's
    // terminal.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    let is_regular = file.metadata()?.is_file();
    Ok(is_regular.then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(parts("sda.blktrace.0"), Some(("sda.blktrace", 0, "")));
        assert_eq!(
            parts("a.b.blktrace.12.gz"),
            Some(("a.b.blktrace", 12, ".gz"))
        );
        for name in [
            "sda",
            "sda.blktrace",
            "sda.blktrace.x",
            "sda.trace.0",
            "0",
            ".gz",
        ] {
            assert_eq!(parts(name), None, "{name}");
        }
    }

    #[test]
    fn files_of_all_cpus_are_found_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in [
            "d.blktrace.10",
            "d.blktrace.2",
            "e.blktrace.1",
            "d.blktrace.3.gz",
            "d.blktrace.2.gz",
            "d.blktrace.10.zst",
        ] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let found = siblings(&directory.path().join("d.blktrace.10")).unwrap();
        let files = found.files.iter();
        let names: Vec<_> = files.filter_map(|path| path.file_name()).collect();
        assert_eq!(names, ["d.blktrace.2", "d.blktrace.3.gz", "d.blktrace.10"]);
        assert_eq!(found.doubles, 2);
        let single = siblings(Path::new("renamed")).unwrap();
        assert_eq!(single.files, [Path::new("renamed")]);
    }
}
