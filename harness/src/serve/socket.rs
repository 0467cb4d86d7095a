//! Unix sockets that only their owner can connect to, and that go with whoever listens.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use driver::shown;
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};
use tempfile::TempDir;
use userhelper::unfinished;

use super::acceptor::Acceptor;

/// The longest path of a Unix socket that Linux takes, in bytes.
const LONGEST_ADDRESS: usize = 107;

/// What the name of the directory begins with in which a socket is made.
const DIRECTORY_PREFIX: &str = ".";

/// Random characters of that name.
const DIRECTORY_RANDOM: usize = 6;

/// What that directory adds to the path, in bytes.
const DIRECTORY_LEN: usize = DIRECTORY_PREFIX.len() + DIRECTORY_RANDOM + 1;

/// A socket that is listened on. When this is dropped, its name goes, if it is still its own.
#[derive(Debug)]
pub struct Listening {
    acceptor: Acceptor<UnixListener>,
    path: PathBuf,
    identity: Identity,
}

/// Device and inode.
type Identity = (u64, u64);

/// Listens at `path`, with mode 0600 from the start.
///
/// A name that exists is replaced only if it is a socket that nobody listens on. The socket is made
/// in a directory of its own and gets its name when it listens already. So of several that want the
/// same name at the same moment one gets it, and the others hear that somebody listens there.
///
/// # Errors
/// What was found and what was expected, with the path.
pub fn listen(path: &Path) -> Result<Listening, String> {
    let failed = |error: String| format!("{}: listening: {error}", shown(path));
    let len = path.as_os_str().len();
    if len > LONGEST_ADDRESS - DIRECTORY_LEN {
        return Err(failed(format!(
            "found a path of {len} bytes, expected at most {}",
            LONGEST_ADDRESS - DIRECTORY_LEN
        )));
    }
    let Some(name) = path.file_name() else {
        return Err(failed("expected the name of a socket".into()));
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let made = || -> Result<(Acceptor<UnixListener>, Identity), String> {
        let said = |error: io::Error| failed(system_words(error));
        let directory = private_directory(parent).map_err(said)?;
        let new = directory.path().join(name);
        let listener = UnixListener::bind(&new).map_err(said)?;
        // Whoever connects needs the right to write.
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).map_err(said)?;
        let mode = new.symlink_metadata().map_err(said)?.mode() & 0o7777;
        if mode != 0o600 {
            return Err(failed(format!(
                "found a socket of mode {mode:04o} where 0600 was asked for: the file system \
                 keeps no modes, and others could connect"
            )));
        }
        let identity = identity(&new).map_err(said)?;
        let acceptor = Acceptor::new(listener).map_err(said)?;
        make_way(path, parent).map_err(failed)?;
        match std::fs::hard_link(&new, path) {
            Ok(()) => Ok((acceptor, identity)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(failed(LISTENED_ON.into()))
            }
            Err(error) => Err(said(error)),
        }
    };
    // A signal that ends the process takes the name with it.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (acceptor, identity) = unfinished::create(made, |_| path.clone())?;
    Ok(Listening {
        acceptor,
        path,
        identity,
    })
}

const LISTENED_ON: &str = "found a socket that somebody listens on: is the device served already?";

impl Listening {
    /// Where, as an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for somebody who connects. `None` after [`Listening::stop`].
    ///
    /// # Errors
    /// The system's; one client's mishap is none.
    pub fn accept(&self) -> io::Result<Option<UnixStream>> {
        self.acceptor.accept()
    }

    /// Nobody is accepted any more; whoever waits in [`Listening::accept`] returns, and whoever
    /// connects is refused.
    pub fn stop(&self) {
        self.acceptor.stop();
        // Its only error is that it has been shut down already.
        let _ = rustix::net::shutdown(self.acceptor.listener(), Shutdown::Both);
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let remove = || match identity(&self.path) {
            Ok(found) if found == self.identity => std::fs::remove_file(&self.path),
            _ => Ok(()),
        };
        let _ = unfinished::finish(&self.path, remove);
    }
}

/// Takes away a socket called `path` that nobody listens on.
fn make_way(path: &Path, parent: &Path) -> Result<(), String> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system_words(error)),
    };
    if !found.file_type().is_socket() {
        return Err("found a name that is taken, and not by a socket: it is left alone".into());
    }
    match is_listened_on(path) {
        Ok(true) => return Err(LISTENED_ON.into()),
        Ok(false) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(system_words(error.into())),
    }
    take_away(path, parent, (found.dev(), found.ino()))
}

