//! What the device says about itself: features, and the configuration space as the guest reads it.

use crc32c::crc32c;
use driver::units::{SECTOR_SIZE, SectorCount};
use vhost::vhost_user::VhostUserProtocolFeatures;
use vhost::vhost_user::message::VhostUserVirtioFeatures;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ,
    VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES,
    VIRTIO_BLK_ID_BYTES,
};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use crate::serve::Export;

/// Queues that a guest may use.
pub(super) const QUEUES: usize = 4;

/// The longest queue that a guest may set up, in descriptors.
pub(super) const LONGEST_QUEUE: usize = 1024;

/// Pieces of a request's data at most. With header and status they fit into a queue of 128.
const MOST_SEGMENTS: u32 = 126;

/// The longest piece of a request's data, in bytes.
const LONGEST_SEGMENT: u32 = 256 << 10;

/// The most data of one request, in bytes: what a guest that keeps to the two limits may send.
pub(super) const MOST_DATA: u64 = MOST_SEGMENTS as u64 * LONGEST_SEGMENT as u64;

/// The longest discard or write-zeroes, in sectors.
pub(super) const LONGEST_WITHOUT_DATA: u32 = 1 << 22;

/// Where a discard should begin, in sectors: host file systems free whole blocks.
const DISCARD_ALIGNMENT: u32 = 8;

/// The length of virtio's configuration space, in bytes; past its fields it is zeros.
const SPACE: usize = 256;

/// The device's serial number as the guest asks for it.
pub(super) type Serial = [u8; VIRTIO_BLK_ID_BYTES as usize];

/// The features of the device.
pub(super) fn features(export: &Export) -> u64 {
    let mut features = 1 << VIRTIO_F_VERSION_1
        | 1 << VIRTIO_RING_F_EVENT_IDX
        | 1 << VIRTIO_RING_F_INDIRECT_DESC
        | 1 << VIRTIO_BLK_F_SIZE_MAX
        | 1 << VIRTIO_BLK_F_SEG_MAX
        | 1 << VIRTIO_BLK_F_BLK_SIZE
        | 1 << VIRTIO_BLK_F_FLUSH
        | 1 << VIRTIO_BLK_F_MQ
        | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    features |= match export.about().read_only {
        true => 1 << VIRTIO_BLK_F_RO,
        false => 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES,
    };
    features
}

/// The features of the protocol.
pub(super) fn protocol_features() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::BACKEND_REQ
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::INFLIGHT_SHMFD
}

/// Bytes of the configuration space; nothing if they are not all in it.
pub(super) fn bytes(capacity: SectorCount, offset: u32, len: u32) -> Vec<u8> {
    let space = space(capacity);
    let (start, len) = (offset as usize, len as usize);
    let part = start.checked_add(len).and_then(|end| space.get(start..end));
    part.unwrap_or_default().to_vec()
}

/// The configuration space: the fields of `struct virtio_blk_config`, little endian.
fn space(capacity: SectorCount) -> [u8; SPACE] {
    let mut space = [0; SPACE];
    let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &capacity.0.to_le_bytes());
    put(8, &LONGEST_SEGMENT.to_le_bytes());
    put(12, &MOST_SEGMENTS.to_le_bytes());
    put(20, &(SECTOR_SIZE as u32).to_le_bytes());
    put(34, &(QUEUES as u16).to_le_bytes());
    // Of discards: their length, one range each, and where they should begin.
    put(36, &LONGEST_WITHOUT_DATA.to_le_bytes());
    put(40, &1u32.to_le_bytes());
    put(44, &DISCARD_ALIGNMENT.to_le_bytes());
    // Of write-zeroes: their length, one range each, and that they may free what they zero.
    put(48, &LONGEST_WITHOUT_DATA.to_le_bytes());
    put(52, &1u32.to_le_bytes());
    put(56, &[1]);
    space
}

/// The name of the device's file, as far as a serial number may have it: ASCII, at most 20 bytes. A
/// longer name is cut, and made different from others by a checksum.
pub(super) fn serial(export: &Export) -> Serial {
    let name = export.about().path.file_name().unwrap_or_default();
    serial_of(name.as_encoded_bytes())
}

fn serial_of(name: &[u8]) -> Serial {
    let safe = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' => *byte,
        _ => b'_',
    };
    let mut text: Vec<u8> = name.iter().map(safe).collect();
    let mut serial = Serial::default();
    if text.len() > serial.len() {
        let sum = format!("-{:08x}", crc32c(name));
        text.truncate(serial.len() - sum.len());
        text.extend(sum.bytes());
    }
    serial[..text.len()].copy_from_slice(&text);
    serial
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_read_in_any_piece_that_lies_in_it() {
        let capacity = SectorCount(0x0102_0304_0506_0708);
        assert_eq!(bytes(capacity, 0, 8), [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes(capacity, 20, 4), [0, 2, 0, 0], "the block size");
        assert_eq!(bytes(capacity, 34, 2), [4, 0], "the queues");
        // The structure as later drivers know it is longer.
        assert_eq!(bytes(capacity, 0, 96).len(), 96);
        assert_eq!(bytes(capacity, 255, 1), [0]);
        for (offset, len) in [(256, 1), (0, 257), (u32::MAX, u32::MAX)] {
            assert!(bytes(capacity, offset, len).is_empty(), "{offset} {len}");
        }
    }

    #[test]
    fn the_serial_is_the_files_name() {
        assert_eq!(&serial_of(b"root.cow"), b"root.cow\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&serial_of("ä b".as_bytes())[..4], b"___b");
        let (one, other) = (serial_of(&[b'a'; 40]), serial_of(&[b'a'; 41]));
        assert_eq!(one[..12], *b"aaaaaaaaaaa-");
        assert_ne!(one, other);
    }
}
