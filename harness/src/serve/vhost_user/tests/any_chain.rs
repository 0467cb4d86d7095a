//! Whatever a guest offers, the device lives.

use super::*;

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