/// Takes away the socket called `path` if it is still the stale one. Whoever else found it stale
/// may have taken it away since and listen under its name.
fn take_away(path: &Path, parent: &Path, stale: Identity) -> Result<(), String> {
    let aside = private_directory(parent).map_err(system_words)?;
    let moved = aside.path().join("stale");
    match std::fs::rename(path, &moved) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system_words(error)),
    }
    if identity(&moved).map_err(system_words)? != stale {
        // If a third has the name by now, it stays theirs.
        let _ = std::fs::hard_link(&moved, path);
        return Err(LISTENED_ON.into());
    }
    Ok(())
}

/// Whether somebody accepts connections there. It does not wait for one to be accepted.
fn is_listened_on(path: &Path) -> Result<bool, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        // One whose queue is full, or of another type, has somebody too.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A directory in `parent` that nobody else may look into.
fn private_directory(parent: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(DIRECTORY_PREFIX)
        .rand_bytes(DIRECTORY_RANDOM)
        .tempdir_in(parent)
}

fn identity(path: &Path) -> io::Result<Identity> {
    let found = path.symlink_metadata()?;
    Ok((found.dev(), found.ino()))
}

/// What the system said, without the random name that tempfile adds.
fn system_words(error: io::Error) -> String {
    let text = error.to_string();
    let cause = text.split_once(" at path ").map(|(cause, _)| cause);
    driver::system_words(cause.unwrap_or(&text))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn it_is_its_owners_alone_and_goes_with_whoever_listens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let listening = listen(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(names(directory.path()), ["sock"], "nothing else is left");
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(b"x").unwrap();
        assert!(listening.accept().unwrap().is_some());
        drop(listening);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let first = listen(&path).unwrap();
        let second = listen(&path).unwrap_err();
        assert!(second.contains("somebody listens"), "{second}");
        drop(first);

        // As after kill -9.
        drop(UnixListener::bind(&path).unwrap());
        let again = listen(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        drop(again);

        std::fs::write(&path, "a file").unwrap();
        assert!(listen(&path).unwrap_err().contains("left alone"));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("target"), &link).unwrap();
        assert!(listen(&link).unwrap_err().contains("left alone"));
        assert_eq!(std::fs::read(&path).unwrap(), b"a file");
        assert_eq!(names(directory.path()), ["link", "sock"]);
    }

    /// A listener whose queue is full does not answer, and is there all the same.
    #[test]
    fn one_that_is_too_busy_to_answer_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let busy = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&busy, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&busy, 0).unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        assert!(listen(&path).unwrap_err().contains("somebody listens"));
    }

    #[test]
    fn what_has_another_name_by_now_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let listening = listen(&path).unwrap();
        std::fs::rename(&path, directory.path().join("renamed")).unwrap();
        std::fs::write(&path, "another's").unwrap();
        drop(listening);
        assert_eq!(std::fs::read(&path).unwrap(), b"another's");
    }

    #[test]
    fn whoever_accepts_hears_of_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let listening = listen(&directory.path().join("sock")).unwrap();
        std::thread::scope(|scope| {
            let accepts = scope.spawn(|| listening.accept().unwrap().is_none());
            listening.stop();
            assert!(accepts.join().unwrap());
        });
        assert!(listening.accept().unwrap().is_none(), "and once more");
        assert!(UnixStream::connect(listening.path()).is_err());
    }

    #[test]
    fn of_many_at_once_one_gets_the_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        drop(UnixListener::bind(&path).unwrap());
        let all: Vec<_> = std::thread::scope(|scope| {
            let attempts: Vec<_> = (0..8).map(|_| scope.spawn(|| listen(&path))).collect();
            attempts
                .into_iter()
                .map(|one| one.join().unwrap())
                .collect()
        });
        let listening: Vec<_> = all.iter().filter_map(|one| one.as_ref().ok()).collect();
        assert_eq!(listening.len(), 1, "{all:?}");
        assert_eq!(identity(&path).unwrap(), listening[0].identity);
    }

    /// One that looked when the name was stale, and acts when it is not any more.
    #[test]
    fn a_name_that_somebody_else_has_taken_meanwhile_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let stale = UnixListener::bind(&path).unwrap();
        let before = identity(&path).unwrap();
        std::fs::rename(&path, directory.path().join("kept")).unwrap();
        drop(stale);
        let other = listen(&path).unwrap();
        assert!(take_away(&path, directory.path(), before).is_err());
        assert_eq!(identity(&path).unwrap(), other.identity);
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(names(directory.path()), ["kept", "sock"]);
    }

    #[test]
    fn a_path_that_is_too_long_is_told_in_bytes() {
        let error = listen(Path::new(&"x".repeat(200))).unwrap_err();
        assert!(error.contains("200 bytes"), "{error}");
        assert!(listen(Path::new("/nonexistent/sock")).is_err());
    }
}
