//! An archive as `cpio -H newc` makes it, for the kernel to unpack.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What an entry is, beside its permissions.
const DIRECTORY: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const BLOCK_DEVICE: u32 = 0o060_000;
const FILE: u32 = 0o100_000;

/// The archive.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    /// One with a console, and directories for what a guest mounts.
    pub fn new() -> Archive {
        let mut archive = Archive::default();
        for directory in ["dev", "proc", "sys", "mnt"] {
            archive.directory(directory);
        }
        archive.character_device("dev/console", (5, 1));
        archive
    }

    /// A directory.
    pub fn directory(&mut self, name: &str) {
        self.parents(name);
        self.entry(name, DIRECTORY | 0o755, &[], (0, 0));
    }

    /// A character device that its owner may use, by its numbers.
    pub fn character_device(&mut self, name: &str, numbers: (u32, u32)) {
        self.parents(name);
        self.entry(name, CHARACTER_DEVICE | 0o600, &[], numbers);
    }

    /// A block device, likewise.
    pub fn block_device(&mut self, name: &str, numbers: (u32, u32)) {
        self.parents(name);
        self.entry(name, BLOCK_DEVICE | 0o600, &[], numbers);
    }

    /// A file with these permissions.
    pub fn file(&mut self, name: &str, permissions: u32, content: &[u8]) {
        self.parents(name);
        self.entry(name, FILE | permissions, content, (0, 0));
    }

    /// A program of this machine as `bin/NAME`, with the libraries that it is linked with.
    ///
    /// # Errors
    /// The system's.
    pub fn program(&mut self, name: &str, program: &Path) -> io::Result<()> {
        self.file(&format!("bin/{name}"), 0o755, &std::fs::read(program)?);
        for library in libraries(program)? {
            let content = std::fs::read(&library)?;
            let library = library.to_string_lossy();
            self.file(library.trim_start_matches('/'), 0o755, &content);
        }
        Ok(())
    }

    fn parents(&mut self, name: &str) {
        for (at, _) in name.match_indices('/') {
            self.entry(&name[..at], DIRECTORY | 0o755, &[], (0, 0));
        }
    }

    /// An entry, unless there is one of this name.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        if !self.names.insert(name.to_owned()) {
            return;
        }
        let inode = self.names.len() as u32;
        let (len, name_len) = (content.len() as u32, name.len() as u32 + 1);
        let (major, minor) = device;
        let mut header = "070701".to_owned();
        for field in [
            inode, mode, 0, 0, 1, 0, len, 0, 0, major, minor, name_len, 0,
        ] {
            // A String takes everything.
            let _ = write!(header, "{field:08x}");
        }
        self.bytes.extend(header.bytes());
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Its bytes, complete.
    pub fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }
}

/// The shared libraries of a program; one that is linked statically has none.
///
/// # Errors
/// If `ldd` does not start.
pub fn libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let said = Command::new("ldd").arg(program).output()?.stdout;
    let said = String::from_utf8_lossy(&said);
    let paths = said
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names and contents in their order, as whoever unpacks the archive finds them.
    fn entries(bytes: &[u8]) -> Vec<(String, String)> {
        const MAGIC: &[u8] = b"070701";
        const DIGITS: usize = 8;
        const FIELDS: usize = 13;
        let text = |from: usize, len: usize| {
            let part = bytes[from..from + len].to_vec();
            String::from_utf8(part).unwrap()
        };
        let mut entries = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at..].starts_with(MAGIC), "{at}");
            let fields = at + MAGIC.len();
            let field = |number: usize| {
                let digits = text(fields + number * DIGITS, DIGITS);
                usize::from_str_radix(&digits, 16).unwrap()
            };
            let (len, name_len) = (field(6), field(11));
            let name = fields + FIELDS * DIGITS;
            let name_end = name + name_len;
            assert_eq!(bytes[name_end - 1], 0);
            let content = name_end.next_multiple_of(4);
            entries.push((text(name, name_len - 1), text(content, len)));
            at = (content + len).next_multiple_of(4);
        }
        assert_eq!(at, bytes.len());
        entries
    }

    #[test]
    fn an_archive_has_each_name_once_and_its_parts_where_they_belong() {
        let mut archive = Archive::new();
        archive.file("a/b/c", 0o644, b"hello");
        archive.file("a/b/c", 0o644, b"again");
        let bytes = archive.end();
        let entries = entries(&bytes);
        let names: Vec<_> = entries.iter().map(|(name, _)| name.as_str()).collect();
        let of_new = ["dev", "proc", "sys", "mnt", "dev/console"];
        let of_file = ["a", "a/b", "a/b/c", "TRAILER!!!"];
        assert_eq!(names, [of_new.as_slice(), of_file.as_slice()].concat());
        for (name, content) in &entries {
            let expected = if name == "a/b/c" { "hello" } else { "" };
            assert_eq!(content, expected, "{name}");
        }
    }

    #[test]
    fn a_program_comes_with_what_it_is_linked_with() {
        let mut archive = Archive::default();
        archive.program("sh", Path::new("/bin/sh")).unwrap();
        assert!(archive.names.contains("bin/sh") && archive.names.contains("bin"));
        let libraries = archive.names.iter().filter(|name| name.contains("libc.so"));
        assert!(libraries.count() <= 1);
    }
}
