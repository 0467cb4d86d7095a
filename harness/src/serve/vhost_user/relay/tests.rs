use std::fs::File;
use std::io::Write;

use rustix::event::{EventfdFlags, eventfd};

use super::*;

const REGION_LEN: u64 = 4096;

fn header(request: u32, len: usize) -> [u8; HEADER] {
    let words = [request, 1, len as u32].map(u32::to_le_bytes);
    words.concat().try_into().unwrap()
}

/// A message as it arrives.
fn arrived(request: u32, body: &[u8], descriptors: Vec<OwnedFd>) -> Message {
    let sent = Message {
        header: header(request, body.len()),
        body: body.to_vec(),
        descriptors,
    };
    let (client, server) = UnixStream::pair().unwrap();
    sent.send(&client).unwrap();
    let message = Message::receive(&server).unwrap().unwrap();
    assert_eq!((message.header, &message.body), (sent.header, &sent.body));
    assert_eq!(message.descriptors.len(), sent.descriptors.len());
    message
}

/// A table that names `count` regions of a page, in a body for as many as `room`.
fn table(count: u32, room: usize) -> Vec<u8> {
    let mut body = u64::from(count).to_le_bytes().to_vec();
    for _ in 0..room {
        for word in [0, REGION_LEN, 0, 0] {
            body.extend(word.to_le_bytes());
        }
    }
    body
}

fn memory(len: u64) -> OwnedFd {
    let file = tempfile::tempfile().unwrap();
    file.set_len(len).unwrap();
    file.into()
}

#[test]
fn a_table_is_cut_to_the_regions_that_it_names() {
    let mut message = arrived(SET_MEM_TABLE, &table(1, 2), vec![memory(REGION_LEN)]);
    assert!(matches!(message.mend().unwrap(), Kept::Nothing));
    assert_eq!(message.header, header(SET_MEM_TABLE, 40));
    assert_eq!(message.body, table(1, 1));
    assert_eq!(message.descriptors.len(), 1);
    // What is as it should be stays, and so does what the library is to refuse.
    for (count, room) in [(2, 2), (3, 2), (0, 1), (u32::MAX, 1)] {
        let body = table(count, room);
        let mut message = arrived(SET_MEM_TABLE, &body, Vec::new());
        message.mend().unwrap();
        assert_eq!(message.body, body);
    }
    for len in 0..8 {
        let mut message = arrived(SET_MEM_TABLE, &vec![0xff; len], Vec::new());
        message.mend().unwrap();
        assert_eq!(message.body.len(), len);
    }
}

