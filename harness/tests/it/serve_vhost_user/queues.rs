//! A client with several queues.

use driver::resize::Strategy;
use driver::units::Bytes;

use super::front_end::{DEPTH, FrontEnd, Kind, OUT, QUEUES, READ, SIMPLE};
use super::one_client::{all_places, served, sorted};
use crate::support::cli::SIZE;

const SEVERAL: Kind = Kind {
    queues: QUEUES,
    ..SIMPLE
};

/// The first sector of a queue's own part of the device.
fn first(queue: usize) -> u64 {
    queue as u64 * u64::from(DEPTH) * 8
}

fn content(queue: usize, place: u16) -> u8 {
    queue as u8 * 50 + place as u8 + 1
}

#[test]
fn each_queue_gets_its_own_answers_back() {
    let served = served();
    let mut client = FrontEnd::of_kind(&served.socket(), SEVERAL);
    for index in 0..QUEUES {
        let queue = client.queue(index);
        queue.offer_all(first(index), OUT, |place| content(index, place));
    }
    for index in (0..QUEUES).rev() {
        let queue = client.queue(index);
        assert_eq!(sorted(queue.wait()), all_places());
        for place in 0..DEPTH {
            assert_eq!(queue.answer(place).0, 0);
        }
    }
    // Each reads what the next one has written.
    for index in 0..QUEUES {
        let at = first((index + 1) % QUEUES);
        client.queue(index).offer_all(at, READ, |_| 0);
    }
    for index in 0..QUEUES {
        let queue = client.queue(index);
        assert_eq!(sorted(queue.wait()), all_places());
        for place in 0..DEPTH {
            let expected = content((index + 1) % QUEUES, place);
            assert_eq!(queue.answer(place), (0, [expected; 4096]));
        }
    }
    drop(client);
    assert_eq!(served.told(), [""; 0]);
    served.close();
}

#[test]
fn one_that_is_stopped_keeps_no_other_waiting() {
    let served = served();
    let mut client = FrontEnd::of_kind(&served.socket(), SEVERAL);
    assert_eq!(client.queue(1).request(OUT, 0, [1; 4096]).0, 0);
    assert_eq!(client.stop_queue(1), 1);
    client.queue(1).offer(0, OUT, 0, [2; 4096]);
    client.queue(1).kick();
    for index in [0, 2, 3] {
        let queue = client.queue(index);
        assert_eq!(queue.request(READ, 0, [0; 4096]), (0, [1; 4096]));
    }
    assert_eq!(client.queue(1).back(), [0; 0], "it is stopped");
    client.start_queue(1);
    assert_eq!(client.queue(1).wait(), [0]);
    assert_eq!(client.queue(3).request(READ, 0, [0; 4096]), (0, [2; 4096]));
    drop(client);
    served.close();
}

/// All queues are busy while the device grows, and each reaches what is new.
#[test]
fn the_device_grows_under_all_of_them() {
    const NEW_SIZE: Bytes = Bytes(32 << 20);
    let served = served();
    let mut client = FrontEnd::of_kind(&served.socket(), SEVERAL);
    for index in 0..QUEUES {
        let queue = client.queue(index);
        queue.offer_all(first(index), OUT, |place| content(index, place));
    }
    served.grow(NEW_SIZE, Strategy::Reflow);
    client.hear_of_change();
    assert_eq!(client.capacity(), NEW_SIZE.0 / 512);
    for index in 0..QUEUES {
        let queue = client.queue(index);
        assert_eq!(sorted(queue.wait()), all_places());
        queue.offer_all(SIZE / 512 + first(index), OUT, |place| {
            content(index, place)
        });
    }
    for index in 0..QUEUES {
        let queue = client.queue(index);
        assert_eq!(sorted(queue.wait()), all_places());
        assert_eq!(queue.answer(0).0, 0);
        for start in [0, SIZE / 512] {
            let read = queue.request(READ, start + first(index), [0; 4096]);
            assert_eq!(read, (0, [content(index, 0); 4096]));
        }
    }
    drop(client);
    assert_eq!(served.told(), [""; 0]);
    served.close();
}

/// The fields of the configuration are where the specification has them.
#[test]
fn the_configuration_says_what_holds() {
    let served = served();
    let mut client = FrontEnd::connect(&served.socket());
    let word = |client: &mut FrontEnd, at| u32::from_le_bytes(client.configuration(at));
    assert_eq!(client.capacity(), SIZE / 512);
    assert_eq!(word(&mut client, 8), 256 << 10, "the longest segment");
    assert_eq!(word(&mut client, 12), 126, "segments");
    assert_eq!(word(&mut client, 20), 512, "a block");
    assert_eq!(client.configuration(34), (QUEUES as u16).to_le_bytes());
    assert_eq!(word(&mut client, 36), 1 << 22, "sectors of a discard");
    assert_eq!(word(&mut client, 40), 1, "ranges of a discard");
    assert_eq!(word(&mut client, 44), 8, "where a discard should begin");
    assert_eq!(word(&mut client, 48), 1 << 22, "sectors of write-zeroes");
    assert_eq!(word(&mut client, 52), 1, "ranges of write-zeroes");
    assert_eq!(client.configuration(56), [1], "write-zeroes may free");
    drop(client);
    served.close();
}
