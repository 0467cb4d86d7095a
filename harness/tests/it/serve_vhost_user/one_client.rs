//! What one client, or one after the other, sees.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;

use driver::resize::Strategy;
use driver::units::Bytes;
use harness::serve::record::Recorder;
use harness::trace::{CompactReader, TraceOperation};
use vmm_sys_util::eventfd::EventFd;

use super::Served;
use super::front_end::{DEPTH, FLUSH, FrontEnd, OUT, READ, TOO_LONG};
use crate::support::cli::{ALIGNMENT, SIZE, Sandbox};
use crate::support::server::Server;

/// The first size that the small device's bitmap has no room for.
const REFLOW_SIZE: Bytes = Bytes(32 << 20);

pub(super) fn served() -> Served {
    let sandbox = Sandbox::new();
    sandbox.write("backing", vec![1; SIZE as usize]);
    Served::new(sandbox, ALIGNMENT)
}

/// Every place of a queue, each once.
pub(super) fn all_places() -> Vec<u16> {
    (0..DEPTH).collect()
}

pub(super) fn sorted(mut places: Vec<u16>) -> Vec<u16> {
    places.sort_unstable();
    places
}

#[test]
fn as_many_as_a_queue_holds_are_answered_with_what_they_asked_for() {
    let served = served();
    let mut client = FrontEnd::connect(&served.socket());
    assert_eq!(client.capacity(), SIZE / 512);
    client.offer_all(OUT, |place| place as u8 + 1);
    assert_eq!(sorted(client.wait()), all_places());
    for place in 0..DEPTH {
        assert_eq!(client.answer(place).0, 0);
    }
    client.offer_all(READ, |_| 0);
    client.wait();
    for place in 0..DEPTH {
        assert_eq!(client.answer(place), (0, [place as u8 + 1; 4096]));
    }
    assert_eq!(
        client.request(READ, u64::from(DEPTH) * 8, [0; 4096]),
        (0, [1; 4096])
    );
    drop(client);
    assert_eq!(served.told(), [""; 0]);
    served.close();
}

#[test]
fn a_client_hears_that_its_disk_has_grown_and_uses_it() {
    let served = served();
    let mut client = FrontEnd::connect(&served.socket());
    let last = REFLOW_SIZE.0 / 512 - 8;
    assert_eq!(client.request(OUT, last, [7; 4096]).0, 1, "past the end");
    served.grow(REFLOW_SIZE, Strategy::Reflow);
    client.hear_of_change();
    assert_eq!(client.capacity(), REFLOW_SIZE.0 / 512);
    assert_eq!(client.request(OUT, last, [7; 4096]).0, 0);
    assert_eq!(client.request(READ, last, [0; 4096]), (0, [7; 4096]));
    drop(client);
    served.close();
}

#[test]
fn a_client_that_comes_back_goes_on_and_a_second_one_is_refused() {
    let served = served();
    let mut client = FrontEnd::connect(&served.socket());
    for round in 0..20 {
        let told = served.told().len();
        let second = UnixStream::connect(served.socket()).unwrap();
        assert_eq!((&second).read(&mut [0]).unwrap(), 0, "it is let go at once");
        assert_eq!(served.told().len(), told + 1);
        // What the server had taken when the client went is answered, and the rest is asked again.
        client.offer_all(OUT, |_| round as u8);
        client = client.reconnect(&served.socket());
        client.kick();
        assert_eq!(sorted(client.wait()), all_places());
        for place in 0..DEPTH {
            assert_eq!(client.answer(place).0, 0);
        }
        assert_eq!(
            client.request(READ, 8, [0xff; 4096]),
            (0, [round as u8; 4096])
        );
    }
    assert!(served.told()[0].contains("a second client was refused"));
    drop(client);
    served.close();
}

#[test]
fn what_a_client_asks_for_is_recorded() {
    let served = served();
    let path = served.sandbox.path("recording");
    let recorder = Recorder::begin(&path, served.export()).unwrap();
    assert!(served.export().record_to(Some(recorder)).is_none());
    let mut client = FrontEnd::connect(&served.socket());
    assert_eq!(client.request(OUT, 16, [7; 4096]).0, 0);
    assert_eq!(client.request(READ, 8, [0; 4096]).0, 0);
    assert_eq!(client.request(FLUSH, 0, [0; 4096]).0, 0);
    drop(client);
    let recorded = served.export().record_to(None).unwrap().finish().unwrap();
    assert_eq!((recorded.recorded, recorded.lost), (3, 0));
    let records = CompactReader::open(&path).unwrap().map(Result::unwrap);
    let shapes: Vec<_> = records
        .map(|record| (record.operation, record.start.0, record.count.0))
        .collect();
    let expected = [
        (TraceOperation::Write, 16, 8),
        (TraceOperation::Read, 8, 8),
        (TraceOperation::Flush, 0, 0),
    ];
    assert_eq!(shapes, expected);
    served.close();
}

