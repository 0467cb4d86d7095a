//! What the planner chooses, and what it refuses.

use std::path::Path;

use driver::blk::{Request, Tag};
use driver::cow::LARGEST_STOCK_OFFSET;
use driver::driver::Driver;
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, create, open};
use driver::ordered::Ordered;
use driver::resize::Strategy;
use driver::units::{Bytes, Sector};
use userhelper::image_host::FreeSpace;
use userhelper::planner::{Plan, PlanError, Shrink, Surroundings, Wish, plan};
use userhelper::reflow::Reflow;

const SIZE: u64 = 1 << 20;

/// A device of 1 MiB with its last sector dirty.
fn device(alignment: u32) -> Ordered<MemoryFile> {
    device_with(alignment, SIZE, [SIZE / 512 - 1])
}

/// A device with these sectors dirty.
fn device_with(
    alignment: u32,
    size: u64,
    dirty: impl IntoIterator<Item = u64>,
) -> Ordered<MemoryFile> {
    let host = MemoryHost::new();
    host.file("disk", &vec![1; size as usize]);
    drop(create(&host, Path::new("cow"), Path::new("disk"), Some(alignment)).unwrap());
    let spec = "ubda=cow,disk".parse().unwrap();
    let mut device = open(&host, &spec, OpenOptions::default()).unwrap().device;
    for sector in dirty {
        let write = Request::write(Tag(1), Sector(sector), vec![2; 512]);
        device.serve(write).unwrap();
    }
    device
}

fn wish(new_size: u64) -> Wish {
    Wish {
        new_size: Bytes(new_size),
        strategy: None,
        shrink: Shrink::Refuse,
        online: false,
    }
}

fn planned(alignment: u32, wish: Wish, free: Option<u64>) -> Result<Plan, PlanError> {
    plan_of(&device(alignment), wish, free)
}

fn plan_of(device: &Ordered<MemoryFile>, wish: Wish, free: Option<u64>) -> Result<Plan, PlanError> {
    let surroundings = Surroundings {
        free_space: free.map(|free| FreeSpace {
            free: Bytes(free),
            block: Bytes(4096),
        }),
        replaceable: true,
    };
    plan(device, wish, surroundings)
}

/// While requests wait, a plan looks at no more than 65,536 dirty runs. It takes each dirty sector
/// after these for one that lies alone.
#[test]
fn a_live_plan_does_not_look_at_every_dirty_run() {
    const LOOKED_AT: u64 = 1 << 16;
    let space = |runs: u64, online| {
        let device = device_with(4096, runs * 1024, (0..runs).map(|run| run * 2));
        let wish = Wish {
            strategy: Some(Strategy::Rebuild),
            online,
            ..wish(runs * 2048)
        };
        let plan = plan_of(&device, wish, Some(1 << 40)).unwrap();
        assert_eq!(plan.to_move, Bytes(runs * 512));
        plan.space_needed
    };
    assert_eq!(space(1 << 10, true), space(1 << 10, false));
    let more = LOOKED_AT + 4096;
    let (live, exact) = (space(more, true), space(more, false));
    // A record more for each 128 blocks that may lie apart.
    assert!(live > exact, "{live} and {exact}");
    assert!(live < exact + Bytes(64 << 10), "{live} and {exact}");
}

#[test]
fn headroom_ends_where_the_bitmap_meets_the_data() {
    // 4096 bytes of bitmap are 16 MiB.
    let fits = planned(4096, wish(16 << 20), None).unwrap();
    assert_eq!(fits.strategy, Strategy::Headroom);
    let offline = planned(4096, wish((16 << 20) + 512), None).unwrap();
    assert_eq!(offline.strategy, Strategy::Rebuild);
    let online = Wish {
        online: true,
        ..wish((16 << 20) + 512)
    };
    let online = planned(4096, online, None).unwrap();
    assert_eq!(online.strategy, Strategy::Reflow);
    let new = online.new_geometry.unwrap();
    assert!(new.alignment >= 4 << 20);
    assert!(new.data_offset <= LARGEST_STOCK_OFFSET);
    let no_space = planned(4096, wish(1 << 30), Some(100)).unwrap_err();
    assert!(
        matches!(no_space, PlanError::Impossible { .. }),
        "{no_space}"
    );
}

