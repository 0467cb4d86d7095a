//! The executors on real files: whoever carries the operations out, the device comes to the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driver::blk::{Completion, Request, Status, Tag};
use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{
    Access, Action, Buffer, FileRole, HostError, HostFile, HostNames, HostResult, Operation, Waiter,
};
use driver::open::{OpenOptions, open};
use driver::ordered::Ordered;
use driver::units::{Bytes, FileOffset, FileRange, Sector, SectorCount};
use rustix::io::Errno;
use userhelper::executor::{Threads, Uring};
use userhelper::real_files::{RealFile, RealHost};

const SECTORS: u64 = 4096;

/// The ring, where the kernel lets it be made.
fn uring() -> Option<Uring> {
    match Uring::new() {
        Ok(uring) => Some(uring),
        Err(error) => {
            assert!(
                std::env::var_os("UBDLAB_REQUIRE_PEERS").is_none_or(|_| is_refused(&error.0)),
                "{error}"
            );
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// A container may refuse it for good.
fn is_refused(error: &std::io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::PERM | Errno::NOSYS | Errno::ACCESS))
}

fn executors() -> Vec<(&'static str, Box<dyn Executor<RealFile>>)> {
    let threads = |count| Box::new(Threads::start(count).unwrap()) as Box<dyn Executor<RealFile>>;
    let mut executors = vec![("a thread", threads(1)), ("threads", threads(8))];
    if let Some(uring) = uring() {
        executors.push(("io_uring", Box::new(uring)));
    }
    executors
}

fn device(directory: &Path) -> Ordered<RealFile> {
    let (cow, disk) = (directory.join("cow"), directory.join("disk"));
    let content: Vec<u8> = (0..SECTORS * 512)
        .map(|at| (at / 512 * 7 + at % 251) as u8)
        .collect();
    std::fs::write(&disk, content).unwrap();
    let spec = DeviceSpec {
        backing: Some(disk),
        ..DeviceSpec::of(cow)
    };
    open(&RealHost, &spec, OpenOptions::default())
        .unwrap()
        .device
}

/// Pseudo-random numbers, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }
}

fn requests() -> Vec<Request> {
    let mut numbers = Numbers(7);
    let mut requests = Vec::new();
    for tag in 0..3000 {
        let count = 1 + numbers.below(40);
        let start = numbers.below(SECTORS - count);
        let (tag, start) = (Tag(tag), Sector(start));
        let content = || vec![tag.0 as u8; (count * 512) as usize];
        requests.push(match numbers.below(20) {
            0..9 => Request::read(tag, start, SectorCount(count)),
            9..17 => Request::write(tag, start, content()),
            17 => Request::write_zeroes(tag, start, SectorCount(count)),
            18 => Request::write_fua(tag, start, content()),
            _ => Request::flush(tag),
        });
    }
    requests
}

/// Serves all of them, with as many in flight as the device takes; what each came to.
fn serve(
    device: &mut Ordered<RealFile>,
    executor: &mut dyn Executor<RealFile>,
) -> BTreeMap<Tag, Completion> {
    let mut left = requests().into_iter().peekable();
    let mut completed = BTreeMap::new();
    loop {
        while device.has_room()
            && let Some(request) = left.next()
        {
            device.submit(request).unwrap();
        }
        if !device.is_busy() {
            return completed;
        }
        device.begin_on(executor);
        if let Some(finished) = executor.finished(Wait::ForOne).unwrap() {
            device.finish(finished);
        }
        while let Some(completion) = device.next_completion() {
            assert_eq!(completion.status, Status::Ok, "{:?}", completion.failure);
            completed.insert(completion.request.tag, completion);
        }
    }
}

/// What the device holds when it is opened again.
fn content(directory: &Path) -> Vec<u8> {
    let spec = DeviceSpec::of(directory.join("cow"));
    let mut device = open(&RealHost, &spec, OpenOptions::default())
        .unwrap()
        .device;
    let request = Request::read(Tag(0), Sector(0), SectorCount(SECTORS));
    let completion = device.serve(request).unwrap();
    assert_eq!(completion.status, Status::Ok);
    completion.request.segments[0].data.clone()
}

