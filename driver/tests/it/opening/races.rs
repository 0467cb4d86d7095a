//! What another process does between two host operations of an opening.

use std::cell::Cell;
use std::path::Path;

use driver::host::{Access, HostNames, HostResult, LockKind, Metadata, Replace};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenError, OpenOptions, create_temporary, open};

use super::{host, host_with, v3};

type Action<'a> = Box<dyn FnOnce(&MemoryHost) + 'a>;

/// A host on which something happens before the first lock is taken.
struct Meanwhile<'a> {
    host: MemoryHost,
    before_lock: Cell<Option<Action<'a>>>,
}

impl<'a> Meanwhile<'a> {
    fn new(host: &MemoryHost, action: impl FnOnce(&MemoryHost) + 'a) -> Meanwhile<'a> {
        Meanwhile {
            host: host.clone(),
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
        if let Some(action) = self.before_lock.take() {
            action(&self.host);
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
