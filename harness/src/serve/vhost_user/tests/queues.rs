//! Queues that are stopped, and go on with the next server.

use super::*;

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
