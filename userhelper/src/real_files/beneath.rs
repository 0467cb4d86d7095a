//! Opening a file beneath a directory: no step leads out of it and no symbolic link is followed,
//! whatever somebody does to the names meanwhile.
//!
//! The kernel does that in one call, openat2, since Linux 5.6. Where it is missing, or where the
//! filter of a container keeps it out, each name on the way is opened from the one before it, and
//! what it is is asked of what was opened. Both ways refuse the same paths for the same reasons.
//!
//! A device file is not opened either: archives that root unpacks bring them too.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use driver::host::{Access, HostError, HostResult, Metadata, beneath, names_a_directory};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::errors::{from_std, host_error, retried};
use super::file::{RealFile, open_flags};
use super::metadata::known;

/// Of what is only looked at nothing is opened: a handle for questions.
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Who goes down the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The kernel, in one call.
    Kernel,
    /// This process, name by name.
    Walk,
}

/// See [`driver::host::HostNames::open_beneath`].
pub(super) fn open(directory: &Path, path: &Path, access: Access) -> HostResult<RealFile> {
    by_either_way(|way| open_by(way, directory, path, access))
}

/// What is known about the file without opening it.
pub(super) fn look(directory: &Path, path: &Path) -> HostResult<Metadata> {
    by_either_way(|way| Ok(known(&Start::at(directory, path)?.look(way)?.1)))
}

/// Why a path was not gone down to its end.
enum Failure {
    /// Nobody can go this way here.
    NoSuchWay,
    /// What the host said.
    Host(HostError),
}

impl Failure {
    fn of(errno: Errno, way: Way) -> Failure {
        match errno {
            // EPERM is what a filter of system calls says; where a file itself is the reason, the
            // other way says so again.
            Errno::NOSYS | Errno::PERM if way == Way::Kernel => Failure::NoSuchWay,
            Errno::LOOP => HostError::SymbolicLink.into(),
            Errno::XDEV => HostError::OutsideDirectory.into(),
            errno => host_error(errno).into(),
        }
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Failure {
        Failure::Host(error)
    }
}

fn by_either_way<T>(go: impl Fn(Way) -> Result<T, Failure>) -> HostResult<T> {
    let gone = match go(Way::Kernel) {
        Err(Failure::NoSuchWay) => go(Way::Walk),
        gone => gone,
    };
    gone.map_err(|failure| match failure {
        Failure::NoSuchWay => HostError::Unsupported,
        Failure::Host(error) => error,
    })
}

fn open_by(way: Way, directory: &Path, path: &Path, access: Access) -> Result<RealFile, Failure> {
    let start = Start::at(directory, path)?;
    let (looked, metadata) = start.look(way)?;
    if !metadata.is_file() {
        // As with a path that is followed: opening alone may do things.
        return Ok(RealFile::of(looked, access)?);
    }
    let opened = File::from(start.find(way, open_flags(access))?);
    // The name may be another file's by now.
    let kind = opened.metadata().map_err(from_std)?.file_type();
    match kind.is_block_device() || kind.is_char_device() {
        true => Err(HostError::DeviceFile.into()),
        false => Ok(RealFile::of(opened.into(), access)?),
    }
}

/// Where a path begins, and what it goes through from there.
struct Start {
    directory: OwnedFd,
    names: std::path::PathBuf,
}

impl Start {
    fn at(directory: &Path, path: &Path) -> HostResult<Start> {
        let names = match beneath(path)? {
            // The directory itself, which is no disk.
            names if names.as_os_str().is_empty() => ".".into(),
            names => names,
        };
        let directory = match directory.as_os_str().is_empty() {
            true => Path::new("."),
            false => directory,
        };
        let flags = LOOK | OFlags::DIRECTORY;
        let directory = retried(|| rustix::fs::openat(CWD, directory, flags, Mode::empty()))?;
        Ok(Start { directory, names })
    }

    /// A handle for questions, and what is known about the file, which is no device.
    fn look(&self, way: Way) -> Result<(OwnedFd, std::fs::Metadata), Failure> {
        let looked = File::from(self.find(way, LOOK)?);
        let metadata = looked.metadata().map_err(from_std)?;
        let kind = metadata.file_type();
        match kind.is_block_device() || kind.is_char_device() {
            true => Err(HostError::DeviceFile.into()),
            false => Ok((looked.into(), metadata)),
        }
    }

