//! How often `ordered` asks the host for something: a system call a run, no copy, and for a
//! flush two syncs and a write a page of bitmap.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use driver::blk::{Completion, Request, Status, Tag};
use driver::cow::SECTORS_PER_PAGE;
use driver::driver::Driver;
use driver::host::{
    Access, HostFile, HostNames, HostResult, LockKind, Metadata, OperationKind, Replace,
};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, open};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount};

/// A call for an operation on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    kind: OperationKind,
    path: PathBuf,
    /// Where in memory its buffer is, and how long.
    buffer: (usize, usize),
}

/// A host that remembers what it was asked for.
#[derive(Clone)]
struct Counting {
    host: MemoryHost,
    calls: Arc<Mutex<Vec<Call>>>,
}

#[derive(Debug)]
struct Counted {
    file: MemoryFile,
    path: PathBuf,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Counting {
    fn counted(&self, path: &Path, file: MemoryFile) -> Counted {
        Counted {
            file,
            path: path.to_owned(),
            calls: self.calls.clone(),
        }
    }

    /// What was asked for since the last time.
    fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Counted {
    fn note(&self, kind: OperationKind, buffer: &[u8]) {
        self.calls.lock().unwrap().push(Call {
            kind,
            path: self.path.clone(),
            buffer: (buffer.as_ptr() as usize, buffer.len()),
        });
    }
}

/// A read of this many sectors of a file, to this address.
fn read(path: &str, at: usize, sectors: usize) -> Call {
    Call {
        kind: OperationKind::Read,
        path: path.into(),
        buffer: (at, sectors * 512),
    }
}

impl HostFile for Counted {
    fn read_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<usize> {
        self.note(OperationKind::Read, buffer);
        self.file.read_at(buffer, at)
    }

    fn write_at(&self, data: &[u8], at: FileOffset) -> HostResult<usize> {
        self.note(OperationKind::Write, data);
        self.file.write_at(data, at)
    }

    fn sync_data(&self) -> HostResult<()> {
        self.note(OperationKind::SyncData, &[]);
        self.file.sync_data()
    }

    fn len(&self) -> HostResult<Bytes> {
        self.file.len()
    }

    fn set_len(&self, len: Bytes) -> HostResult<()> {
        self.file.set_len(len)
    }

    fn punch_hole(&self, range: FileRange) -> HostResult<()> {
        self.file.punch_hole(range)
    }

    fn zero_range(&self, range: FileRange) -> HostResult<()> {
        self.file.zero_range(range)
    }

    fn next_data(&self, from: FileOffset) -> HostResult<Option<FileRange>> {
        self.file.next_data(from)
    }
}

impl HostNames for Counting {
    type File = Counted;

    fn open(&self, path: &Path, access: Access) -> HostResult<Counted> {
        let file = self.host.open(path, access)?;
        Ok(self.counted(path, file))
    }

    fn open_beneath(&self, directory: &Path, path: &Path, access: Access) -> HostResult<Counted> {
        let file = self.host.open_beneath(directory, path, access)?;
        Ok(self.counted(&directory.join(path), file))
    }

    fn create_new(&self, path: &Path) -> HostResult<Counted> {
        let file = self.host.create_new(path)?;
        Ok(self.counted(path, file))
    }

    fn give_mode(&self, path: &Path, file: &Counted, sources: &[&Counted]) -> HostResult<()> {
        let sources: Vec<_> = sources.iter().map(|source| &source.file).collect();
        self.host.give_mode(path, &file.file, &sources)
    }

    fn metadata(&self, file: &Counted) -> HostResult<Metadata> {
        self.host.metadata(&file.file)
    }

    fn copy_attributes(&self, from: &Counted, to: &Counted) -> HostResult<()> {
        self.host.copy_attributes(&from.file, &to.file)
    }

    fn lock(&self, file: &Counted, kind: LockKind) -> HostResult<()> {
        self.host.lock(&file.file, kind)
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

/// A device over a backing file of zeros, and its host.
fn device(sectors: u64) -> (Counting, Ordered<Counted>) {
    let host = Counting {
        host: MemoryHost::new(),
        calls: Arc::default(),
    };
    host.host.file(Path::new("/disk"), &[]);
    let file = host.open(Path::new("/disk"), Access::ReadWrite).unwrap();
    file.set_len(SectorCount(sectors).bytes()).unwrap();
    drop(file);
    let spec = "ubda=/cow,/disk".parse().unwrap();
    // Created first under another name, under which it would be counted.
    drop(open(&host, &spec, OpenOptions::default()).unwrap());
    let device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    host.calls();
    (host, device)
}

fn carry_out(device: &mut Ordered<Counted>, request: Request) -> Completion {
    let completion = device.serve(request).unwrap();
    assert_eq!(completion.status, Status::Ok);
    completion
}

#[test]
fn a_read_takes_one_call_a_run_straight_into_its_own_buffer() {
    let (host, mut device) = device(1000);
    for (start, sectors) in [(10, 3), (20, 1)] {
        let data = vec![1; sectors * 512];
        carry_out(&mut device, Request::write(Tag(0), Sector(start), data));
    }
    host.calls();
    let request = Request::read(Tag(0), Sector(8), SectorCount(16));
    let buffer = request.segments[0].data.as_ptr() as usize;
    let completion = carry_out(&mut device, request);
    assert_eq!(
        completion.request.segments[0].data.as_ptr() as usize,
        buffer
    );
    // Sectors 8 and 9, 10 to 12, 13 to 19, 20, 21 to 23.
    let mut at = buffer;
    let runs = [
        ("/disk", 2),
        ("/cow", 3),
        ("/disk", 7),
        ("/cow", 1),
        ("/disk", 3),
    ];
    let expected = runs.map(|(path, sectors)| {
        let call = read(path, at, sectors);
        at += sectors * 512;
        call
    });
    assert_eq!(host.calls(), expected);
}

#[test]
fn a_request_of_several_segments_takes_a_call_for_each_run_of_each() {
    let (host, mut device) = device(1000);
    carry_out(&mut device, Request::write(Tag(0), Sector(2), vec![1; 512]));
    host.calls();
    let mut request = Request::read(Tag(0), Sector(0), SectorCount(4));
    let more = Request::read(Tag(0), Sector(0), SectorCount(2));
    request.segments.extend(more.segments);
    let buffers = [0, 1].map(|which| request.segments[which].data.as_ptr() as usize);
    carry_out(&mut device, request);
    // Sectors 0 and 1, 2, 3; then 4 and 5, in a buffer of their own.
    let runs = [
        ("/disk", buffers[0], 2),
        ("/cow", buffers[0] + 2 * 512, 1),
        ("/disk", buffers[0] + 3 * 512, 1),
        ("/disk", buffers[1], 2),
    ];
    let expected = runs.map(|(path, at, sectors)| read(path, at, sectors));
    assert_eq!(host.calls(), expected);
}

#[test]
fn a_flush_after_scattered_writes_takes_two_syncs_and_a_write_for_each_page_of_bitmap() {
    let pages = 5;
    let (host, mut device) = device(pages * SECTORS_PER_PAGE.0);
    let sectors = pages * SECTORS_PER_PAGE.0;
    for index in 0..10_000 {
        // An odd multiplier scatters them all over the device, no two at one place.
        let at = index * 9973 * 8 % sectors;
        carry_out(
            &mut device,
            Request::write(Tag(0), Sector(at), vec![1; 512]),
        );
    }
    assert_eq!(device.map().dirty_count(), SectorCount(10_000));
    let writes = |call: &&Call| call.kind == OperationKind::Write;
    let calls = host.calls();
    assert_eq!(calls.len(), 10_000, "a system call each, and no sync");
    assert_eq!(calls.iter().filter(writes).count(), 10_000);

    carry_out(&mut device, Request::flush(Tag(0)));
    let calls = host.calls();
    for end in [calls.first(), calls.last()] {
        assert_eq!(end.map(|call| call.kind), Some(OperationKind::SyncData));
    }
    assert_eq!(calls.iter().filter(writes).count() as u64, pages);
    assert_eq!(calls.len() as u64, pages + 2);

    carry_out(&mut device, Request::flush(Tag(0)));
    assert_eq!(host.calls(), [], "nothing is new");
}
