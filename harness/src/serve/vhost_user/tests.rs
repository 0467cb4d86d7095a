//! A guest made in the test: its memory and a queue in it, before a real device.

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

#[test]
fn what_is_written_is_read_and_lies_where_it_should() {
    let lab = Lab::new(false);
    let mut guest = lab.guest();
    assert_eq!(guest.simple(READ, 0, 512, WRITE), (0, 513));
    assert_eq!(guest.got(DATA, 512), [1; 512], "the backing file");
    guest.put(DATA, &[7; 4096]);
    assert_eq!(guest.simple(OUT, 8, 4096, 0), (0, 1));
    guest.header(FLUSH, 0);
    let flush = [(HEADER, 16, NEXT, 1), (STATUS, 1, WRITE, 0)];
    assert_eq!(guest.request(&flush), (0, 1));
    guest.put(DATA, &[0; 8192]);
    assert_eq!(guest.simple(READ, 7, 5120, WRITE), (0, 5121));
    let expected = [[1; 512].as_slice(), &[7; 4096], &[1; 512]].concat();
    assert_eq!(guest.got(DATA, 5120), expected);
    assert_eq!(guest.broken(), [""; 0]);
}

#[test]
fn header_data_and_status_may_be_cut_anywhere_and_cross_regions() {
    let lab = Lab::new(false);
    let mut guest = lab.guest();
    guest.header(OUT, 4);
    guest.put(DATA, &[9; 512]);
    let cut = [
        (HEADER, 3, NEXT, 1),
        (HEADER + 3, 12, NEXT, 2),
        // An empty one is allowed, and the header's last byte lies before its data.
        (HEADER, 0, NEXT, 3),
        (HEADER + 15, 1, NEXT, 4),
        (DATA, 500, NEXT, 5),
        (DATA + 500, 12, NEXT, 6),
        (STATUS, 1, WRITE, 0),
    ];
    assert_eq!(guest.request(&cut), (0, 1));
    // Data and status in one descriptor, and data on both sides of the gap.
    guest.header(READ, 4);
    let read = [
        (HEADER, 16, NEXT, 1),
        (GAP - 100, 100, NEXT | WRITE, 2),
        (AFTER_GAP, 412, NEXT | WRITE, 3),
        (STATUS, 1, WRITE, 0),
    ];
    assert_eq!(guest.request(&read), (0, 513));
    assert_eq!(guest.got(GAP - 100, 100), [9; 100]);
    assert_eq!(guest.got(AFTER_GAP, 412), [9; 412]);
    guest.put(DATA, &[0xee; 513]);
    let together = [(HEADER, 16, NEXT, 1), (DATA, 513, WRITE, 0)];
    guest.request(&together);
    assert_eq!(guest.got(DATA, 512), [9; 512]);
    assert_eq!(guest.got(DATA + 512, 1), [0], "the status");
}

#[test]
fn an_indirect_table_is_followed_and_one_in_one_is_not() {
    let lab = Lab::new(false);
    let mut guest = lab.guest();
    guest.header(READ, 0);
    let inner = 0x6000;
    guest.table_at(inner, &transfer(512, WRITE));
    assert_eq!(guest.request(&[(inner, 48, INDIRECT, 0)]), (0, 513));
    guest.table_at(inner, &[(inner, 48, INDIRECT, 0)]);
    guest.offer(0);
    assert_eq!(guest.kick(), []);
    assert_eq!(guest.broken().len(), 1);
}

