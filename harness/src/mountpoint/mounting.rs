//! The mounting of FUSE on a directory: by root with a system call, by others with the helper.
//!
//! `fuser` could do it as well. But it also unmounts the directory when the connection has ended,
//! as of 0.18 even where that is because somebody else has unmounted it. It would take away what is
//! mounted there since.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use fuser::{Config, Filesystem, Session, SessionACL};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::passed_descriptors;

use super::mount::{Mount, unmount_at_once};
use super::{DEVICE, HELPER};

/// What the list of mounts calls the source.
const SOURCE: &str = "ubdlab";

/// How a directory is mounted. Modes and owners of files are heeded by the kernel; no device and
/// no set-user-ID program in it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mounting {
    pub(crate) for_whom: SessionACL,
    pub(crate) read_only: bool,
    /// Whether programs in it may be run.
    pub(crate) executable: bool,
}

impl Mounting {
    /// Mounts `filesystem` on `directory`, with what `config` says of threads.
    ///
    /// # Errors
    /// What the system or the helper says.
    pub(crate) fn mount<F: Filesystem>(
        self,
        filesystem: F,
        directory: &Path,
        config: Config,
    ) -> io::Result<(Session<F>, Mount)> {
        let directory = directory.canonicalize()?;
        let device = match self.by_system_call(&directory) {
            Err(Errno::PERM) => self.by_helper(HELPER, &directory)?,
            device => device?,
        };
        let begun = Mount::of(&directory, &device).and_then(|mount| {
            let session = Session::from_fd(filesystem, device, self.for_whom, config)?;
            Ok((session, mount))
        });
        begun.inspect_err(|_| {
            unmount_at_once(&directory);
        })
    }

    fn by_system_call(self, directory: &Path) -> rustix::io::Result<OwnedFd> {
        let of_system = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let mode = std::fs::metadata(directory).map_err(of_system)?.mode();
        let device = File::options().read(true).write(true).open(DEVICE);
        let device = device.map_err(of_system)?;
        let mut options = format!(
            "fd={},rootmode={mode:o},user_id={},group_id={},default_permissions",
            device.as_raw_fd(),
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        );
        if self.is_for_others() {
            options.push_str(",allow_other");
        }
        let mut flags = MountFlags::NODEV | MountFlags::NOSUID;
        flags.set(MountFlags::RDONLY, self.read_only);
        flags.set(MountFlags::NOEXEC, !self.executable);
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount(SOURCE, directory, "fuse", flags, &*options)?;
        Ok(device.into())
    }

    /// The helper mounts, and hands the device over through a socket, which is its standard input.
    fn by_helper(self, helper: &str, directory: &Path) -> io::Result<OwnedFd> {
        let mut options = format!("fsname={SOURCE},default_permissions");
        options.push_str(match self.read_only {
            true => ",ro",
            false => ",rw",
        });
        if !self.executable {
            options.push_str(",noexec");
        }
        if self.is_for_others() {
            options.push_str(",allow_other");
        }
        let (ours, its) = UnixStream::pair()?;
        let mut helper = Command::new(helper);
        helper.args(["-o", &options, "--"]).arg(directory);
        helper.env("_FUSE_COMMFD", "0").stdin(OwnedFd::from(its));
        helper.stdout(Stdio::null()).stderr(Stdio::piped());
        let running = helper.spawn()?;
        // It holds the other end as well, and would be waited for if it ended without a word.
        drop(helper);
        let device = handed_over(&ours);
        drop(ours);
        let ended = running.wait_with_output()?;
        device?.ok_or_else(|| io::Error::other(String::from_utf8_lossy(&ended.stderr).into_owned()))
    }

    fn is_for_others(self) -> bool {
        self.for_whom != SessionACL::Owner
    }
}

/// The descriptor that comes through a socket; `None` if it is closed without one.
fn handed_over(from: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut descriptors = Vec::new();
    passed_descriptors::receive(from, &mut [0], &mut descriptors, &mut space)?;
    Ok(descriptors.into_iter().next())
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read, Seek, Write};
    use std::os::fd::AsFd;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

    use super::*;

    #[test]
    fn the_descriptor_that_comes_is_taken() {
        let (to, from) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"mark").unwrap();
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let bytes = [IoSlice::new(&[0])];
        rustix::net::sendmsg(to, &bytes, &mut control, SendFlags::empty()).unwrap();
        let mut taken = File::from(handed_over(&from).unwrap().unwrap());
        taken.rewind().unwrap();
        let mut found = String::new();
        taken.read_to_string(&mut found).unwrap();
        assert_eq!(found, "mark");
    }

    /// Also where nothing but a byte comes.
    #[test]
    fn a_helper_that_hands_nothing_over_is_no_error_of_the_system() {
        let (mut to, from) = UnixStream::pair().unwrap();
        to.write_all(&[0]).unwrap();
        assert!(handed_over(&from).unwrap().is_none());
        drop(to);
        assert!(handed_over(&from).unwrap().is_none());
    }

    /// The helper is `ls`, which finds none of these.
    #[test]
    fn what_the_helper_says_is_the_error_and_it_is_told_all_options() {
        let mounting = Mounting {
            for_whom: SessionACL::All,
            read_only: true,
            executable: false,
        };
        let found = mounting.by_helper("ls", Path::new("/not/there"));
        let said = found.unwrap_err().to_string();
        let options = "fsname=ubdlab,default_permissions,ro,noexec,allow_other";
        assert!(
            said.contains(options) && said.contains("/not/there"),
            "{said}"
        );
    }
}
