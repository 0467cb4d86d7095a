//! File systems of the tests' own.

use std::path::Path;
use std::process::Command;

/// A file system of this size on the directory, until dropped. `None` where mounting is not
/// allowed.
pub(crate) struct Mounted<'a>(&'a Path);

impl Mounted<'_> {
    pub(crate) fn tmpfs(at: &Path, size: u64) -> Option<Mounted<'_>> {
        let size = format!("size={size}");
        Mounted::with(at, &["-t", "tmpfs", "-o", &size, "tmpfs"])
    }

    /// A new one of the kind that `make`, a program with its arguments, makes in a file of `size`
    /// bytes. `None` also where that program is missing.
    pub(crate) fn made<'a>(at: &'a Path, make: &[&str], size: u64) -> Option<Mounted<'a>> {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        let mut command = Command::new(make[0]);
        let made = command.args(&make[1..]).arg(image.path()).output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("skipped: {} is missing", make[0]);
            return None;
        }
        // The loop device keeps the file, which has no name after this.
        Mounted::with(at, &["-o", "loop", image.path().to_str().unwrap()])
    }

    /// With these arguments of `mount` before the directory.
    pub(crate) fn with<'a>(at: &'a Path, args: &[&str]) -> Option<Mounted<'a>> {
        let mounted = Command::new("mount").args(args).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Mounted(at));
        }
        eprintln!("skipped: a file system can be mounted by root only");
        None
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // Of the names at once, and of the file system when nobody has it open any more: between
        // its fork and its exec, a child of another test has all files open that this process had.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0).output();
        if !std::thread::panicking() {
            let unmounted = unmounted.unwrap();
            let why = String::from_utf8_lossy(&unmounted.stderr);
            assert!(unmounted.status.success(), "{why}");
        }
    }
}
