//! A client made of rust-vmm's front end: it negotiates, gives the server its memory, and has
//! queues in it.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

/// Queues that the server serves.
pub(super) const QUEUES: usize = 4;
/// What a queue has of the memory: its rings, and its requests' headers, statuses and data.
const AREA: u64 = 1 << 20;
const MEMORY: u64 = QUEUES as u64 * AREA;
/// Where the client claims to have its memory.
const USER: u64 = 0x7000_0000;
const QUEUE: u16 = 128;
const TABLE: u64 = 0;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
/// A request's header and status, 32 bytes each.
const SMALL: u64 = 0x3000;
/// A request's data.
const DATA: u64 = 0x10000;
const DATA_EACH: u64 = 4096;
/// Descriptors of a request.
const EACH: u16 = 3;
/// Requests that fit into a queue at once.
pub(super) const DEPTH: u16 = QUEUE / EACH;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

pub(super) const READ: u32 = 0;
pub(super) const OUT: u32 = 1;
pub(super) const FLUSH: u32 = 4;

/// The features that a client leaves out: without the event index a signal comes for each batch.
const EVENT_INDEX: u64 = 1 << 29;
const FLUSHES: u64 = 1 << 9;

/// What waits that long waits for ever.
pub(super) const TOO_LONG: Duration = Duration::from_secs(60);

/// What a client is like.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) queues: usize,
    /// It flushes. Otherwise it relies on every write.
    pub(super) flushes: bool,
    /// It keeps memory in which the server notes what is in flight.
    pub(super) keeps_notes: bool,
}

pub(super) const SIMPLE: Kind = Kind {
    queues: 1,
    flushes: true,
    keeps_notes: false,
};

pub(super) struct FrontEnd {
    frontend: Frontend,
    kind: Kind,
    memory: File,
    notes: Option<(VhostUserInflight, File)>,
    channel: UnixStream,
    queues: Vec<Queue>,
}

/// A queue, as the client sees it.
pub(super) struct Queue {
    memory: File,
    /// Where its area of the memory begins.
    area: u64,
    kick: EventFd,
    call: EventFd,
    /// A message for each signal.
    signals: Receiver<()>,
    offered: u16,
    seen: u16,
}

impl FrontEnd {
    /// Connects and sets everything up as QEMU does. What the server does not take panics.
    pub(super) fn connect(socket: &Path) -> FrontEnd {
        FrontEnd::of_kind(socket, SIMPLE)
    }

    pub(super) fn of_kind(socket: &Path, kind: Kind) -> FrontEnd {
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(MEMORY).unwrap();
        let places = vec![(0, 0); kind.queues];
        FrontEnd::with(socket, kind, memory, None, &places).unwrap()
    }

    /// This guest with a new connection, at once. As QEMU does, it has the server go on after
    /// what has been answered.
    pub(super) fn reconnect(self, socket: &Path) -> FrontEnd {
        self.try_reconnect(socket).unwrap()
    }

    /// Likewise. What the server does not take back is an error.
    pub(super) fn try_reconnect(mut self, socket: &Path) -> Result<FrontEnd, vhost::Error> {
        let (kind, memory) = (self.kind, self.memory.try_clone().unwrap());
        let notes = self.notes.take();
        let places = self.queues.iter().map(|queue| (queue.offered, queue.seen));
        let places: Vec<_> = places.collect();
        drop(self);
        FrontEnd::with(socket, kind, memory, notes, &places)
    }

