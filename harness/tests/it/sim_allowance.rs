//! A program that asks a simulated host for too much ends there, before it has taken the memory or
//! the time of the machine that simulates it. The programs here are what a mistake in a driver
//! makes of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use driver::host::{Access, HostFile, HostNames};
use driver::units::{Bytes, FileOffset, FileRange};
use harness::sim::{Allowance, Exceeded, FileContent, Resource, SimFile, SimHost};

const ALLOWANCE: Allowance = Allowance {
    operations: 1000,
    written: Bytes(1 << 20),
    longest_file: Bytes(1 << 30),
    longest_operation: Bytes(1 << 20),
    at_stake: 2000,
};

fn host() -> SimHost {
    let host = SimHost::default();
    host.install("file", FileContent::from_bytes(&[1; 8192]));
    host.set_allowance(ALLOWANCE);
    host
}

/// What a program on this host asks for that is too much.
fn exceeded(host: &SimHost, program: impl FnOnce(&SimFile)) -> Option<Exceeded> {
    let file = host.open("file".as_ref(), Access::ReadWrite).unwrap();
    let ran = catch_unwind(AssertUnwindSafe(|| program(&file)));
    let payload = ran.err()?;
    Some(
        *payload
            .downcast_ref::<Exceeded>()
            .expect("it exceeds the allowance"),
    )
}

fn what(program: impl FnOnce(&SimFile)) -> Option<Resource> {
    exceeded(&host(), program).map(|exceeded| exceeded.what)
}

#[test]
fn a_loop_that_does_not_listen_to_errors_ends() {
    let reads = |file: &SimFile| {
        loop {
            let _ = file.read_at(&mut [0; 512], FileOffset(1 << 40));
        }
    };
    assert_eq!(what(reads), Some(Resource::Operations));
    let writes = |file: &SimFile| {
        loop {
            let _ = file.write_at(&[1; 65_536], FileOffset(0));
        }
    };
    assert_eq!(what(writes), Some(Resource::Written));
}

/// Each crash point that is kept has a list of what is unsynced: that grows with its square.
#[test]
fn a_loop_of_changes_between_two_looks_ends() {
    let writes = |file: &SimFile| {
        loop {
            let _ = file.write_at(&[1], FileOffset(0));
        }
    };
    let host = host();
    host.keep_snapshots();
    let found = exceeded(&host, writes).map(|exceeded| exceeded.what);
    assert_eq!(found, Some(Resource::AtStake));
    // Whoever takes them makes room for more, up to the next limit.
    let host = self::host();
    host.keep_snapshots();
    let found = exceeded(&host, |file| {
        for _ in 0.. {
            let _ = file.write_at(&[1], FileOffset(0));
            let _ = file.sync_data();
            host.take_snapshots();
        }
    });
    assert_eq!(
        found.map(|exceeded| exceeded.what),
        Some(Resource::Operations)
    );
}

#[test]
fn a_length_that_is_a_mistake_of_arithmetic_is_not_made() {
    let far = FileOffset(1 << 50);
    let long = FileRange::new(FileOffset(0), Bytes(1 << 40));
    assert_eq!(
        what(|file| drop(file.set_len(Bytes(1 << 50)))),
        Some(Resource::FileLength)
    );
    assert_eq!(
        what(|file| drop(file.write_at(&[1], far))),
        Some(Resource::FileLength)
    );
    assert_eq!(
        what(|file| drop(file.zero_range(long))),
        Some(Resource::FileLength)
    );
    let whole = FileRange::new(FileOffset(0), Bytes(1 << 30));
    assert_eq!(
        what(|file| drop(file.zero_range(whole))),
        Some(Resource::OperationLength)
    );
    let mut buffer = vec![0; (1 << 20) + 1];
    assert_eq!(
        what(|file| drop(file.read_at(&mut buffer, FileOffset(0)))),
        Some(Resource::OperationLength)
    );
    // A hole may be punched anywhere: it takes nothing.
    assert_eq!(what(|file| drop(file.punch_hole(long))), None);
}

#[test]
fn each_crash_image_has_the_allowance_anew_and_says_what_exceeded_it() {
    let host = host();
    let all = |file: &SimFile| {
        for _ in 1..ALLOWANCE.operations {
            let _ = file.len();
        }
    };
    assert_eq!(exceeded(&host, all), None);
    for image in [
        host.after_kill(),
        host.after_power_cut(&Default::default()).unwrap(),
    ] {
        assert_eq!(exceeded(&image, all), None);
    }
    let exceeded = exceeded(&host.after_kill(), |file| {
        all(file);
        let _ = file.sync_data();
    });
    assert_eq!(
        exceeded.unwrap().to_string(),
        "found 1001 host operations, the last for a SyncData, expected at most 1000"
    );
}

/// What clears up on the way out asks the host too: a second panic would end the process.
#[test]
fn what_clears_up_after_a_program_that_asked_for_too_much_may_ask_as_well() {
    struct ClearsUp<'a>(&'a SimFile);
    impl Drop for ClearsUp<'_> {
        fn drop(&mut self) {
            let _ = self.0.write_at(&[0; 512], FileOffset(0));
        }
    }
    let program = |file: &SimFile| {
        let _clears_up = ClearsUp(file);
        loop {
            let _ = file.read_at(&mut [0; 512], FileOffset(0));
        }
    };
    assert_eq!(what(program), Some(Resource::Operations));
}