/// What requests that keep their order where they overlap make of a disk, and what each read
/// returns: the model that the executors are compared with.
fn model() -> (Vec<u8>, BTreeMap<Tag, Vec<u8>>) {
    use driver::blk::Operation;
    let mut disk: Vec<u8> = (0..SECTORS * 512)
        .map(|at| (at / 512 * 7 + at % 251) as u8)
        .collect();
    let mut reads = BTreeMap::new();
    for request in requests() {
        let range = request.range();
        let at = range.start.bytes().0 as usize..range.end().bytes().0 as usize;
        match request.operation {
            Operation::Read => {
                reads.insert(request.tag, disk[at].to_vec());
            }
            Operation::Write { .. } => disk[at].copy_from_slice(&request.segments[0].data),
            Operation::WriteZeroes => disk[at].fill(0),
            Operation::Flush | Operation::Discard => {}
        }
    }
    (disk, reads)
}

#[test]
fn every_executor_keeps_the_order_of_what_overlaps() {
    let (disk, reads) = model();
    for (name, mut executor) in executors() {
        let directory = tempfile::tempdir().unwrap();
        let mut device = device(directory.path());
        let completed = serve(&mut device, &mut *executor);
        assert_eq!(completed.len(), requests().len(), "{name}");
        for (tag, expected) in &reads {
            let read = &completed[tag].request.segments[0].data;
            assert!(read == expected, "{name}: {tag:?}");
        }
        device.close().unwrap();
        assert!(content(directory.path()) == disk, "{name}");
    }
}

fn file(directory: &Path, len: usize) -> PathBuf {
    let path = directory.join("file");
    std::fs::write(&path, vec![5; len]).unwrap();
    path
}

fn files(path: &Path, access: Access) -> Files<RealFile> {
    Files {
        cow: Arc::new(RealHost.open(path, access).unwrap()),
        backing: None,
        new: None,
    }
}

fn one(
    executor: &mut dyn Executor<RealFile>,
    files: &Files<RealFile>,
    file: FileRole,
    action: Action,
) -> (HostResult<()>, Action) {
    let waiter = Waiter(3);
    let operation = Operation {
        waiter,
        file,
        action,
    };
    executor.begin(operation, files);
    let finished = executor.finished(Wait::ForOne).unwrap().unwrap();
    assert_eq!(finished.operation.waiter, waiter);
    assert!(executor.finished(Wait::No).unwrap().is_none());
    (finished.result, finished.operation.action)
}

#[test]
fn the_end_of_a_file_is_an_error_that_says_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), 1000);
    for (name, mut executor) in executors() {
        let files = files(&path, Access::ReadWrite);
        let read = Action::Read {
            at: FileOffset(512),
            buffer: Buffer::whole(vec![0; 1024]),
        };
        let (result, action) = one(&mut *executor, &files, FileRole::Cow, read);
        let end = HostError::UnexpectedEnd {
            found: 1000,
            expected: 1536,
        };
        assert_eq!(result, Err(end), "{name}");
        let Action::Read { buffer, .. } = action else {
            panic!("{name}: the buffer has gone");
        };
        assert!(buffer.data[..488] == [5; 488], "{name}");
    }
}

#[test]
fn a_part_of_a_buffer_is_read_and_the_rest_of_it_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), 4096);
    for (name, mut executor) in executors() {
        let files = files(&path, Access::ReadWrite);
        let read = Action::Read {
            at: FileOffset(0),
            buffer: Buffer {
                data: vec![1; 2048],
                part: 512..1024,
            },
        };
        let (result, action) = one(&mut *executor, &files, FileRole::Cow, read);
        assert_eq!(result, Ok(()), "{name}");
        let Action::Read { buffer, .. } = action else {
            panic!("{name}: the buffer has gone");
        };
        assert!(buffer.data == [vec![1; 512], vec![5; 512], vec![1; 1024]].concat());
    }
}

