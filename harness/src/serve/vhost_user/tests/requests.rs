//! What a guest asks for, well or badly, and how it is answered.

use super::*;

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
