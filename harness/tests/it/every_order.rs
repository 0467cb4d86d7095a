//! Small cases in all orders that their operations can have side by side.

use harness::fuzz::case::{
    BackingFile, Case, DriverName, End, FORMAT, Image, ImageVersion, KernelSetup, Life,
    ResizeStrategy, Resizer, Stimulus,
};
use harness::fuzz::doubles;
use harness::fuzz::every_order::{InEveryOrder, Orders, in_every_order};
use harness::fuzz::exactly::{NotRight, run_exactly};
use harness::sim::Assumptions;

fn case(defect: Option<&str>, actions: &[Stimulus]) -> Case {
    Case {
        format: FORMAT.into(),
        driver: DriverName::Ordered,
        defects: defect
            .map(|name| name.parse().unwrap())
            .into_iter()
            .collect(),
        resizer: Resizer::Userhelper,
        kernel: KernelSetup::default(),
        retries: false,
        assumptions: Assumptions::default(),
        image: Image {
            dirty: vec![(0, 2)],
            extension: true,
            ..Image::sound(12, ImageVersion::V3, 4096)
        },
        lives: vec![Life {
            backing: BackingFile::AsItWas,
            tool: None,
            synchronous: false,
            pending_words: None,
            at_once: None,
            keeps_asking: false,
            half_merged: false,
            side_by_side: None,
            order: None,
            segments_of: None,
            actions: [actions, &[Stimulus::Drain]].concat(),
            faults: Vec::new(),
            resize_faults: Vec::new(),
            end: End::Close,
        }],
        found: None,
    }
}

fn write(start: u64, count: u64) -> Stimulus {
    let fua = false;
    Stimulus::Write { start, count, fua }
}

fn write_fua(start: u64) -> Stimulus {
    Stimulus::Write {
        start,
        count: 1,
        fua: true,
    }
}

fn read(start: u64, count: u64) -> Stimulus {
    Stimulus::Read { start, count }
}

fn zeroes(start: u64, count: u64) -> Stimulus {
    Stimulus::WriteZeroes { start, count }
}

fn overlaps_and_a_flush() -> Vec<Stimulus> {
    vec![write(3, 1), write(3, 2), Stimulus::Flush, read(3, 2)]
}

fn fua_beside_a_flush() -> Vec<Stimulus> {
    vec![write(3, 1), write_fua(5), Stimulus::Flush]
}

fn zeros_and_a_write() -> Vec<Stimulus> {
    vec![zeroes(2, 3), write(3, 1), read(2, 3), Stimulus::Flush]
}

fn writes_in_a_publication() -> Vec<Stimulus> {
    vec![write(3, 1), Stimulus::Flush, write(4, 1), write(6, 1)]
}

/// A reflow that moves two sectors, with requests around its steps.
fn requests_around_a_move() -> Vec<Stimulus> {
    let resize = Stimulus::Resize {
        sectors: 16,
        strategy: ResizeStrategy::Reflow,
        window: 1000,
        alignment: 16384,
        odd: 0,
    };
    let steps = |count| vec![Stimulus::StepResize; count];
    // Prepared, marked; then its window is chosen, while a write to it is under way.
    [
        vec![resize],
        steps(2),
        vec![write(1, 1)],
        steps(2),
        vec![read(1, 1)],
        steps(5),
    ]
    .concat()
}

/// More orders than this are not counted where nothing is reduced.
const MOST_COUNTED: u64 = 2_000;

/// All orders of these are right, and fewer had to be run than there are.
fn is_right_in_every_order(name: &str, actions: &[Stimulus]) {
    let case = case(None, actions);
    let reduced = Orders {
        most: 5_000,
        reduces: true,
        crashes: true,
    };
    let all = in_every_order(&case, reduced);
    let InEveryOrder {
        orders,
        left,
        crash_images,
        ..
    } = all;
    if let Some((found, violation)) = all.finding {
        panic!("{name}: {violation}\n{:?}", found.lives[0].order);
    }
    assert!(all.is_complete, "{name}: more than {orders} orders");
    let counted = Orders {
        most: MOST_COUNTED,
        reduces: false,
        crashes: false,
    };
    let every = in_every_order(&case, counted);
    assert!(every.finding.is_none(), "{name}: {:?}", every.finding);
    let more = if every.is_complete { "" } else { "more than " };
    println!(
        "{name}: {more}{} orders, {orders} run and {left} left, {crash_images} crash images",
        every.orders
    );
    assert!(orders + left < every.orders, "{name}");
}

#[test]
fn two_writes_that_overlap_a_flush_and_a_read_are_right_in_every_order() {
    is_right_in_every_order("overlaps", &overlaps_and_a_flush());
}

#[test]
fn a_fua_write_beside_a_flush_is_right_in_every_order() {
    is_right_in_every_order("FUA", &fua_beside_a_flush());
}

#[test]
fn zeros_and_a_write_are_right_in_every_order() {
    is_right_in_every_order("zeros", &zeros_and_a_write());
}

#[test]
fn writes_in_flight_beside_a_publication_are_right_in_every_order() {
    is_right_in_every_order("publication", &writes_in_a_publication());
}

#[test]
fn requests_around_the_steps_of_a_move_are_right_in_every_order() {
    is_right_in_every_order("move", &requests_around_a_move());
}

/// And what is found repeats, as a case that names its order.
#[test]
fn doubles_are_found_in_one_of_all_orders() {
    let flush_and_more = vec![write(3, 1), Stimulus::Flush, write(4, 1), Stimulus::Flush];
    let two_reads = vec![read(0, 1), read(1, 1)];
    for (name, actions) in [
        ("flush-does-not-wait", fua_beside_a_flush()),
        ("overlaps-in-flight", overlaps_and_a_flush()),
        ("bits-set-after-the-sync", flush_and_more.clone()),
        ("flush-joins-a-publication", flush_and_more),
        ("results-exchanged", two_reads),
        ("window-copied-under-a-write", requests_around_a_move()),
    ] {
        let double = doubles::named(name).unwrap();
        let how = Orders {
            most: 5_000,
            reduces: true,
            crashes: true,
        };
        let all = in_every_order(&case(Some(name), &actions), how);
        let Some((found, violation)) = all.finding else {
            panic!("{name}: not found in {} orders", all.orders);
        };
        println!("{name}: order {}, {violation}", all.orders + all.left);
        assert!(
            double.found_as.contains(&violation.kind),
            "{name}: {violation}"
        );
        assert_eq!(found.check(), Ok(()), "{name}");
        let again = run_exactly(&found);
        let Err(NotRight::Violated(again)) = again else {
            panic!("{name} does not repeat: {again:?}");
        };
        assert_eq!(again.cause(), violation.cause(), "{name}");
    }
}
