//! What another process does between two host operations of an opening.

use std::cell::Cell;
use std::path::Path;

use driver::cow::Header;
use driver::device_spec::DeviceSpec;
use driver::host::{Access, HostNames, HostResult, LockKind, Metadata, Replace};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{Held, OpenError, OpenOptions, Role, create, create_temporary, open};
use driver::units::Bytes;

use super::{MTIME, host, host_with, v3};

type Action<'a> = Box<dyn FnOnce(&MemoryHost) + 'a>;

/// A host on which something happens before one of the locks is taken.
struct Meanwhile<'a> {
    host: MemoryHost,
    /// How many locks are taken before that.
    locks: Cell<u32>,
    before_lock: Cell<Option<Action<'a>>>,
}

impl<'a> Meanwhile<'a> {
    fn new(host: &MemoryHost, action: impl FnOnce(&MemoryHost) + 'a) -> Meanwhile<'a> {
        Meanwhile::after_locks(0, host, action)
    }

    fn after_locks(
        locks: u32,
        host: &MemoryHost,
        action: impl FnOnce(&MemoryHost) + 'a,
    ) -> Meanwhile<'a> {
        Meanwhile {
            host: host.clone(),
            locks: Cell::new(locks),
            before_lock: Cell::new(Some(Box::new(action))),
        }
    }
}

impl HostNames for Meanwhile<'_> {
    type File = MemoryFile;

    fn open(&self, path: &Path, access: Access) -> HostResult<MemoryFile> {
        self.host.open(path, access)
    }
    fn open_beneath(
        &self,
        directory: &Path,
        path: &Path,
        access: Access,
    ) -> HostResult<MemoryFile> {
        self.host.open_beneath(directory, path, access)
    }
    fn create_new(&self, path: &Path) -> HostResult<MemoryFile> {
        self.host.create_new(path)
    }
    fn give_mode(&self, path: &Path, file: &MemoryFile, from: &[&MemoryFile]) -> HostResult<()> {
        self.host.give_mode(path, file, from)
    }
    fn metadata(&self, file: &MemoryFile) -> HostResult<Metadata> {
        self.host.metadata(file)
    }
    fn copy_attributes(&self, from: &MemoryFile, to: &MemoryFile) -> HostResult<()> {
        self.host.copy_attributes(from, to)
    }
    fn lock(&self, file: &MemoryFile, kind: LockKind) -> HostResult<()> {
        match self.locks.get().checked_sub(1) {
            Some(left) => self.locks.set(left),
            None => {
                if let Some(action) = self.before_lock.take() {
                    action(&self.host);
                }
            }
        }
        self.host.lock(file, kind)
    }
    fn rename(&self, from: &Path, to: &Path, replace: Replace) -> HostResult<()> {
        self.host.rename(from, to, replace)
    }
    fn remove(&self, path: &Path) -> HostResult<()> {
        self.host.remove(path)
    }
    fn sync_directory_of(&self, path: &Path) -> HostResult<()> {
        self.host.sync_directory_of(path)
    }
}

/// Without the second look, the device would write into a file without a name.
#[test]
fn a_rebuild_that_ends_while_the_file_is_opened() {
    let host = host_with(&v3());
    let meanwhile = Meanwhile::new(&host, |host| {
        host.file("/rebuilt", &v3());
        let (from, to) = (Path::new("/rebuilt"), Path::new("/cow"));
        host.rename(from, to, Replace::Existing).unwrap();
    });
    let spec = "ubda=/cow".parse().unwrap();
    let error = open(&meanwhile, &spec, OpenOptions::default()).map(drop);
    assert_eq!(
        error.unwrap_err().to_string(),
        "/cow: replaced or removed by another process while it was opened: try again"
    );
    open(&meanwhile, &spec, OpenOptions::default()).unwrap();
}