#[test]
fn a_region_that_is_longer_than_its_file_is_refused() {
    let files = vec![memory(REGION_LEN), memory(REGION_LEN - 1)];
    let error = arrived(SET_MEM_TABLE, &table(2, 2), files).mend();
    let error = error.unwrap_err().to_string();
    let expected = "found a memory region of 4096 bytes from byte 0 of a file of 4095 bytes";
    assert_eq!(error, expected);
    let mut body = table(1, 1);
    body[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
    let far = arrived(SET_MEM_TABLE, &body, vec![memory(REGION_LEN)]).mend();
    assert!(far.is_err());
}

#[test]
fn memory_that_can_be_sealed_cannot_be_made_shorter_any_more() {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let sealable = memfd_create("test", flags).unwrap();
    ftruncate(&sealable, REGION_LEN).unwrap();
    let theirs = vec![sealable.try_clone().unwrap()];
    arrived(SET_MEM_TABLE, &table(1, 1), theirs).mend().unwrap();
    assert_eq!(ftruncate(&sealable, REGION_LEN - 1), Err(Errno::PERM));
    // It may grow, and another file is taken as it is.
    ftruncate(&sealable, 2 * REGION_LEN).unwrap();
    let file = memory(REGION_LEN);
    let theirs = vec![file.try_clone().unwrap()];
    arrived(SET_MEM_TABLE, &table(1, 1), theirs).mend().unwrap();
    ftruncate(&file, 0).unwrap();
}

#[test]
fn the_library_gets_none_of_the_descriptors_that_its_client_can_make_it_wait_at() {
    let event = || eventfd(0, EventfdFlags::empty()).unwrap();
    let queue_2 = 2u64.to_le_bytes();
    let without = 0x102u64.to_le_bytes();

    let client = event();
    let mut message = arrived(SET_VRING_KICK, &queue_2, vec![client.try_clone().unwrap()]);
    let kept = message.mend().unwrap();
    assert!(matches!(kept, Kept::Kick(2, Some(_))), "{kept:?}");
    assert_eq!(message.body, queue_2);
    assert_eq!(message.descriptors.len(), 1);
    // What the library gets is another one, and does not make it wait.
    rustix::io::write(&client, &1u64.to_ne_bytes()).unwrap();
    let read = rustix::io::read(&message.descriptors[0], &mut [0; 8]);
    assert_eq!(read, Err(Errno::AGAIN));
    let flags = rustix::fs::fcntl_getfl(&client).unwrap();
    assert!(
        !flags.contains(rustix::fs::OFlags::NONBLOCK),
        "it waits there"
    );

    let socket = || UnixStream::pair().unwrap().0.into();
    for call in [event(), socket(), io::pipe().unwrap().1.into()] {
        let mut message = arrived(SET_VRING_CALL, &queue_2, vec![call]);
        let kept = message.mend().unwrap();
        assert!(matches!(kept, Kept::Call(2, Some(_))), "{kept:?}");
        assert_eq!(message.body, without);
        assert_eq!(message.descriptors.len(), 0);
    }
    let mut message = arrived(SET_VRING_ERR, &queue_2, vec![event()]);
    assert!(matches!(message.mend().unwrap(), Kept::Nothing));
    assert_eq!(
        (message.body.as_slice(), message.descriptors.len()),
        (&without[..], 0)
    );

    // A queue whose client polls has none, and what the library refuses stays as it is.
    let mut message = arrived(SET_VRING_CALL, &without, Vec::new());
    assert!(matches!(message.mend().unwrap(), Kept::Call(2, None)));
    let mut message = arrived(SET_VRING_KICK, &without, Vec::new());
    assert!(matches!(message.mend().unwrap(), Kept::Kick(2, None)));
    assert_eq!(message.descriptors.len(), 0);
    for request in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
        for (body, count) in [
            (&without[..], 1),
            (&queue_2, 0),
            (&queue_2, 2),
            (&[0; 7], 1),
        ] {
            let descriptors = (0..count).map(|_| event()).collect();
            let mut message = arrived(request, body, descriptors);
            assert!(matches!(message.mend().unwrap(), Kept::Nothing));
            assert_eq!(
                (message.body.as_slice(), message.descriptors.len()),
                (body, count)
            );
        }
    }
    // The file itself is not asked what it is.
    let file = File::open("/dev/null").unwrap();
    let error = arrived(SET_VRING_CALL, &queue_2, vec![file.into()]).mend();
    assert!(
        matches!(error, Err(RelayError::Signal(NoSignal::Call { .. }))),
        "{error:?}"
    );
}

#[test]
fn the_channel_is_kept_and_passed_on() {
    let (client, server) = UnixStream::pair().unwrap();
    let mut message = arrived(SET_BACKEND_REQ_FD, &[], vec![server.into()]);
    let Kept::Channel(channel) = message.mend().unwrap() else {
        panic!("the channel is not kept");
    };
    assert_eq!(message.descriptors.len(), 1);
    tell_of_change(&channel);
    let mut told = [0; HEADER];
    (&client).read_exact(&mut told).unwrap();
    assert_eq!(told, CONFIGURATION_CHANGE);
    // Whether somebody reads, and whether somebody is there, is the client's affair.
    for _ in 0..100_000 {
        tell_of_change(&channel);
    }
    drop(client);
    tell_of_change(&channel);
    tell_of_change(&File::open("/dev/null").unwrap().into());
}

#[test]
fn what_is_cut_off_too_long_or_has_too_many_descriptors_ends_it() {
    let received = |bytes: &[u8]| {
        let (mut client, server) = UnixStream::pair().unwrap();
        client.write_all(bytes).unwrap();
        drop(client);
        Message::receive(&server)
    };
    assert!(received(&[]).unwrap().is_none());
    for len in 1..HEADER {
        let cut = received(&header(1, 0)[..len]);
        assert!(matches!(cut, Err(RelayError::CutOff)), "{cut:?}");
    }
    let cut = received(&[&header(1, 8)[..], &[0; 7]].concat());
    assert!(matches!(cut, Err(RelayError::CutOff)), "{cut:?}");
    let long = received(&header(1, 4097));
    assert!(matches!(long, Err(RelayError::Long(4097))), "{long:?}");

    // Each half of the header brings as many as a message may have.
    let (client, server) = UnixStream::pair().unwrap();
    for half in header(1, 0).chunks(6) {
        let files: Vec<_> = (0..20).map(|_| memory(0)).collect();
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(20))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        let bytes = [IoSlice::new(half)];
        rustix::net::sendmsg(&client, &bytes, &mut control, SendFlags::empty()).unwrap();
    }
    let many = Message::receive(&server);
    assert!(matches!(many, Err(RelayError::Descriptors)), "{many:?}");
}