#[test]
fn zeros_discards_and_the_serial() {
    let lab = Lab::new(false);
    let mut guest = lab.guest();
    let segment = |sector: u64, count: u32, flags: u32| {
        let words = [count.to_le_bytes(), flags.to_le_bytes()].concat();
        [sector.to_le_bytes().to_vec(), words].concat()
    };
    guest.put(DATA, &segment(16, 8, 1));
    assert_eq!(guest.simple(ZERO, 0, 16, 0), (0, 1));
    assert_eq!(guest.simple(READ, 16, 4096, WRITE), (0, 4097));
    assert_eq!(guest.got(DATA, 4096), [0; 4096]);
    guest.put(DATA, &segment(16, 8, 0));
    assert_eq!(guest.simple(DISCARD, 0, 16, 0), (0, 1));

    // Flags that there are none of; past the end; too long; nothing; and two at once.
    for (kind, bytes, answer) in [
        (DISCARD, segment(16, 8, 1), 2),
        (ZERO, segment(16, 8, 2), 2),
        (ZERO, segment(DEVICE / 512, 1, 0), 1),
        (ZERO, segment(u64::MAX, 1, 0), 1),
        (ZERO, segment(u64::MAX / 512, u32::MAX, 0), 1),
        (DISCARD, segment(0, u32::MAX, 0), 1),
        (DISCARD, segment(0, (1 << 22) + 1, 0), 1),
        (DISCARD, segment(0, 0, 0), 1),
        (DISCARD, [segment(0, 1, 0), segment(8, 1, 0)].concat(), 1),
        (DISCARD, segment(0, 1, 0)[..15].to_vec(), 1),
    ] {
        guest.put(DATA, &bytes);
        let answered = guest.simple(kind, 0, bytes.len() as u32, 0);
        assert_eq!(answered, (answer, 1), "{kind} {bytes:?}");
    }

    assert_eq!(guest.simple(ID, 0, 20, WRITE), (0, 21));
    assert_eq!(
        guest.got(DATA, 20),
        b"cow\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
    );
    guest.put(DATA, &[0xee; 20]);
    assert_eq!(guest.simple(ID, 0, 2, WRITE), (0, 3), "cut to the room");
    assert_eq!(guest.got(DATA, 3), b"co\xee");
}

#[test]
fn a_request_that_is_not_as_it_should_be_fails() {
    let lab = Lab::new(false);
    let mut guest = lab.guest();
    let end = DEVICE / 512;
    for (kind, sector, len, flags, answer) in [
        (READ, 0, 511, WRITE, 1),
        (READ, 0, 0, WRITE, 1),
        (READ, end, 512, WRITE, 1),
        (READ, end - 1, 1024, WRITE, 1),
        (READ, u64::MAX, 512, WRITE, 1),
        (READ, u64::MAX / 512, 512, WRITE, 1),
        (READ, 0, u32::MAX - 17, WRITE, 1),
        // Read-only where the device should write: there is no room for data.
        (READ, 0, 512, 0, 1),
        (OUT, 0, 513, 0, 1),
        (OUT, 0, 512, WRITE, 1),
        (OUT, end, 512, 0, 1),
        (2, 0, 512, 0, 2),
        (u32::MAX, 0, 512, 0, 2),
    ] {
        let answered = guest.simple(kind, sector, len, flags);
        assert_eq!(answered, (answer, 1), "{kind} {sector} {len} {flags}");
    }
    // Data outside the memory, or leading out of it.
    for at in [GAP - 256, GAP, u64::MAX - 100, 1 << 40] {
        for (kind, flags) in [(READ, WRITE), (OUT, 0)] {
            guest.header(kind, 0);
            let outside = [
                (HEADER, 16, NEXT, 1),
                (at, 512, NEXT | flags, 2),
                (STATUS, 1, WRITE, 0),
            ];
            assert_eq!(guest.request(&outside), (1, 1), "{at:#x} {kind}");
        }
    }
    // A header that is short, outside, or comes after what is written.
    let short = [(HEADER, 15, NEXT, 1), (STATUS, 1, WRITE, 0)];
    assert_eq!(guest.request(&short), (1, 1));
    let outside = [(GAP, 16, NEXT, 1), (STATUS, 1, WRITE, 0)];
    assert_eq!(guest.request(&outside), (1, 1));
    guest.header(READ, 0);
    let late = [
        (DATA, 512, NEXT | WRITE, 1),
        (HEADER, 16, NEXT, 2),
        (STATUS, 1, WRITE, 0),
    ];
    assert_eq!(guest.request(&late), (1, 1));
    assert_eq!(guest.broken(), [""; 0]);
    assert_eq!(guest.simple(READ, 0, 512, WRITE), (0, 513), "it goes on");
}

