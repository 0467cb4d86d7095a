//! File systems and loop devices of the tests' own.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::peers::skip;

/// Attempts to unmount what is in use for a moment.
const MOST_ATTEMPTS: u32 = 1000;

/// A file system of this size on the directory, until dropped. `None` where mounting is not
/// allowed.
pub(crate) struct Mounted<'a>(&'a Path, WhenKilled);

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
            skip(&format!("{} is missing", make[0]));
            return None;
        }
        // The loop device keeps the file, which has no name after this.
        Mounted::with(at, &["-o", "loop", image.path().to_str().unwrap()])
    }

    /// With these arguments of `mount` before the directory.
    pub(crate) fn with<'a>(at: &'a Path, args: &[&str]) -> Option<Mounted<'a>> {
        let mounted = Command::new("mount").args(args).arg(at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Mounted(at, WhenKilled::unmount(at)));
        }
        skip("a file system can be mounted by root only");
        None
    }
}

impl Mounted<'_> {
    /// Unmounts it when nobody has a file of it open any more, and waits for that.
    pub(crate) fn end(mut self) {
        let mut unmounted = Command::new("umount").arg(self.0).output().unwrap();
        // A child of another test may have all files open for a moment.
        for _ in 0..MOST_ATTEMPTS {
            if unmounted.status.success() {
                break;
            }
            std::thread::yield_now();
            unmounted = Command::new("umount").arg(self.0).output().unwrap();
        }
        let why = String::from_utf8_lossy(&unmounted.stderr);
        assert!(unmounted.status.success(), "{why}");
        self.1.is_over();
        std::mem::forget(self);
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
        self.1.is_over();
    }
}

/// What takes a mount or a loop device away where the tests are killed. It waits at a pipe that the
/// kernel closes then.
struct WhenKilled(Child);

impl WhenKilled {
    fn unmount(at: &Path) -> WhenKilled {
        WhenKilled::runs(at, &["umount", "-l"])
    }

    fn detach(device: &Path) -> WhenKilled {
        WhenKilled::runs(device, &["losetup", "-d"])
    }

    /// Runs this with the path.
    fn runs(path: &Path, command: &[&str]) -> WhenKilled {
        let script = r#"trap "" HUP INT TERM; read -r line || exec "$@" "$0""#;
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]).arg(path).args(command);
        shell.process_group(0);
        WhenKilled(shell.stdin(Stdio::piped()).spawn().unwrap())
    }

    /// It is gone.
    fn is_over(&mut self) {
        let mut pipe = self.0.stdin.take().unwrap();
        pipe.write_all(b"over\n").unwrap();
        drop(pipe);
        self.0.wait().unwrap();
    }
}

/// A directory below which what is unmounted goes from the mount namespaces of other programs too,
/// until dropped. Otherwise one that another test has made keeps the device of a file system in
/// use.
pub(crate) struct SharedMounts<'a>(&'a Path, WhenKilled);

impl SharedMounts<'_> {
    pub(crate) fn below(directory: &Path) -> SharedMounts<'_> {
        let bind = ["--bind".as_ref(), directory.as_os_str()];
        for how in [&bind[..], &["--make-shared".as_ref()]] {
            let mut mount = Command::new("mount");
            let mounted = mount.args(how).arg(directory).status().unwrap();
            assert!(mounted.success(), "{mount:?}");
        }
        SharedMounts(directory, WhenKilled::unmount(directory))
    }
}

impl Drop for SharedMounts<'_> {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        let unmounted = umount.arg("--lazy").arg(self.0).status();
        if !std::thread::panicking() {
            assert!(unmounted.unwrap().success());
        }
        self.1.is_over();
    }
}

/// A loop device over a file, until dropped.
pub(crate) struct Loop(PathBuf, WhenKilled);

impl Loop {
    /// Over this file, which the loop device reads and writes past the kernel's cache or through
    /// it.
    pub(crate) fn over(file: &Path, direct: bool) -> Loop {
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show"]);
        losetup.arg(format!("--direct-io={}", if direct { "on" } else { "off" }));
        let output = losetup.arg(file).output().unwrap();
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{why}");
        let device = String::from_utf8(output.stdout).unwrap();
        let device = PathBuf::from(device.trim());
        let when_killed = WhenKilled::detach(&device);
        Loop(device, when_killed)
    }

    /// The device.
    pub(crate) fn device(&self) -> &Path {
        &self.0
    }

    /// Lets it look at the size of its file again.
    pub(crate) fn look_at_size(&self) {
        let looked = Command::new("losetup").arg("-c").arg(&self.0).output();
        assert!(looked.unwrap().status.success());
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("-d").arg(&self.0).output();
        if !std::thread::panicking() {
            assert!(detached.unwrap().status.success());
        }
        self.1.is_over();
    }
}
