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
        let unmounted = Command::new("umount").arg(self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}