#[test]
fn a_device_that_is_read_only_takes_no_changes() {
    let lab = Lab::new(true);
    let mut guest = lab.guest();
    for kind in [OUT, DISCARD, ZERO] {
        assert_eq!(guest.simple(kind, 0, 512, 0), (1, 1));
    }
    assert_eq!(guest.simple(READ, 0, 512, WRITE), (0, 513));
    assert_ne!(guest.disk.features() & 1 << 5, 0);
    assert_eq!(guest.disk.features() & 1 << 13, 0);
}

#[test]
fn what_cannot_be_answered_ends_the_connection_and_nothing_else() {
    let lab = Lab::new(false);
    let endless = "without an end";
    let astray = "found descriptor 16 in a chain, expected one of the table's 16";
    let table_of = "found an indirect table of";
    let outside = "found a descriptor outside the guest's memory, at 0x40000";
    let cases: [(&[Descriptor], u16, &str); 11] = [
        (&[(HEADER, 16, NEXT, 0)], 0, endless),
        (&[(HEADER, 16, NEXT, 1), (DATA, 0, NEXT, 0)], 0, endless),
        (&[(HEADER, 16, NEXT, QUEUE)], 0, astray),
        (&[(HEADER, 16, NEXT, 1)], QUEUE, astray),
        (&[(0x6000, 40, INDIRECT, 0)], 0, table_of),
        (&[(0x6000, 0, INDIRECT, 0)], 0, table_of),
        (&[(0x6000, 16 << 16, INDIRECT, 0)], 0, table_of),
        (&[(GAP, 64, INDIRECT, 0)], 0, outside),
        (
            &[(DATA, u32::MAX, NEXT, 1), (DATA, u32::MAX, WRITE, 0)],
            0,
            "more than 4 GiB",
        ),
        (&[(HEADER, 16, 0, 0)], 0, "without room for a status"),
        (&[(HEADER, 16, NEXT, 1), (GAP, 1, WRITE, 0)], 0, "outside"),
    ];
    for (table, head, expected) in cases {
        let mut guest = lab.guest();
        guest.header(READ, 0);
        guest.table_at(TABLE, table);
        guest.offer(head);
        assert_eq!(guest.kick(), [], "{table:?}");
        let broken = guest.broken();
        assert!(
            broken.len() == 1 && broken[0].contains(expected),
            "{table:?}: {broken:?}"
        );
    }
    let mut guest = lab.guest();
    guest.put(AVAILABLE + 2, &(QUEUE + 1).to_le_bytes());
    guest.kick();
    assert_eq!(guest.broken().len(), 1, "more than the queue holds");
    let mut guest = lab.guest();
    guest.vring.set_queue_info(TABLE, AVAILABLE, GAP).unwrap();
    guest.kick();
    assert!(guest.broken()[0].contains("rings"), "{:?}", guest.broken());

    // What could not be answered is not done either.
    let mut guest = lab.guest();
    guest.header(OUT, 0);
    guest.put(DATA, &[9; 512]);
    let unanswerable = [
        (HEADER, 16, NEXT, 1),
        (DATA, 512, NEXT, 2),
        (GAP, 1, WRITE, 0),
    ];
    guest.table_at(TABLE, &unanswerable);
    guest.offer(0);
    guest.kick();
    let mut guest = lab.guest();
    assert_eq!(guest.simple(READ, 0, 512, WRITE), (0, 513));
    assert_eq!(guest.got(DATA, 512), [1; 512]);
}

#[test]
fn a_request_may_be_as_long_as_the_limits_say_and_no_longer() {
    let lab = Lab::new(false);
    let mut guest = lab.guest();
    guest.header(OUT, 2048);
    let inner = 0x6000;
    for (segments, answer) in [(126, 0), (127, 1), (1000, 1)] {
        let data = |at: u16| (0, GAP as u32, NEXT, at + 1);
        let mut chain = vec![(HEADER, 16, NEXT, 1)];
        chain.extend((1..=segments).map(data));
        chain.push((STATUS, 1, WRITE, 0));
        guest.table_at(inner, &chain);
        let table_len = 16 * chain.len() as u32;
        assert_eq!(
            guest.request(&[(inner, table_len, INDIRECT, 0)]),
            (answer, 1)
        );
    }
}

