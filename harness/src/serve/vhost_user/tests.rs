//! A guest made in the test: its memory and a queue in it, before a real device.

mod any_chain;
mod queues;
mod requests;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::bounded;
use driver::device_spec::DeviceSpec;
use driver::open::OpenOptions;
use proptest::prelude::*;
use tempfile::TempDir;
use vhost_user_backend::{VhostUserBackend, VringT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::EventSet;

use super::chain::Memory;
use super::disk::Disk;
use super::in_flight::{InFlightNotes, NotedQueues};
use super::queue::{AllMemory, Answering, Vring};
use crate::device::Io;
use crate::locked::locked;
use crate::replay::ReplayDriver;
use crate::serve::{Completer, Opening, Up};

/// The guest's memory: two regions with a gap between them.
const MEMORY: [(u64, usize); 2] = [(0, 0x40000), (0x50000, 0x10000)];
/// Where the gap begins, and where it ends.
const GAP: u64 = 0x40000;
const AFTER_GAP: u64 = 0x50000;
const QUEUE: u16 = 16;
const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
/// The used ring with its event field, in bytes.
const USED_LEN: u64 = 6 + 8 * QUEUE as u64;
const HEADER: u64 = 0x4000;
const STATUS: u64 = 0x5000;
const DATA: u64 = 0x10000;
const DEVICE: u64 = 4 << 30;
/// What of it is ones in the backing file; the rest is a hole.
const ONES: usize = 1 << 20;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

const READ: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const ID: u32 = 8;
const DISCARD: u32 = 11;
const ZERO: u32 = 13;

/// A descriptor: address, length, flags, next.
type Descriptor = (u64, u32, u16, u16);

/// A request whose data is one descriptor at [`DATA`].
fn transfer(len: u32, data_flags: u16) -> [Descriptor; 3] {
    [
        (HEADER, 16, NEXT, 1),
        (DATA, len, NEXT | data_flags, 2),
        (STATUS, 1, WRITE, 0),
    ]
}

/// A device over a backing file that begins with ones.
struct Lab {
    _directory: TempDir,
    up: Up,
}

impl Lab {
    fn new(read_only: bool) -> Lab {
        let directory = tempfile::tempdir().unwrap();
        let (cow, backing) = (directory.path().join("cow"), directory.path().join("base"));
        let file = File::create(&backing).unwrap();
        file.set_len(DEVICE).unwrap();
        file.write_all_at(&[1; ONES], 0).unwrap();
        let open = |read_only, backing| {
            let opening = Opening {
                spec: DeviceSpec {
                    read_only,
                    backing,
                    ..DeviceSpec::of(&cow)
                },
                options: OpenOptions::default(),
                driver: ReplayDriver::Ordered,
                io: Io::Inline,
                allow_shrink: false,
            };
            let (ends, _) = bounded(1);
            opening.bring_up(Box::new(|_: &dyn std::fmt::Display| ()), ends)
        };
        let mut up = open(false, Some(backing)).unwrap();
        if read_only {
            up.close().unwrap();
            up = open(true, None).unwrap();
        }
        Lab {
            _directory: directory,
            up,
        }
    }

    fn guest(&self) -> Guest {
        let mut guest = Guest::unanswered(&self.up);
        guest.be_answered();
        guest
    }
}

/// A connection's device, with a queue in the guest's memory.
struct Guest {
    memory: Memory,
    vring: Vring,
    disk: Arc<Disk>,
    completer: Option<Completer<Answering>>,
    answers: Option<JoinHandle<()>>,
    broken: Arc<Mutex<Vec<String>>>,
    offered: u16,
    seen: u16,
}

impl Guest {
    /// One whose requests end, and are not answered yet.
    fn unanswered(up: &Up) -> Guest {
        let ranges = MEMORY.map(|(start, len)| (GuestAddress(start), len));
        Guest::with(up, Memory::from_ranges(&ranges).unwrap())
    }

    /// The guest goes on with the next server, as it is, where the used ring is.
    fn goes_on(self, up: &Up) -> Guest {
        let memory = self.memory.clone();
        let (offered, seen) = (self.offered, self.seen);
        drop(self);
        let mut guest = Guest::with(up, memory);
        (guest.offered, guest.seen) = (offered, seen);
        guest.vring.set_queue_next_used(seen);
        guest.vring.set_queue_next_avail(seen);
        guest
    }

    fn with(up: &Up, memory: Memory) -> Guest {
        let all = AllMemory::new(memory.clone());
        let vring = Vring::new(all.clone(), QUEUE).unwrap();
        vring.set_queue_info(TABLE, AVAILABLE, USED).unwrap();
        vring.set_queue_ready(true);
        vring.set_enabled(true);
        let (submitter, completer) = up.export.client("test".into());
        let broken = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&broken);
        let break_off = Box::new(move |why| locked(&told).push(why));
        let disk = Arc::new(Disk::new(up.export.clone(), all, submitter, break_off));
        Guest {
            memory,
            vring,
            disk,
            completer: Some(completer),
            answers: None,
            broken,
            offered: 0,
            seen: 0,
        }
    }

    fn be_answered(&mut self) {
        let (disk, completer) = (Arc::clone(&self.disk), self.completer.take().unwrap());
        self.answers = Some(std::thread::spawn(move || disk.answer_all(&completer)));
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    fn got(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .unwrap();
        bytes
    }

    fn header(&self, kind: u32, sector: u64) {
        self.put(HEADER, &header(kind, sector));
    }

    fn table_at(&self, at: u64, descriptors: &[Descriptor]) {
        for (index, (address, len, flags, next)) in descriptors.iter().enumerate() {
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(len.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(next.to_le_bytes());
            self.put(at + 16 * index as u64, &bytes);
        }
    }

    fn offer(&mut self, head: u16) {
        let slot = AVAILABLE + 4 + 2 * u64::from(self.offered % QUEUE);
        self.put(slot, &head.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
        self.put(AVAILABLE + 2, &self.offered.to_le_bytes());
    }

    /// Kicks, waits until nothing is in flight; what has come back, each a head and a length.
    fn kick(&mut self) -> Vec<(u32, u32)> {
        let vrings = [self.vring.clone()];
        self.disk.handle_event(0, EventSet::IN, &vrings, 0).unwrap();
        self.disk.stop_vring(0).unwrap();
        self.come_back()
    }

    /// What has come back since.
    fn come_back(&mut self) -> Vec<(u32, u32)> {
        let used = self.got(USED + 2, 2);
        let used = u16::from_le_bytes([used[0], used[1]]);
        let mut back = Vec::new();
        while self.seen != used {
            let at = USED + 4 + 8 * u64::from(self.seen % QUEUE);
            let entry = self.got(at, 8);
            let word = |at: usize| u32::from_le_bytes(entry[at..at + 4].try_into().unwrap());
            back.push((word(0), word(4)));
            self.seen = self.seen.wrapping_add(1);
        }
        back
    }

    /// One request of these descriptors from the table's first on: the status byte and the length
    /// that came back.
    fn request(&mut self, descriptors: &[Descriptor]) -> (u8, u32) {
        self.table_at(TABLE, descriptors);
        self.put(STATUS, &[0xff]);
        self.offer(0);
        let back = self.kick();
        assert_eq!(back.len(), 1, "{:?}", locked(&self.broken));
        assert_eq!(back[0].0, 0);
        (self.got(STATUS, 1)[0], back[0].1)
    }

    /// A request whose data is one descriptor at [`DATA`].
    fn simple(&mut self, kind: u32, sector: u64, len: u32, data_flags: u16) -> (u8, u32) {
        self.header(kind, sector);
        self.request(&transfer(len, data_flags))
    }

    /// Why the connection would have been ended.
    fn broken(&self) -> Vec<String> {
        locked(&self.broken).clone()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.disk.end();
        self.disk.let_go();
        if let Some(answered) = self.answers.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            answered.unwrap();
        }
    }
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(sector.to_le_bytes());
    bytes
}