#[test]
fn what_cannot_be_done_is_an_error_of_the_operation_and_not_of_the_executor() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), 4096);
    let zeros = FileRange::new(FileOffset(0), Bytes(512));
    let write = |at| Action::Write {
        at: FileOffset(at),
        buffer: Buffer::whole(vec![1; 512]),
    };
    for (name, mut executor) in executors() {
        let read_only = files(&path, Access::ReadOnly);
        for action in [
            write(0),
            Action::ZeroRange(zeros),
            Action::WriteZeros(zeros),
        ] {
            let (result, _) = one(&mut *executor, &read_only, FileRole::Cow, action);
            assert_eq!(result, Err(HostError::PermissionDenied), "{name}");
        }
        let (result, _) = one(&mut *executor, &read_only, FileRole::Backing, write(0));
        assert_eq!(result, Err(HostError::NotFound), "{name}");
        let writable = files(&path, Access::ReadWrite);
        let (result, _) = one(
            &mut *executor,
            &writable,
            FileRole::Cow,
            write(i64::MAX as u64),
        );
        assert_eq!(result, Err(HostError::TooLarge), "{name}");
        let (result, _) = one(&mut *executor, &writable, FileRole::Cow, Action::SyncData);
        assert_eq!(result, Ok(()), "{name}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), [5; 4096]);
}

#[test]
fn an_executor_that_is_dropped_waits_for_what_is_under_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), 1 << 20);
    for (name, mut executor) in executors() {
        let files = files(&path, Access::ReadWrite);
        let mut begun = 0;
        while executor.room() > 0 && begun < 32 {
            let action = Action::Write {
                at: FileOffset(begun * 4096),
                buffer: Buffer::whole(vec![name.len() as u8; 4096]),
            };
            executor.begin(
                Operation {
                    waiter: Waiter(begun),
                    file: FileRole::Cow,
                    action,
                },
                &files,
            );
            begun += 1;
        }
        // The ring has not been told of them yet, and the threads may not have looked.
        drop(executor.finished(Wait::No).unwrap());
        drop(executor);
        let written = std::fs::read(&path).unwrap();
        assert!(
            written[..begun as usize * 4096]
                .iter()
                .all(|&byte| byte == name.len() as u8)
        );
    }
}

/// A file whose reads panic.
#[derive(Debug)]
struct Broken;

impl HostFile for Broken {
    fn read_at(&self, _: &mut [u8], _: FileOffset) -> HostResult<usize> {
        panic!("the medium is on fire")
    }
    fn write_at(&self, data: &[u8], _: FileOffset) -> HostResult<usize> {
        Ok(data.len())
    }
    fn sync_data(&self) -> HostResult<()> {
        Ok(())
    }
    fn len(&self) -> HostResult<Bytes> {
        Ok(Bytes(0))
    }
    fn set_len(&self, _: Bytes) -> HostResult<()> {
        Ok(())
    }
    fn punch_hole(&self, _: FileRange) -> HostResult<()> {
        Ok(())
    }
    fn zero_range(&self, _: FileRange) -> HostResult<()> {
        Ok(())
    }
    fn next_data(&self, _: FileOffset) -> HostResult<Option<FileRange>> {
        Ok(None)
    }
}

#[test]
fn a_thread_that_dies_says_what_happened() {
    let files = Files {
        cow: Arc::new(Broken),
        backing: None,
        new: None,
    };
    let mut threads = Threads::start(2).unwrap();
    let action = Action::Read {
        at: FileOffset(0),
        buffer: Buffer::whole(vec![0; 512]),
    };
    let operation = Operation {
        waiter: Waiter(0),
        file: FileRole::Cow,
        action,
    };
    threads.begin(operation, &files);
    let died = threads.finished(Wait::ForOne).unwrap_err();
    let what = "a thread that does the device's I/O has died: the medium is on fire";
    assert_eq!(died, Died { what: what.into() });
}
