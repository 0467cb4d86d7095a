//! The time of a case, with all its crashes, against the requests in it and against the size
//! of its device. The cases that the fuzzer draws are small; these are made for the purpose.

use crate::bench::rounds::rounds;
use crate::bench::{Growth, Order, Row, Unit};
use crate::clock;
use crate::fuzz::case::{
    BackingFile, Case, DriverName, End, FORMAT, Image, ImageVersion, KernelSetup, Life, Resizer,
    Stimulus,
};
use crate::fuzz::explore::Search;
use crate::fuzz::thrift::Thrift;
use crate::sim::Assumptions;

use crate::bench::Only;

const REQUESTS: [u64; 4] = [10, 100, 1000, 10_000];
const SECTORS: [u64; 4] = [64, 640, 6400, 64_000];

const AGAINST_REQUESTS: &str = "fuzz/growth/case against requests";
const AGAINST_SECTORS: &str = "fuzz/growth/case of 16 requests against device";

/// Requests from one flush to the next. What is not synced stays bounded, and with it the number
/// of crash images at a crash point.
const FLUSH_EVERY: u64 = 8;

/// Measures the rows.
pub(super) fn measure(only: &Only, each: &mut impl FnMut(Vec<Row>)) {
    if only.wanted(AGAINST_REQUESTS) {
        let mut growth = Growth::new(AGAINST_REQUESTS, Unit::Milliseconds);
        for requests in REQUESTS {
            let time = milliseconds(&case(128, requests));
            growth.point(format!("{requests}"), requests as f64, time);
        }
        each(growth.rows(Order::Linear));
    }
    if only.wanted(AGAINST_SECTORS) {
        let mut growth = Growth::new(AGAINST_SECTORS, Unit::Milliseconds);
        for sectors in SECTORS {
            let time = milliseconds(&case(sectors, 16));
            growth.point(format!("{sectors} sectors"), sectors as f64, time);
        }
        each(growth.rows(Order::Linear));
    }
}

/// The time of looking at every crash point of the case.
fn milliseconds(case: &Case) -> f64 {
    let times = rounds(&mut [Box::new(|| {
        let started = clock::start();
        let search = Search {
            thrift: Thrift::unlimited(),
            ..Search::for_anything(1)
        };
        let found = search.of(case);
        let time = started.elapsed();
        assert!(found == Ok(None), "the ordered driver loses something");
        time
    })]);
    times[0] / 1e6
}

/// Writes all over the device, and flushes; no resize, no faults.
fn case(sectors: u64, requests: u64) -> Case {
    let request = |index: u64| match index % FLUSH_EVERY {
        0 => Stimulus::Flush,
        _ => Stimulus::Write {
            // An odd number of sectors apart that divides no device's size.
            start: index * 37 % (sectors - 4),
            count: 1 + index % 4,
            fua: false,
        },
    };
    let actions = (1..=requests).flat_map(|index| [request(index), Stimulus::Drain]);
    Case {
        format: FORMAT.into(),
        driver: DriverName::Ordered,
        defects: Vec::new(),
        resizer: Resizer::Userhelper,
        kernel: KernelSetup::default(),
        retries: false,
        assumptions: Assumptions::default(),
        image: Image {
            extension: true,
            ..Image::sound(sectors, ImageVersion::V3, 4096)
        },
        lives: vec![Life {
            backing: BackingFile::AsItWas,
            tool: None,
            synchronous: false,
            pending_words: None,
            side_by_side: None,
            order: None,
            segments_of: None,
            keeps_asking: false,
            half_merged: false,
            at_once: None,
            actions: actions.collect(),
            faults: Vec::new(),
            resize_faults: Vec::new(),
            end: End::Close,
        }],
        found: None,
    }
}