#[test]
fn a_guest_that_offers_more_than_its_queue_holds_has_no_more_in_flight() {
    let lab = Lab::new(false);
    let mut guest = Guest::unanswered(&lab.up);
    guest.header(READ, 0);
    guest.table_at(TABLE, &transfer(512, WRITE));
    let vrings = [guest.vring.clone()];
    for offered in 1..=QUEUE + 1 {
        guest.offer(0);
        let kicked = guest.disk.handle_event(0, EventSet::IN, &vrings, 0);
        kicked.unwrap();
        assert_eq!(guest.broken().len(), usize::from(offered > QUEUE));
    }
    assert!(guest.broken()[0].contains("more requests than the queue's 16"));
    // What was taken is answered all the same.
    guest.be_answered();
    assert_eq!(guest.kick().len(), usize::from(QUEUE));
}

/// Addresses as a hostile guest would choose them.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => Just(HEADER),
        2 => Just(STATUS),
        4 => (0..8u64).prop_map(|n| DATA + n * 512),
        1 => (0..64u64).prop_map(|n| TABLE + n * 16),
        1 => (0..64u64).prop_map(|n| USED + n),
        1 => (0..1024u64).prop_map(|n| GAP - 512 + n),
        1 => (0..1024u64).prop_map(|n| u64::MAX - n),
        1 => any::<u64>(),
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => prop_oneof![Just(16), Just(1), Just(512), Just(0), Just(4096), Just(513)],
        1 => (0..32u32).prop_map(|n| n * 16),
        1 => any::<u32>(),
    ]
}

fn descriptor() -> impl Strategy<Value = Descriptor> {
    let flags =
        prop_oneof![4 => Just(NEXT), 3 => Just(WRITE), 4 => Just(NEXT | WRITE), 1 => 0..16u16];
    let next = prop_oneof![9 => 0..8u16, 1 => any::<u16>()];
    (address(), length(), flags, next)
}