#[test]
fn a_queue_that_is_stopped_says_where_it_is() {
    let served = served();
    let mut client = FrontEnd::connect(&served.socket());
    client.offer_all(OUT, |_| 3);
    let base = client.wait().len();
    assert_eq!(client.stop_queue(0) as usize, base);
    client.start_queue(0);
    assert_eq!(client.request(READ, 0, [0; 4096]), (0, [3; 4096]));
    drop(client);
    served.close();
}

#[test]
fn a_server_that_stops_has_answered_what_it_took() {
    let served = served();
    let mut client = FrontEnd::connect(&served.socket());
    client.offer_all(OUT, |_| 5);
    let sandbox = served.close();
    // It may have stopped before it took any: then none is answered, and none was written.
    let back = client.back();
    for &place in &back {
        assert_eq!(client.answer(place).0, 0);
    }
    let served = Served::existing(sandbox);
    let mut client = FrontEnd::connect(&served.socket());
    for place in back {
        let sector = u64::from(place) * 8;
        assert_eq!(client.request(READ, sector, [0; 4096]), (0, [5; 4096]));
    }
    drop(client);
    served.close();
}

/// Whatever a client says, the next one is served.
#[test]
fn a_client_that_talks_rubbish_is_cut_off_with_a_line() {
    use std::io::Write;

    let served = served();
    let rubbish: [&[u8]; 6] = [
        &[0xff; 12],
        &[0xff; 100_000],
        &[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0],
        &[5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &[2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3],
    ];
    for (number, rubbish) in rubbish.into_iter().enumerate() {
        let mut client = UnixStream::connect(served.socket()).unwrap();
        // It may be cut off before all is out, and then that is what reading says.
        let _ = client.write_all(rubbish);
        let _ = client.read_to_end(&mut Vec::new());
        let mut next = FrontEnd::connect(&served.socket());
        assert_eq!(next.request(READ, 0, [0; 4096]), (0, [1; 4096]));
        // The next one may have come before the server was done with this one, and is told so then.
        let told = served.told();
        let cut_off = told.iter().filter(|line| line.contains("cut off"));
        assert_eq!(cut_off.count(), number + 1, "{told:?}");
    }
    served.close();
}

/// A counter that is full makes whoever signals wait until somebody reads it.
#[test]
fn a_client_whose_counter_takes_no_signal_keeps_nobody_waiting() {
    let served = served();
    let mut client = FrontEnd::connect(&served.socket());
    // It stays open after the connection, as where the client has passed it on.
    let full = EventFd::new(0).unwrap();
    full.write(u64::MAX - 1).unwrap();
    client.signal_at(&full);
    client.queue(0).offer(0, READ, 0, [0; 4096]);
    client.kick();
    while client.back().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(client.answer(0), (0, [1; 4096]));
    drop(client);

    let (socket, (sender, answered)) = (served.socket(), channel());
    let next = std::thread::spawn(move || {
        let mut next = FrontEnd::connect(&socket);
        let _ = sender.send(next.request(READ, 0, [0; 4096]));
    });
    let answer = answered.recv_timeout(TOO_LONG);
    assert_eq!(answer.expect("the next client is served"), (0, [1; 4096]));
    next.join().unwrap();
    assert_eq!(served.told(), [""; 0]);
    served.close();
}

#[test]
fn the_program_keeps_nothing_of_clients_that_have_gone() {
    let sandbox = Sandbox::with_device();
    let server = Server::start(&sandbox, &["@cow", "--vhost-user", "@s"]);
    let files = format!("/proc/{}/fd", server.pid().as_raw_pid());
    let open = || std::fs::read_dir(&files).unwrap().count();
    let threads = || {
        std::fs::read_dir(files.replace("fd", "task"))
            .unwrap()
            .count()
    };
    let mut client = FrontEnd::connect(&sandbox.path("s"));
    client.request(READ, 0, [0; 4096]);
    let before = (open(), threads());
    for _ in 0..20 {
        client = client.reconnect(&sandbox.path("s"));
        client.request(READ, 0, [0; 4096]);
    }
    assert_eq!((open(), threads()), before);
    drop(client);
    let said = server.stop();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(!sandbox.path("s").exists());
}