    fn find(&self, way: Way, flags: OFlags) -> Result<OwnedFd, Failure> {
        let directory = self.directory.as_fd();
        let found = rustix::io::retry_on_intr(|| match way {
            Way::Kernel => {
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                rustix::fs::openat2(directory, &self.names, flags, Mode::empty(), resolve)
            }
            Way::Walk => walk(directory, &self.names, flags),
        });
        found.map_err(|errno| Failure::of(errno, way))
    }
}

/// Goes down `names`, none of which is `..`, and opens the last one.
fn walk(directory: BorrowedFd<'_>, names: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut at = rustix::io::fcntl_dupfd_cloexec(directory, 0)?;
    let is_directory = names_a_directory(names);
    let mut names = names.components().peekable();
    while let Some(name) = names.next() {
        let found = look_at(at.as_fd(), name.as_os_str().as_ref())?;
        if is_directory && names.peek().is_none() && !is_a_directory(&found)? {
            return Err(Errno::NOTDIR);
        }
        at = match (names.peek(), flags == LOOK) {
            (Some(_), _) => found,
            (None, true) => found,
            // A link that was put in its place since is an error of the system's.
            (None, false) => {
                let flags = flags | OFlags::NOFOLLOW;
                rustix::fs::openat(&at, name.as_os_str(), flags, Mode::empty())?
            }
        };
    }
    Ok(at)
}

/// The file of that name, for questions; ELOOP if it is a symbolic link.
fn look_at(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd, Errno> {
    // With O_PATH the link itself is opened, whatever else is asked for: it shows by its kind.
    let found = rustix::fs::openat(directory, name, LOOK | OFlags::NOFOLLOW, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) {
        FileType::Symlink => Err(Errno::LOOP),
        _ => Ok(found),
    }
}

fn is_a_directory(found: &OwnedFd) -> Result<bool, Errno> {
    let mode = rustix::fs::fstat(found)?.st_mode;
    Ok(FileType::from_raw_mode(mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use driver::host::{FileKind, HostFile};
    use driver::units::FileOffset;

    use super::*;

    /// A directory with a file, a directory with a file, links of every kind, and a FIFO; beside
    /// it a file that nobody may come to.
    fn laid_out() -> tempfile::TempDir {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir_all(inner.join("sub")).unwrap();
        fs::write(outer.path().join("secret"), b"secret").unwrap();
        fs::write(inner.join("disk"), b"inside").unwrap();
        fs::write(inner.join("sub/disk"), b"deeper").unwrap();
        for (target, link) in [
            ("../secret", "out"),
            ("disk", "in"),
            ("..", "up"),
            ("sub", "down"),
            ("/proc/self/fd/0", "magic"),
            ("nowhere", "dangling"),
            ("round", "round"),
            ("../../secret", "sub/out"),
        ] {
            symlink(target, inner.join(link)).unwrap();
        }
        let made = Command::new("mkfifo").arg(inner.join("fifo")).status();
        assert!(made.unwrap().success());
        outer
    }

    /// What the ways that there are here say; they have to agree.
    fn both(outer: &tempfile::TempDir, path: &Path, access: Access) -> Result<String, HostError> {
        let inner = outer.path().join("inner");
        let by = |way| match open_by(way, &inner, path, access) {
            Err(Failure::NoSuchWay) => None,
            Err(Failure::Host(error)) => Some(Err(error)),
            Ok(file) => Some(Ok(match file.kind {
                FileKind::Regular => {
                    let mut content = [0; 6];
                    file.read_exact_at(&mut content, FileOffset(0)).unwrap();
                    String::from_utf8(content.to_vec()).unwrap()
                }
                kind => {
                    assert!(file.read_at(&mut [0], FileOffset(0)).is_err());
                    format!("{kind:?}")
                }
            })),
        };
        let walked = by(Way::Walk).expect("it needs nothing of the kernel");
        match by(Way::Kernel) {
            Some(kernel) => assert_eq!(kernel, walked, "{path:?}"),
            None => eprintln!("skipped: this kernel has no openat2"),
        }
        walked
    }

    #[test]
    fn both_ways_follow_names_and_nothing_else() {
        let outer = laid_out();
        for access in [Access::ReadOnly, Access::ReadWrite] {
            for (path, content) in [
                ("disk", "inside"),
                ("./disk", "inside"),
                ("sub/disk", "deeper"),
                ("./sub/.//disk", "deeper"),
                ("sub", "Directory"),
                ("sub/", "Directory"),
                ("sub/.", "Directory"),
                (".", "Directory"),
                ("fifo", "Other"),
            ] {
                let found = both(&outer, Path::new(path), access);
                assert_eq!(found.as_deref(), Ok(content), "{path}");
            }
            for link in [
                "out",
                "in",
                "up",
                "up/secret",
                "down",
                "down/disk",
                "magic",
                "dangling",
                "round",
                "sub/out",
            ] {
                let found = both(&outer, Path::new(link), access);
                assert_eq!(found, Err(HostError::SymbolicLink), "{link}");
            }
            let absolute = outer.path().join("inner/disk");
            for outside in [
                Path::new("../secret"),
                Path::new("sub/../disk"),
                Path::new("sub/../../secret"),
                Path::new(".."),
                &absolute,
            ] {
                let found = both(&outer, outside, access);
                assert_eq!(found, Err(HostError::OutsideDirectory), "{outside:?}");
            }
            let found = both(&outer, Path::new("none/disk"), access);
            assert_eq!(found, Err(HostError::NotFound));
            let found = both(&outer, Path::new("disk/none"), access);
            assert_eq!(found, Err(HostError::NOT_A_DIRECTORY));
            for path in ["disk/", "disk/.", "sub/disk/", "fifo/"] {
                let found = both(&outer, Path::new(path), access);
                assert_eq!(found, Err(HostError::NOT_A_DIRECTORY), "{path}");
                let looked = look(&outer.path().join("inner"), Path::new(path));
                assert_eq!(looked, Err(HostError::NOT_A_DIRECTORY), "{path}");
            }
            let found = both(&outer, Path::new("in/"), access);
            assert_eq!(found, Err(HostError::SymbolicLink));
        }
    }

    #[test]
    fn neither_way_opens_a_device() {
        let outer = laid_out();
        // A disk that there is not, and the device that reads as zeros.
        for (kind, numbers) in [("b", ["240", "0"]), ("c", ["1", "5"])] {
            let device = outer.path().join("inner/sub").join(kind);
            let mut made = Command::new("mknod");
            made.arg(device).arg(kind).args(numbers);
            if !made
                .stderr(std::process::Stdio::null())
                .status()
                .unwrap()
                .success()
            {
                eprintln!("skipped: only root makes devices");
                return;
            }
            let path = Path::new("sub").join(kind);
            for access in [Access::ReadOnly, Access::ReadWrite] {
                let found = both(&outer, &path, access);
                assert_eq!(found, Err(HostError::DeviceFile), "{kind}");
            }
            let looked = look(&outer.path().join("inner"), &path);
            assert_eq!(looked, Err(HostError::DeviceFile));
        }
    }

    /// What a name stands for is looked at again where it is opened.
    #[test]
    fn a_link_put_in_place_of_a_file_is_not_followed_by_the_walk() {
        let outer = laid_out();
        let directory = File::open(outer.path().join("inner")).unwrap();
        let opened = |name: &str| {
            walk(
                directory.as_fd(),
                Path::new(name),
                open_flags(Access::ReadOnly),
            )
            .map(drop)
        };
        assert_eq!(opened("disk"), Ok(()));
        fs::remove_file(outer.path().join("inner/disk")).unwrap();
        symlink("../secret", outer.path().join("inner/disk")).unwrap();
        assert_eq!(opened("disk"), Err(Errno::LOOP));
    }

    #[test]
    fn looking_tells_the_same_and_opens_nothing() {
        let outer = laid_out();
        let inner = outer.path().join("inner");
        let looked = look(&inner, Path::new("sub/disk")).unwrap();
        let followed = fs::metadata(inner.join("sub/disk")).unwrap();
        assert_eq!(looked, known(&followed));
        let kind = |path| look(&inner, Path::new(path)).map(|it| it.kind);
        assert_eq!(kind("fifo"), Ok(FileKind::Other));
        assert_eq!(kind("out"), Err(HostError::SymbolicLink));
        assert_eq!(kind("../secret"), Err(HostError::OutsideDirectory));
        // No other handle than one for questions is to be had of a file that nobody may read.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o000);
        fs::set_permissions(inner.join("disk"), mode).unwrap();
        assert_eq!(kind("disk"), Ok(FileKind::Regular));
    }

    #[test]
    fn where_the_kernel_cannot_the_walk_is_taken() {
        for (errno, taken) in [
            (Errno::NOSYS, Ok(Way::Walk)),
            (Errno::PERM, Ok(Way::Walk)),
            (Errno::LOOP, Err(HostError::SymbolicLink)),
            (Errno::NOENT, Err(HostError::NotFound)),
        ] {
            let gone = by_either_way(|way| match way {
                Way::Kernel => Err(Failure::of(errno, way)),
                Way::Walk => Ok(way),
            });
            assert_eq!(gone, taken);
        }
        // What the walk itself is refused is the answer.
        let gone = by_either_way(|way| Err::<(), _>(Failure::of(Errno::PERM, way)));
        assert_eq!(gone, Err(HostError::PermissionDenied));
    }

    #[test]
    fn a_directory_without_a_name_is_where_we_are() {
        let here = open(Path::new(""), Path::new("Cargo.toml"), Access::ReadOnly).unwrap();
        assert_eq!(here.kind, FileKind::Regular);
    }
}