/// Of two who create at once, one wins, and the other touches nothing of the winner's.
#[test]
fn two_creations_at_once() {
    let host = host();
    let temporary = Path::new("/.cow.ubdlab-new");
    let winner = Cell::new(None);
    let meanwhile = Meanwhile::new(&host, |host| {
        winner.set(Some(create_temporary(host, temporary).unwrap()));
    });
    let error = create_temporary(&meanwhile, temporary).map(drop);
    let path = temporary.to_owned();
    assert_eq!(error, Err(OpenError::Replaced { path }));
    let winner = host.metadata(&winner.take().unwrap()).unwrap();
    let named = host.open(temporary, Access::ReadOnly).unwrap();
    assert_eq!(host.metadata(&named).unwrap(), winner);
}

/// The lock of a COW file is the first one, that of its backing file the second.
fn opened_while(action: impl FnOnce(&MemoryHost)) -> String {
    let host = host_with(&v3());
    let meanwhile = Meanwhile::after_locks(1, &host, action);
    let spec: DeviceSpec = "ubda=/cow".parse().unwrap();
    let opened = open(&meanwhile, &spec, OpenOptions::default());
    opened.map(drop).unwrap_err().to_string()
}

/// Another process merges into the backing file, and gives it another time, between the moment
/// it is opened here and the moment it is locked.
#[test]
fn a_backing_file_that_is_changed_before_it_is_locked() {
    let found = opened_while(|host| {
        host.file("/disk", &[7; 32768]);
        host.set_modified("/disk", MTIME + 1).unwrap();
    });
    assert_eq!(
        found,
        "/disk: replaced or removed by another process while it was opened: try again"
    );
    let found = opened_while(|host| {
        let file = host.open(Path::new("/disk"), Access::ReadWrite).unwrap();
        driver::host::HostFile::write_all_at(&file, &[7; 512], Default::default()).unwrap();
        host.set_modified("/disk", MTIME + 1).unwrap();
    });
    assert!(
        found.starts_with(
            "/disk: modified at 1060000001, but the COW file /cow was made for the content of \
             1060000000 (seconds since 1970: 2003-08-04 12:26:41 and 2003-08-04 12:26:40 UTC). "
        ),
        "{found}"
    );
    let found = opened_while(|host| {
        let file = host.open(Path::new("/disk"), Access::ReadWrite).unwrap();
        driver::host::HostFile::set_len(&file, Bytes(65536)).unwrap();
    });
    assert_eq!(
        found,
        "/disk: found 65536 bytes, but the COW file /cow was made for 32768 bytes"
    );
}

/// A new COW file records what its backing file is under the lock, not what it was before.
#[test]
fn a_backing_file_that_is_changed_while_a_cow_file_is_made_over_it() {
    let host = host();
    let meanwhile = Meanwhile::new(&host, |host| {
        let file = host.open(Path::new("/disk"), Access::ReadWrite).unwrap();
        driver::host::HostFile::set_len(&file, Bytes(65536)).unwrap();
        host.set_modified("/disk", MTIME + 7).unwrap();
    });
    drop(create(&meanwhile, Path::new("/cow"), Path::new("/disk"), None).unwrap());
    let header = Header::decode(&host.contents("/cow").unwrap()).unwrap();
    assert_eq!(header.size, Bytes(65536));
    assert_eq!(i64::from(header.backing_mtime), MTIME + 7);
}

/// What is known of a file is what it was under the lock, or is said to be unlocked.
#[test]
fn what_is_held_was_seen_under_the_lock() {
    let host = host();
    for (lock, expected) in [(Some(LockKind::Shared), MTIME + 1), (None, MTIME)] {
        host.set_modified("/disk", MTIME).unwrap();
        let meanwhile =
            Meanwhile::new(&host, |host| host.set_modified("/disk", MTIME + 1).unwrap());
        let path = Path::new("/disk");
        let file = meanwhile.open(path, Access::ReadOnly).unwrap();
        let held = Held::take(&meanwhile, path, file, lock, Role::Backing).unwrap();
        assert_eq!((held.modified_seconds(), held.lock()), (expected, lock));
        assert_eq!(held.len(), Bytes(32768));
    }
}