#[test]
fn sizes_that_no_device_has_are_refused() {
    for (size, text) in [(0, "found a new size of 0 bytes"), (513, "513 bytes")] {
        let error = planned(4096, wish(size), None).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    for size in [1 << 63, (1 << 48) + 512, u64::MAX - 511] {
        let error = planned(4096, wish(size), None).unwrap_err();
        assert_eq!(error, PlanError::TooLarge { found: size });
    }
}

#[test]
fn a_shrink_has_to_be_asked_for_and_data_keeps_it_off() {
    let smaller = wish(SIZE / 2);
    let error = planned(4096, smaller, None).unwrap_err();
    assert!(matches!(error, PlanError::WouldShrink { .. }));
    let keeping = Wish {
        shrink: Shrink::KeepingData,
        ..smaller
    };
    let error = planned(4096, keeping, None).unwrap_err();
    let PlanError::WouldLoseData(loss) = error else {
        panic!("{error}");
    };
    assert_eq!(loss.first, Sector(SIZE / 1024));
    assert_eq!((loss.in_cow.0, loss.exact), (512, true));
    assert_eq!(loss.in_backing, Some(Bytes(SIZE / 2 - 512)));
    let losing = Wish {
        shrink: Shrink::LosingData,
        ..smaller
    };
    assert_eq!(
        planned(4096, losing, None).unwrap().strategy,
        Strategy::Headroom
    );
    let reflow = Wish {
        strategy: Some(Strategy::Reflow),
        ..losing
    };
    let error = planned(4096, reflow, None).unwrap_err();
    assert!(error.to_string().contains("moves data up only"), "{error}");
}

/// The bitmap of 5 TiB and more leaves no room for the distance that a reflow likes best.
#[test]
fn a_reflow_stays_within_reach_of_stock_linux_where_a_rebuild_does() {
    for tib in [3, 4, 5, 6, 7] {
        for strategy in [Strategy::Rebuild, Strategy::Reflow] {
            let wish = Wish {
                strategy: Some(strategy),
                ..wish(tib << 40)
            };
            let plan = planned(1 << 20, wish, None).unwrap();
            let at = plan.new_geometry.unwrap().data_offset;
            assert!(at <= LARGEST_STOCK_OFFSET, "{strategy} to {tib} TiB: {at}");
        }
    }
}

#[test]
fn what_stock_linux_cannot_reach_is_said() {
    // The bitmap of 16 TiB alone is 4 GiB long.
    let plan = planned(4096, wish(16 << 40), None).unwrap();
    assert!(plan.new_geometry.unwrap().data_offset > LARGEST_STOCK_OFFSET);
    assert!(
        matches!(&plan.notes[..], [note] if note.contains("past the 2 GiB")),
        "{plan:?}"
    );
}

/// A reflow moves the data up from where it is, and a rebuild puts it where it likes.
#[test]
fn a_live_resize_is_a_rebuild_where_only_that_stays_within_reach() {
    let device = device(512 << 20);
    let live = |replaceable| {
        let wish = Wish {
            online: true,
            ..wish((4 << 40) + 512)
        };
        let surroundings = Surroundings {
            free_space: None,
            replaceable,
        };
        plan(&device, wish, surroundings).unwrap()
    };
    let rebuilt = live(true);
    assert_eq!(rebuilt.strategy, Strategy::Rebuild);
    assert!(!rebuilt.leaves_stock_reach);
    let [_, why] = &rebuilt.reasons[..] else {
        panic!("{rebuilt:?}");
    };
    assert!(
        why.starts_with("not by reflow: the data would start at ")
            && why.ends_with("past the 2 GiB that stock Linux can reach"),
        "{why}"
    );
    let reflowed = live(false);
    assert_eq!(reflowed.strategy, Strategy::Reflow);
    assert!(reflowed.leaves_stock_reach);
    let ([_, why], [consequence]) = (&reflowed.reasons[..], &reflowed.notes[..]) else {
        panic!("{reflowed:?}");
    };
    assert!(
        why.starts_with("not by rebuild: only a regular file"),
        "{why}"
    );
    assert!(consequence.contains("only ubdlab"), "{consequence}");
}

/// Each reflow puts the data at least twice as far, however little the device grows.
#[test]
fn a_reflow_that_headroom_would_spare_says_so_until_there_is_no_room_for_one() {
    let mut alignment = 2 << 20;
    let grow = |alignment| {
        let wish = Wish {
            strategy: Some(Strategy::Reflow),
            ..wish(SIZE + (1 << 20))
        };
        planned(alignment, wish, None)
    };
    let mut moves = 0;
    let refused = loop {
        let plan = match grow(alignment) {
            Ok(plan) => plan,
            Err(refused) => break refused.to_string(),
        };
        let new = plan.new_geometry.unwrap();
        assert!(new.alignment >= 2 * alignment, "{plan:?}");
        assert!(plan.reasons.is_empty(), "{plan:?}");
        let last = plan.notes.last().unwrap();
        assert!(
            last.starts_with("headroom has room for a device of "),
            "{last}"
        );
        assert!(
            last.contains(&format!(" to byte {}, ", new.data_offset)),
            "{last}"
        );
        assert_eq!(plan.notes.len(), 1 + usize::from(plan.leaves_stock_reach));
        (alignment, moves) = (new.alignment, moves + 1);
    };
    assert!(moves > 5 && alignment == 1 << 31, "{moves}, {alignment}");
    assert_eq!(
        refused,
        "reflow cannot do this: each one at least doubles the alignment, which is 2147483648 \
         bytes already, and a header holds at most 4294967295; headroom has room for a device of \
         8 TiB, and moves nothing; `ubdlab image convert COW NEW --to v3` makes a copy with its \
         data near the beginning"
    );
}

/// A host gives out blocks: single sectors, each in a block of its own, take eight times what
/// they hold.
#[test]
fn scattered_sectors_are_counted_in_blocks_of_the_host() {
    let mut device = device(4096);
    for sector in (8..1000).step_by(16) {
        let write = Request::write(Tag(2), Sector(sector), vec![3; 512]);
        device.serve(write).unwrap();
    }
    // 62 of them, the last sector of the device, the header, and a bitmap of 8 KiB; a block says
    // where they are.
    let blocks = 62 + 1 + 2 + 2 + 1;
    let rebuilt = |block: u64, free: u64| {
        let surroundings = Surroundings {
            free_space: Some(FreeSpace {
                free: Bytes(free),
                block: Bytes(block),
            }),
            replaceable: true,
        };
        let wish = Wish {
            strategy: Some(Strategy::Rebuild),
            ..wish(32 << 20)
        };
        plan(&device, wish, surroundings)
    };
    let fits = rebuilt(4096, blocks * 4096).unwrap();
    assert_eq!(fits.space_needed, Bytes(blocks * 4096));
    assert_eq!(fits.to_move, Bytes(63 * 512));
    let error = rebuilt(4096, blocks * 4096 - 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "rebuild cannot do this: a copy needs 272 KiB, and only 278527 bytes are free beside the COW file"
    );
    // On a host with blocks of a sector the data takes what it holds, and what says where it is.
    let small = rebuilt(512, 1 << 20).unwrap();
    assert_eq!(small.space_needed, Bytes((63 + 16 + 9 + 1) * 512));
}

/// A layout with the same alignment as the old one has its bitmap in the same place.
#[test]
fn a_reflow_that_is_planned_can_be_begun_whatever_the_alignment_was() {
    for (alignment, new_size) in [
        (4096, 1 << 25),
        (4 << 20, 1 << 35),
        (512 << 20, 4 << 40),
        (1 << 30, 9 << 40),
    ] {
        let device = device(alignment);
        let wish = Wish {
            strategy: Some(Strategy::Reflow),
            online: true,
            ..wish(new_size)
        };
        let plan = plan_of(&device, wish, None).unwrap();
        let new = plan.new_geometry.unwrap();
        let old_end = device.geometry().unwrap().bitmap().end();
        assert!(new.bitmap_offset >= old_end, "{alignment}");
        Reflow::new(&device, new).unwrap();
    }
}