    /// `places` says how much each queue has offered, and seen of it come back.
    fn with(
        socket: &Path,
        kind: Kind,
        memory: File,
        notes: Option<(VhostUserInflight, File)>,
        places: &[(u16, u16)],
    ) -> Result<FrontEnd, vhost::Error> {
        let (mut frontend, features) = let_in(socket);
        let channel = negotiate(&mut frontend, kind, features);
        let notes = match notes {
            None if !kind.keeps_notes => None,
            None => Some(borrowed(&mut frontend, kind)),
            notes => notes,
        };
        if let Some((area, file)) = &notes {
            frontend.set_inflight_fd(area, file.as_raw_fd())?;
        }
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: MEMORY,
            userspace_addr: USER,
            mmap_offset: 0,
            mmap_handle: memory.as_raw_fd(),
        };
        frontend.set_mem_table(&[region]).unwrap();
        let queues = places.iter().enumerate().map(|(index, &(offered, seen))| {
            let area = index as u64 * AREA;
            Queue::at(area, memory.try_clone().unwrap(), offered, seen)
        });
        let queues = queues.collect();
        let front_end = FrontEnd {
            frontend,
            kind,
            memory,
            notes,
            channel,
            queues,
        };
        for index in 0..kind.queues {
            front_end.start_queue(index);
        }
        Ok(front_end)
    }

    pub(super) fn start_queue(&self, index: usize) {
        let (frontend, queue) = (&self.frontend, &self.queues[index]);
        frontend.set_vring_num(index, QUEUE).unwrap();
        let at = USER + queue.area;
        let addresses = VringConfigData {
            queue_max_size: QUEUE,
            queue_size: QUEUE,
            flags: 0,
            desc_table_addr: at + TABLE,
            used_ring_addr: at + USED,
            avail_ring_addr: at + AVAILABLE,
            log_addr: None,
        };
        frontend.set_vring_addr(index, &addresses).unwrap();
        frontend.set_vring_base(index, queue.used()).unwrap();
        frontend.set_vring_call(index, &queue.call).unwrap();
        frontend.set_vring_kick(index, &queue.kick).unwrap();
        // The setter is of a trait whose methods want it exclusively.
        let mut frontend = frontend.clone();
        frontend.set_vring_enable(index, true).unwrap();
    }

    /// Has the answers of the first queue signalled at another counter.
    pub(super) fn signal_at(&self, call: &EventFd) {
        self.frontend.set_vring_call(0, call).unwrap();
    }

    /// Stops a queue. Where it is then, and all that was offered has been answered.
    pub(super) fn stop_queue(&self, index: usize) -> u32 {
        self.frontend.get_vring_base(index).unwrap()
    }

    /// The sectors of the device, as its configuration says.
    pub(super) fn capacity(&mut self) -> u64 {
        u64::from_le_bytes(self.configuration(0))
    }

    /// A field of the configuration.
    pub(super) fn configuration<const N: usize>(&mut self, at: u32) -> [u8; N] {
        let flags = VhostUserConfigFlags::WRITABLE;
        let got = self.frontend.get_config(at, N as u32, flags, &[0; N]);
        got.unwrap().1.try_into().unwrap()
    }

    /// Waits until the server says that the configuration has changed.
    pub(super) fn hear_of_change(&mut self) {
        let mut message = [0; 12];
        self.channel.read_exact(&mut message).unwrap();
        assert_eq!(message, [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }

    /// How many chains of the first queue are in flight, as the server has noted.
    pub(super) fn noted(&self) -> usize {
        let (_, file) = self.notes.as_ref().unwrap();
        let mut notes = [0; 16 + 16 * QUEUE as usize];
        file.read_exact_at(&mut notes, 0).unwrap();
        let chains = notes[16..].chunks_exact(16);
        chains.filter(|chain| chain[0] == 1).count()
    }

    /// Notes that the first `count` places of the first queue are in flight, which has been served
    /// and is stopped. A server leaves such notes that is killed when it has taken them.
    pub(super) fn note_taken(&self, count: u16) {
        let (_, file) = self.notes.as_ref().unwrap();
        for place in 0..count {
            let at = 16 + 16 * u64::from(place * EACH);
            let order = u64::from(place) + 1;
            file.write_all_at(&[1], at).unwrap();
            file.write_all_at(&order.to_le_bytes(), at + 8).unwrap();
        }
    }

    /// Has the server lend other memory for what is in flight.
    pub(super) fn borrow_notes(&mut self) {
        self.notes = Some(borrowed(&mut self.frontend, self.kind));
    }

    /// Gives the memory for what is in flight to the server. What it does not take is an error.
    pub(super) fn give_notes(&mut self) -> Result<(), vhost::Error> {
        let (area, file) = self.notes.as_ref().unwrap();
        self.frontend.set_inflight_fd(area, file.as_raw_fd())
    }

    pub(super) fn queue(&mut self, index: usize) -> &mut Queue {
        &mut self.queues[index]
    }

    // What follows is of the first queue, which is the only one of most clients.

    pub(super) fn offer_all(&mut self, kind: u32, fill: impl Fn(u16) -> u8) {
        self.queue(0).offer_all(0, kind, fill);
    }

    pub(super) fn kick(&self) {
        self.queues[0].kick();
    }

    pub(super) fn back(&mut self) -> Vec<u16> {
        self.queue(0).back()
    }

    pub(super) fn wait(&mut self) -> Vec<u16> {
        self.queue(0).wait()
    }

    pub(super) fn answer(&self, place: u16) -> (u8, [u8; 4096]) {
        self.queues[0].answer(place)
    }

    pub(super) fn request(&mut self, kind: u32, sector: u64, data: [u8; 4096]) -> (u8, [u8; 4096]) {
        self.queue(0).request(kind, sector, data)
    }
}

/// Memory for what is in flight, as the server lends it.
fn borrowed(frontend: &mut Frontend, kind: Kind) -> (VhostUserInflight, File) {
    let wanted = VhostUserInflight::new(0, 0, kind.queues as u16, QUEUE);
    frontend.get_inflight_fd(&wanted).unwrap()
}

/// A connection that the server takes, and the features that it offers. A process that another test
/// starts has copies of all sockets for a moment, so that a server may see late that a client has
/// gone.
fn let_in(socket: &Path) -> (Frontend, u64) {
    for _ in 0..10_000 {
        let frontend = Frontend::connect(socket, QUEUES as u64).unwrap();
        if frontend.set_owner().is_ok()
            && let Ok(features) = frontend.get_features()
        {
            return (frontend, features);
        }
        std::thread::yield_now();
    }
    panic!("the server takes no client");
}

/// Agrees on features. The channel on which the server tells of changes.
fn negotiate(frontend: &mut Frontend, kind: Kind, features: u64) -> UnixStream {
    let protocol = frontend.get_protocol_features().unwrap();
    let offered = VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::BACKEND_REQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::INFLIGHT_SHMFD;
    assert_eq!(protocol, offered);
    frontend.set_protocol_features(protocol).unwrap();
    frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    let (channel, theirs) = UnixStream::pair().unwrap();
    channel.set_read_timeout(Some(TOO_LONG)).unwrap();
    frontend.set_backend_request_fd(&theirs).unwrap();
    let protocol_features = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    for offered in [protocol_features, EVENT_INDEX, FLUSHES] {
        assert_ne!(features & offered, 0);
    }
    let without = match kind.flushes {
        true => EVENT_INDEX,
        false => EVENT_INDEX | FLUSHES,
    };
    frontend.set_features(features & !without).unwrap();
    assert_eq!(frontend.get_queue_num().unwrap(), QUEUES as u64);
    channel
}

impl Queue {
    fn at(area: u64, memory: File, offered: u16, seen: u16) -> Queue {
        let event = || EventFd::new(0).unwrap();
        let call = event();
        Queue {
            memory,
            area,
            kick: event(),
            signals: signals_of(&call),
            call,
            offered,
            seen,
        }
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, self.area + at).unwrap();
    }

    fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory
            .read_exact_at(&mut bytes, self.area + at)
            .unwrap();
        bytes
    }

    /// Where the used ring is.
    fn used(&self) -> u16 {
        u16::from_le_bytes(self.get(USED + 2))
    }

    /// Offers a request of 4 KiB in one of [`DEPTH`] places, without a word to the server.
    pub(super) fn offer(&mut self, place: u16, kind: u32, sector: u64, data: [u8; 4096]) {
        let first = place * EACH;
        let small = SMALL + 32 * u64::from(place);
        let at = DATA + DATA_EACH * u64::from(place);
        self.put(at, &data);
        self.put(small, &kind.to_le_bytes());
        self.put(small + 8, &sector.to_le_bytes());
        self.put(small + 16, &[0xff]);
        let data_flags = if kind == READ { NEXT | WRITE } else { NEXT };
        for (index, (address, len, flags)) in [
            (small, 16u32, NEXT),
            (at, DATA_EACH as u32, data_flags),
            (small + 16, 1, WRITE),
        ]
        .into_iter()
        .enumerate()
        {
            let index = first + index as u16;
            let mut bytes = (self.area + address).to_le_bytes().to_vec();
            bytes.extend(len.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend((index + 1).to_le_bytes());
            self.put(TABLE + 16 * u64::from(index), &bytes);
        }
        let slot = AVAILABLE + 4 + 2 * u64::from(self.offered % QUEUE);
        self.put(slot, &first.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
    }

    /// Offers a request in each place, of the 4 KiB after those of the place before it, from the
    /// sector `first` on, and lets the server see them.
    pub(super) fn offer_all(&mut self, first: u64, kind: u32, fill: impl Fn(u16) -> u8) {
        for place in 0..DEPTH {
            self.offer(
                place,
                kind,
                first + u64::from(place) * 8,
                [fill(place); 4096],
            );
        }
        self.kick();
    }

    /// Lets the server see what was offered.
    pub(super) fn kick(&self) {
        self.put(AVAILABLE + 2, &self.offered.to_le_bytes());
        self.kick.write(1).unwrap();
    }

    /// The places whose requests have come back since, in that order.
    pub(super) fn back(&mut self) -> Vec<u16> {
        let used = self.used();
        let mut back = Vec::new();
        while self.seen != used {
            let at = USED + 4 + 8 * u64::from(self.seen % QUEUE);
            back.push(u32::from_le_bytes(self.get(at)) as u16 / EACH);
            self.seen = self.seen.wrapping_add(1);
        }
        back
    }

    /// Waits until all that was offered has come back.
    pub(super) fn wait(&mut self) -> Vec<u16> {
        self.wait_for(usize::MAX)
    }

    /// Waits until this number of requests have come back, or all.
    pub(super) fn wait_for(&mut self, count: usize) -> Vec<u16> {
        let mut back = self.back();
        while self.seen != self.offered && back.len() < count {
            let signal = self.signals.recv_timeout(TOO_LONG);
            signal.expect("an answer without a signal, or none");
            back.extend(self.back());
        }
        back
    }

    /// The status and the data of a request that has come back.
    pub(super) fn answer(&self, place: u16) -> (u8, [u8; 4096]) {
        let [status] = self.get(SMALL + 32 * u64::from(place) + 16);
        (status, self.get(DATA + DATA_EACH * u64::from(place)))
    }

    /// One request to its end.
    pub(super) fn request(&mut self, kind: u32, sector: u64, data: [u8; 4096]) -> (u8, [u8; 4096]) {
        self.offer(0, kind, sector, data);
        self.kick();
        assert_eq!(self.wait(), [0]);
        self.answer(0)
    }
}

/// Reads the signals on a thread of its own, which ends with whoever receives.
fn signals_of(call: &EventFd) -> Receiver<()> {
    let call = call.try_clone().unwrap();
    let (sender, signals) = channel();
    std::thread::spawn(move || while call.read().is_ok() && sender.send(()).is_ok() {});
    signals
}

impl Drop for Queue {
    fn drop(&mut self) {
        // The thread sees that nobody receives.
        drop(std::mem::replace(&mut self.signals, channel().1));
        let _ = self.call.write(1);
    }
}
