//! A client made of rust-vmm's front end: it negotiates, gives the server its memory, and has one
//! queue in it.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

const MEMORY: u64 = 4 << 20;
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
/// Requests that fit at once.
pub(super) const DEPTH: u16 = QUEUE / EACH;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

pub(super) const READ: u32 = 0;
pub(super) const OUT: u32 = 1;

/// What waits that long waits for ever.
const TOO_LONG: Duration = Duration::from_secs(60);

pub(super) struct FrontEnd {
    frontend: Frontend,
    memory: File,
    kick: EventFd,
    call: EventFd,
    /// A message for each signal.
    signals: Receiver<()>,
    channel: UnixStream,
    offered: u16,
    seen: u16,
}

impl FrontEnd {
    /// Connects and sets everything up as QEMU does. What the server does not take panics.
    pub(super) fn connect(socket: &Path) -> FrontEnd {
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(MEMORY).unwrap();
        FrontEnd::with(socket, memory, 0)
    }

    /// The same guest with a new connection, at once. As QEMU does, it has the server go on after
    /// what has been answered.
    pub(super) fn reconnect(self, socket: &Path) -> FrontEnd {
        let (memory, offered) = (self.memory.try_clone().unwrap(), self.offered);
        drop(self);
        FrontEnd::with(socket, memory, offered)
    }

    fn with(socket: &Path, memory: File, offered: u16) -> FrontEnd {
        let mut frontend = Frontend::connect(socket, 4).unwrap();
        frontend.set_owner().unwrap();
        let features = frontend.get_features().unwrap();
        let protocol = frontend.get_protocol_features().unwrap();
        let wanted = VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::BACKEND_REQ
            | VhostUserProtocolFeatures::REPLY_ACK;
        assert_eq!(protocol, wanted);
        frontend.set_protocol_features(protocol).unwrap();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let (channel, theirs) = UnixStream::pair().unwrap();
        channel.set_read_timeout(Some(TOO_LONG)).unwrap();
        frontend.set_backend_request_fd(&theirs).unwrap();
        // Without the event index a signal comes for each batch.
        let event_index = 1 << 29;
        assert_ne!(
            features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits(),
            0
        );
        frontend.set_features(features & !event_index).unwrap();
        frontend
            .set_mem_table(&[VhostUserMemoryRegionInfo {
                guest_phys_addr: 0,
                memory_size: MEMORY,
                userspace_addr: USER,
                mmap_offset: 0,
                mmap_handle: memory.as_raw_fd(),
            }])
            .unwrap();
        let event = || EventFd::new(0).unwrap();
        let call = event();
        let signals = signals_of(&call);
        let mut front_end = FrontEnd {
            frontend,
            memory,
            kick: event(),
            call,
            signals,
            channel,
            offered,
            seen: 0,
        };
        front_end.seen = u16::from_le_bytes(front_end.get(USED + 2));
        front_end.start_queue();
        front_end
    }

    fn start_queue(&self) {
        let frontend = &self.frontend;
        frontend.set_vring_num(0, QUEUE).unwrap();
        let addresses = VringConfigData {
            queue_max_size: QUEUE,
            queue_size: QUEUE,
            flags: 0,
            desc_table_addr: USER + TABLE,
            used_ring_addr: USER + USED,
            avail_ring_addr: USER + AVAILABLE,
            log_addr: None,
        };
        frontend.set_vring_addr(0, &addresses).unwrap();
        frontend.set_vring_base(0, self.seen).unwrap();
        frontend.set_vring_call(0, &self.call).unwrap();
        frontend.set_vring_kick(0, &self.kick).unwrap();
        // The setter is of a trait whose methods want it exclusively.
        let mut frontend = frontend.clone();
        frontend.set_vring_enable(0, true).unwrap();
    }

    /// The sectors of the device, as its configuration says.
    pub(super) fn capacity(&mut self) -> u64 {
        let flags = VhostUserConfigFlags::WRITABLE;
        let (_, bytes) = self.frontend.get_config(0, 8, flags, &[0; 8]).unwrap();
        u64::from_le_bytes(bytes.try_into().unwrap())
    }

    /// Waits until the server says that the configuration has changed.
    pub(super) fn hear_of_change(&mut self) {
        let mut message = [0; 12];
        self.channel.read_exact(&mut message).unwrap();
        assert_eq!(message, [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    }

    /// Stops the queue. Where it is then, and all that was offered has been answered.
    pub(super) fn stop_queue(&self) -> u32 {
        self.frontend.get_vring_base(0).unwrap()
    }

    /// Goes on with it.
    pub(super) fn go_on(&self) {
        self.start_queue();
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, at).unwrap();
    }

    fn get<const N: usize>(&self, at: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.memory.read_exact_at(&mut bytes, at).unwrap();
        bytes
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
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(len.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend((index + 1).to_le_bytes());
            self.put(TABLE + 16 * u64::from(index), &bytes);
        }
        let slot = AVAILABLE + 4 + 2 * u64::from(self.offered % QUEUE);
        self.put(slot, &first.to_le_bytes());
        self.offered = self.offered.wrapping_add(1);
    }

    /// Lets the server see what was offered.
    pub(super) fn kick(&self) {
        self.put(AVAILABLE + 2, &self.offered.to_le_bytes());
        self.kick.write(1).unwrap();
    }

    /// The places whose requests have come back since, in that order.
    pub(super) fn back(&mut self) -> Vec<u16> {
        let used = u16::from_le_bytes(self.get(USED + 2));
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
        let mut back = self.back();
        while self.seen != self.offered {
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

impl Drop for FrontEnd {
    fn drop(&mut self) {
        // The thread sees that nobody receives.
        drop(std::mem::replace(&mut self.signals, channel().1));
        let _ = self.call.write(1);
    }
}
