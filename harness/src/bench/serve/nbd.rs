//! Random requests by NBD, of what is in the page cache and of what is not.

use crate::bench::programs::missing;
use crate::bench::{BenchError, Row, Settings, Unit};

use super::contender::{Contender, Protocol};
use super::files::SIZE;
use super::fio::{FIO, Target, Work, fio};
use super::lab::{Content, Lab};
use super::turns::in_turns;

/// How many times the rate of the best peer it is to have, from the page cache.
const TIMES_WARM: f64 = 2.0;

/// And from the disk.
const TIMES_COLD: f64 = 1.2;

const BLOCK: u64 = 4096;

/// Requests of a turn, from the page cache and from the disk. Of the latter there are few beside
/// the device: a peer that reads 64 KiB for 4 would soon have all of it in the page cache.
const WARM_REQUESTS: u64 = 32_768;
const COLD_REQUESTS: u64 = 4096;

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Case {
    write: bool,
    cold: bool,
}

impl Case {
    /// In this order, because the disks become fuller.
    const ALL: [Case; 4] = [
        Case::new(false, false),
        Case::new(false, true),
        Case::new(true, false),
        Case::new(true, true),
    ];

    const fn new(write: bool, cold: bool) -> Case {
        Case { write, cold }
    }

    fn name(self) -> String {
        let cache = if self.cold { "cold" } else { "warm" };
        let what = if self.write { "write" } else { "read" };
        format!("serve/NBD, {cache} 4 KiB {what}, depth 32")
    }

    fn content(self) -> Content {
        match self.write {
            true => Content::All,
            false => Content::Half,
        }
    }

    fn work(self) -> Work {
        let requests = match self.cold {
            true => COLD_REQUESTS,
            false => WARM_REQUESTS,
        };
        Work {
            pattern: if self.write { "randwrite" } else { "randread" },
            block: BLOCK,
            depth: 32,
            bytes: requests * BLOCK,
            size: SIZE.0,
        }
    }
}

/// Whether a row of these is asked for.
pub(super) fn is_wanted(settings: Settings<'_>) -> bool {
    Case::ALL.iter().any(|case| settings.wanted(&case.name()))
}

pub(super) fn measure(
    lab: &mut Lab<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), BenchError> {
    for case in Case::ALL {
        if !lab.settings.wanted(&case.name()) {
            continue;
        }
        if let Some(needs) = missing(&[FIO]) {
            each(vec![Row::skipped(case.name(), Unit::PerSecond, &needs)]);
            continue;
        }
        lab.fill(case.content())?;
        let lab = &*lab;
        let contenders = Contender::all(Protocol::Nbd, lab.settings.io);
        let rates = in_turns(lab.settings, &contenders, |one| turn(lab, one, case))?;
        let target = if case.cold { TIMES_COLD } else { TIMES_WARM };
        each(rates.rows(&case.name(), target));
    }
    Ok(())
}

/// The requests a second of a turn.
fn turn(lab: &Lab<'_>, contender: Contender, case: Case) -> Result<f64, BenchError> {
    let serving = lab.serve(contender, Protocol::Nbd)?;
    let place = contender.place(&lab.files, Protocol::Nbd);
    let target = Target::Nbd(&place);
    match case.cold {
        true => serving.make_cold()?,
        false => lab.make_warm(target)?,
    }
    let report = fio(lab.settings, target, case.work())?;
    // What waits to be written would disturb whoever comes next.
    serving.write_back()?;
    Ok(report.rate())
}
