//! The times of last modification on a simulated host that has a clock, and what a power cut
//! leaves of them.

use std::path::Path;

use driver::host::{Access, HostFile, HostNames};
use driver::units::{Bytes, FileOffset};
use harness::sim::{
    Assumptions, BadSurvivors, FileContent, SimFile, SimHost, SurvivalWeights, Survivors, Tearing,
};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use userhelper::image_host::ImageHost;

const TIME: i64 = 1_060_000_000;

fn host(steady_times: bool) -> (SimHost, SimFile) {
    let host = SimHost::new(Assumptions {
        steady_times,
        ..Assumptions::default()
    });
    host.install("a", FileContent::from_bytes(&[1; 4096]));
    host.set_modified_seconds("a", TIME);
    let file = host.open(Path::new("a"), Access::ReadWrite).unwrap();
    (host, file)
}

fn time(host: &SimHost) -> i64 {
    host.modified_seconds("a").unwrap()
}

/// The times after every power cut there is, each once.
fn left(host: &SimHost) -> Vec<i64> {
    let unsynced = host.unsynced();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let weights = SurvivalWeights::draw(&mut rng);
    let drawn = (0..50).map(|_| unsynced.sample(weights, &mut rng));
    let cuts = unsynced.subsets(Tearing::None).unwrap().chain(drawn);
    let mut times: Vec<i64> = cuts
        .map(|survivors| time(&host.after_power_cut(&survivors).unwrap()))
        .collect();
    times.sort();
    times.dedup();
    times
}

#[test]
fn every_change_is_a_tick_and_any_time_since_the_sync_of_everything_can_survive() {
    let (host, file) = host(false);
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    file.set_len(Bytes(512)).unwrap();
    assert_eq!(time(&host), TIME + 2);
    assert_eq!(left(&host), [TIME, TIME + 1, TIME + 2]);
    file.sync_data().unwrap();
    assert_eq!(left(&host), [TIME, TIME + 1, TIME + 2], "fdatasync");
    assert_eq!(left(&host.after_kill()), [TIME, TIME + 1, TIME + 2]);
    host.sync_all(&file).unwrap();
    assert_eq!(left(&host), [TIME + 2]);
    host.set_modified(&file, TIME).unwrap();
    file.set_len(Bytes(512)).unwrap();
    assert_eq!(left(&host), [TIME, TIME + 2], "nothing else has changed");
    host.settle();
    assert_eq!(left(&host), [TIME]);
}

#[test]
fn no_survivors_are_the_durable_time_and_a_time_that_never_was_is_refused() {
    let (host, file) = host(false);
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    let nothing = host.after_power_cut(&Survivors::default()).unwrap();
    assert_eq!(time(&nothing), TIME);
    let inode = file.inode();
    let survivors = Survivors {
        times: [(inode, TIME + 7)].into(),
        ..Survivors::default()
    };
    let refused = BadSurvivors::Time {
        inode,
        found: TIME + 7,
        times: vec![TIME, TIME + 1],
    };
    assert_eq!(host.after_power_cut(&survivors).err(), Some(refused));
}

#[test]
fn a_crashed_host_sets_no_time() {
    let (host, file) = host(false);
    host.crash_before_change(0);
    assert!(host.set_modified(&file, 5).is_err());
    assert_eq!(time(&host), TIME);
}

#[test]
fn without_a_clock_a_time_is_what_it_was_made_for_good() {
    let (host, file) = host(true);
    file.write_all_at(&[2; 512], FileOffset(0)).unwrap();
    assert_eq!(left(&host), [TIME]);
    host.set_modified(&file, TIME + 5).unwrap();
    assert_eq!(left(&host), [TIME + 5]);
    let times = host.unsynced().times;
    assert!(times.is_empty(), "{times:?}");
}
