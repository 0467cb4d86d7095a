use std::io::Cursor;
use std::sync::mpsc;

use driver::units::SectorCount;

use super::*;
use crate::trace::{CompactReader, TraceSource};

/// A file that can be full, and slow.
struct Disk {
    content: Arc<std::sync::Mutex<Cursor<Vec<u8>>>>,
    room: usize,
    /// Each write after the first waits for one.
    may_write: Option<mpsc::Receiver<()>>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut content = self.content.lock().unwrap();
        if !content.get_ref().is_empty()
            && let Some(may_write) = &self.may_write
        {
            let _ = may_write.recv();
        }
        if content.get_ref().len() + bytes.len() > self.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.content.lock().unwrap().seek(to)
    }
}

impl Out for Disk {
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_of(at: Started, start: u64) -> NotedJob {
    let range = SectorRange::new(Sector(start), SectorCount(8));
    NotedJob::at(at, Operation::Write { fua: true }, range)
}

fn recorder(disk: Disk, on_the_way: usize) -> Recorder {
    let header = TraceHeader {
        device_size: Some(SectorCount(64)),
        description: "by hand".into(),
    };
    Recorder::on(disk, Path::new("out"), &header, on_the_way, |_| {}).unwrap()
}

fn read(content: &std::sync::Mutex<Cursor<Vec<u8>>>) -> Vec<(Record, Served)> {
    let bytes = content.lock().unwrap().get_ref().clone();
    let mut reader = CompactReader::new(Path::new("out"), Cursor::new(bytes)).unwrap();
    let mut read = Vec::new();
    while let Some(record) = reader.next() {
        read.push((record.unwrap(), reader.served().unwrap()));
    }
    read
}

#[test]
fn requests_are_in_the_order_in_which_they_were_asked_for() {
    let before = clock::start();
    let content = Arc::default();
    let disk = Disk {
        content: Arc::clone(&content),
        room: usize::MAX,
        may_write: None,
    };
    let recorder = recorder(disk, 100);
    let times: Vec<_> = (0..3).map(|_| clock::start()).collect();
    recorder.note(7, write_of(times[2], 80), Status::NoSpace);
    recorder.note(7, write_of(before, 0), Status::Ok);
    let zeroes = NotedJob {
        operation: Operation::WriteZeroes,
        ..write_of(times[0], 8)
    };
    recorder.note(u64::MAX, zeroes.then_flush(true), Status::Ok);
    recorder.note(
        8,
        NotedJob::at(times[1], Operation::Flush, SectorRange::default()),
        Status::Ok,
    );
    recorder.note(
        8,
        NotedJob::at(times[1], Operation::Read, SectorRange::default()),
        Status::Ok,
    );
    let status = recorder.finish().unwrap();
    assert_eq!((status.recorded, status.lost), (4, 0));
    let read = read(&content);
    let seen: Vec<_> = read
        .iter()
        .map(|(record, served)| (record.operation, record.start.0, served.client))
        .collect();
    let expected = [
        (TraceOperation::WriteZeroes, 8, 0),
        (TraceOperation::Flush, 0, 0),
        (TraceOperation::Flush, 0, 8),
        (TraceOperation::Write, 80, 7),
    ];
    assert_eq!(seen, expected);
    assert_eq!(read[3].1.status, Status::NoSpace);
    assert!(read[3].0.fua);
    // The last request lies past the end that the device had at first.
    let bytes = content.lock().unwrap().get_ref().clone();
    let reader = CompactReader::new(Path::new("out"), Cursor::new(bytes)).unwrap();
    assert_eq!(reader.description().device_size, Some(SectorCount(88)));
    assert_eq!(reader.description().text, "by hand");
}

#[test]
fn a_disk_that_is_too_slow_loses_requests_and_holds_nobody_up() {
    let (allow, may_write) = mpsc::channel();
    let content = Arc::default();
    let disk = Disk {
        content: Arc::clone(&content),
        room: usize::MAX,
        may_write: Some(may_write),
    };
    let recorder = recorder(disk, 10);
    // More than are sorted, in a frame and on the way.
    let many = 100_000;
    for n in 0..many {
        recorder.note(1, write_of(clock::start(), n), Status::Ok);
    }
    let status = recorder.status();
    assert!(status.lost > 0, "{status:?}");
    assert_eq!(status.recorded + status.lost, many);
    drop(allow);
    let after = recorder.finish().unwrap();
    assert_eq!(after, status);
    assert_eq!(read(&content).len() as u64, status.recorded);
    let bytes = content.lock().unwrap().get_ref().clone();
    let mut reader = CompactReader::new(Path::new("out"), Cursor::new(bytes)).unwrap();
    while reader.next().is_some() {}
    assert_eq!(reader.notes().served.lost, status.lost);
}

#[test]
fn a_full_disk_ends_the_recording_and_says_so() {
    let content = Arc::default();
    let disk = Disk {
        content: Arc::clone(&content),
        room: 100,
        may_write: None,
    };
    let recorder = recorder(disk, 10);
    recorder.note(1, write_of(clock::start(), 0), Status::Ok);
    let error = recorder.finish().unwrap_err();
    assert!(error.contains("out: "), "{error}");
}