fn sector() -> impl Strategy<Value = u64> {
    let last = DEVICE / 512;
    prop_oneof![5 => 0..last, 1 => last - 2..last + 2, 1 => any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the queue says, it comes back or the connection ends, nothing is written but where
    /// the guest allows it, and the device goes on for others.
    #[test]
    fn a_hostile_queue_harms_nobody_else(
        table in prop::collection::vec(descriptor(), 8),
        kind in prop_oneof![8 => 0..14u32, 1 => any::<u32>()],
        sector in sector(),
        heads in prop::collection::vec(prop_oneof![8 => 0..3u16, 1 => any::<u16>()], 1..4),
    ) {
        let lab = Lab::new(false);
        let mut guest = lab.guest();
        guest.put(DATA, &[0xa5; 0x4000]);
        guest.put(DATA, &header(kind, sector));
        guest.header(kind, sector);
        guest.table_at(TABLE, &table);
        for head in &heads {
            guest.offer(*head);
        }
        let before = MEMORY.map(|(start, len)| guest.got(start, len));
        let back = guest.kick();
        let broken = guest.broken();
        prop_assert!(broken.len() <= 1, "{broken:?}");
        if broken.is_empty() {
            prop_assert_eq!(back.len(), heads.len());
        }
        // An indirect table allows what it names; it is left to the other checks.
        if table.iter().all(|descriptor| descriptor.2 & INDIRECT == 0) {
            let allowed = |at: u64| {
                (USED..USED + USED_LEN).contains(&at)
                    || table.iter().any(|(start, len, flags, _)| {
                        flags & WRITE != 0 && at >= *start && at - start < u64::from(*len)
                    })
            };
            for ((start, len), before) in MEMORY.into_iter().zip(&before) {
                let after = guest.got(start, len);
                let changed = (0..len).filter(|&n| before[n] != after[n]);
                for at in changed {
                    prop_assert!(allowed(start + at as u64), "{:#x}", start + at as u64);
                }
            }
        }
        drop(guest);
        let status = lab.up.export.status().unwrap();
        prop_assert_eq!((status.in_flight, status.buffered_bytes), (0, 0));
        prop_assert_eq!(lab.guest().simple(READ, DEVICE / 512 - 1, 512, WRITE), (0, 513));
        lab.up.close().unwrap();
    }
}

#[test]
fn a_queue_that_is_stopped_has_been_answered_and_takes_nothing() {
    let lab = Lab::new(false);
    let mut guest = lab.guest();
    guest.header(READ, 0);
    guest.table_at(TABLE, &transfer(4096, WRITE));
    for _ in 0..100 {
        guest.offer(0);
        assert_eq!(guest.kick(), [(0, 4097)]);
        guest.vring.set_queue_ready(false);
        guest.offer(0);
        assert_eq!(guest.kick(), []);
        guest.vring.set_queue_ready(true);
        assert_eq!(guest.kick(), [(0, 4097)]);
    }
}

/// What a server had taken that was killed: one of the requests is answered, the others have been
/// carried out or not.
#[test]
fn the_next_server_takes_again_what_the_last_one_has_not_answered() {
    let lab = Lab::new(false);
    let mut guest = Guest::unanswered(&lab.up);
    let (notes, file) = InFlightNotes::new(NotedQueues::new(1, QUEUE).unwrap()).unwrap();
    guest.disk.note_in(&Arc::new(notes));
    // What it changes is durable when it is answered.
    guest.disk.acked_features(0);
    guest.header(OUT, 3);
    // All write one sector, so that the last one is what is there in the end.
    for n in 0..4u16 {
        let data = DATA + 512 * u64::from(n);
        guest.put(data, &[n as u8 + 1; 512]);
        let write = [
            (HEADER, 16, NEXT, 3 * n + 1),
            (data, 512, NEXT, 3 * n + 2),
            (STATUS + u64::from(n), 1, WRITE, 0),
        ];
        guest.table_at(TABLE + 48 * u64::from(n), &write);
    }
    // Not in the order of the table.
    for head in [9, 3, 0] {
        guest.offer(head);
    }
    let vrings = [guest.vring.clone()];
    guest
        .disk
        .handle_event(0, EventSet::IN, &vrings, 0)
        .unwrap();
    let completer = guest.completer.take().unwrap();
    let mut ended = Vec::new();
    while ended.len() < 3 {
        ended.extend(completer.next_batch().unwrap().unwrap());
    }
    let answered = ended
        .iter()
        .position(|done| done.context.taken.chain.head == 3);
    let answered = ended.remove(answered.unwrap());
    guest.disk.answer(vec![answered]).unwrap();
    assert_eq!(guest.come_back(), [(3, 1)]);
    // Here it is killed, and one more is offered meanwhile.
    drop(ended);
    guest.offer(6);
    let mut guest = guest.goes_on(&lab.up);
    let shape = NotedQueues::new(1, QUEUE).unwrap();
    let notes = InFlightNotes::given_back(file, 0, shape.bytes() as u64, shape).unwrap();
    guest.disk.note_in(&Arc::new(notes));
    guest.be_answered();
    let mut back = guest.kick();
    back.sort_unstable();
    assert_eq!(back, [(0, 1), (6, 1), (9, 1)]);
    assert_eq!(guest.kick(), [], "each once");
    assert_eq!(guest.simple(READ, 3, 512, WRITE), (0, 513));
    assert_eq!(guest.got(DATA, 512), [3; 512], "the last one's");
    assert_eq!(guest.broken(), [""; 0]);
}

/// The specification: a guest that does not flush relies on every write.
#[test]
fn what_a_guest_writes_that_does_not_flush_is_durable_when_it_is_answered() {
    let lab = Lab::new(false);
    let mut guest = lab.guest();
    let syncs = || lab.up.export.status().unwrap().syncs;
    let features = guest.disk.features();
    guest.disk.acked_features(features);
    assert_eq!(guest.simple(OUT, 0, 512, 0), (0, 1));
    assert_eq!(syncs(), 0);
    guest.disk.acked_features(features & !(1 << 9));
    assert_eq!(guest.simple(OUT, 8, 512, 0), (0, 1));
    let after_write = syncs();
    assert!(after_write > 0);
    guest.put(
        DATA,
        &[16u64.to_le_bytes(), (8 | 1u64 << 32).to_le_bytes()].concat(),
    );
    assert_eq!(guest.simple(ZERO, 0, 16, 0), (0, 1));
    assert!(syncs() > after_write);
}
