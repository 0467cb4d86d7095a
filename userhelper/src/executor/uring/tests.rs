//! The ring, asked for what it does at once and for what it does not.

use driver::host::{Access, Buffer, FileRole, HostNames, OperationKind, Waiter};
use driver::units::{Bytes, FileOffset};

use super::*;
use crate::real_files::RealHost;

fn under_way(action: Action) -> UnderWay {
    let file = RealHost
        .open("/dev/zero".as_ref(), Access::ReadOnly)
        .unwrap();
    UnderWay {
        transfer: Transfer::of(&action),
        operation: Operation {
            waiter: Waiter(0),
            file: FileRole::Cow,
            action,
        },
        file: Arc::new(file),
    }
}

#[test]
fn one_call_ends_with_what_the_kernel_did_of_it() {
    let buffer = || Buffer::whole(vec![0; 512]);
    for action in [
        Action::read_once(FileOffset(0), buffer()),
        Action::write_once(FileOffset(0), buffer()),
    ] {
        for done in [0, 100, 512] {
            let mut ended = under_way(action.clone());
            assert!(matches!(ended.after(done), After::Ended(Ok(()))));
            let (Action::ReadOnce { count, .. } | Action::WriteOnce { count, .. }) =
                ended.operation.action
            else {
                panic!("it is another action now");
            };
            assert_eq!(count, done as usize);
        }
    }
}

/// A signal may fall on any call, and so on the first that a ring is tried with.
#[test]
fn a_ring_is_tried_until_it_is_refused_for_good() {
    let tried = |errnos: &[Errno]| {
        let mut refused = errnos.iter().map(|&errno| Err(std::io::Error::from(errno)));
        enter_until_ended(|| refused.next())
    };
    assert!(tried(&[Errno::INTR, Errno::AGAIN, Errno::BUSY]).is_ok());
    assert!(tried(&[Errno::INTR, Errno::PERM, Errno::INTR]).is_err());
}

#[test]
fn what_passes_is_asked_again_but_not_for_ever() {
    let refused = |errno: Errno| Err::<usize, _>(std::io::Error::from(errno));
    let mut patience = Patience::new(5);
    for errno in [Errno::INTR, Errno::TIME].repeat(1000) {
        assert!(patience.unless_passing(refused(errno)).is_ok());
    }
    assert!(patience.unless_passing(Ok(1)).is_ok());
    // After 1, 2 and 2 ms.
    for errno in [Errno::AGAIN, Errno::BUSY, Errno::AGAIN] {
        assert!(patience.unless_passing(refused(errno)).is_ok());
    }
    for errno in [Errno::AGAIN, Errno::BUSY] {
        assert!(patience.unless_passing(refused(errno)).is_err());
    }
    assert!(patience.unless_passing(refused(Errno::INTR)).is_ok());
    let error = Patience::new(5).unless_passing(refused(Errno::NOMEM));
    let error = error.unwrap_err();
    assert_eq!(driver::system_words(error), "cannot allocate memory");
}

/// The kernel carries out what is asked for in one call, as it does all transfers: whoever
/// began it does not wait.
#[test]
fn one_call_goes_onto_the_ring() {
    let Ok(mut uring) = Uring::new() else {
        eprintln!("skipped: there is no ring here");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [9; 300]).unwrap();
    let files = Files {
        cow: Arc::new(RealHost.open(&path, Access::ReadOnly).unwrap()),
        backing: None,
        new: None,
    };
    let action = Action::read_once(FileOffset(0), Buffer::whole(vec![7; 512]));
    uring.begin(under_way(action).operation, &files);
    assert_eq!((uring.count(), uring.finished.len()), (1, 0));
    let ended = uring.finished(Wait::ForOne).unwrap().unwrap();
    assert_eq!(ended.result, Ok(()));
    let Action::ReadOnce { buffer, count, .. } = ended.operation.action else {
        panic!("it is another action now");
    };
    // All that the file has.
    assert_eq!((count, &buffer.data[..300]), (300, &[9; 300][..]));
}

/// A ring that carries every short write out at once, and a file of `pages` pages; `None` where
/// there is no ring.
fn at_once_over(pages: usize) -> Option<(Uring, Files<RealFile>, tempfile::TempDir)> {
    let Ok(mut uring) = Uring::new() else {
        eprintln!("skipped: there is no ring here");
        return None;
    };
    uring.at_once = AtOnce::always();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, vec![9_u8; pages * 4096]).unwrap();
    let files = Files {
        cow: Arc::new(RealHost.open(&path, Access::ReadWrite).unwrap()),
        backing: None,
        new: None,
    };
    Some((uring, files, directory))
}

fn write_page(page: u64, byte: u8) -> Operation {
    let action = Action::Write {
        at: FileOffset(page * 4096),
        buffer: Buffer::whole(vec![byte; 4096]),
    };
    under_way(action).operation
}

/// A write into the page cache ends where it begins, and goes onto the ring when something is
/// under way that it may have to wait for.
#[test]
fn a_short_write_is_carried_out_at_once() {
    let Some((mut uring, files, directory)) = at_once_over(1) else {
        return;
    };
    let path = directory.path().join("file");
    uring.begin(write_page(0, 1), &files);
    assert_eq!((uring.count(), uring.finished.len()), (0, 1));
    assert_eq!(std::fs::read(&path).unwrap(), [1; 4096]);
    assert!(uring.finished(Wait::No).unwrap().is_some());
    for beside in [Action::SyncData, Action::SetLen(Bytes(4096))] {
        uring.begin(under_way(beside).operation, &files);
        uring.begin(write_page(0, 2), &files);
        let writes = uring.count() - uring.syncs;
        assert_eq!((writes, uring.finished.len()), (1, 0));
        while uring.under_way() > 0 {
            let ended = uring.finished(Wait::ForOne).unwrap().unwrap();
            assert_eq!(ended.result, Ok(()));
        }
        uring.begin(write_page(0, 3), &files);
        assert_eq!((uring.count(), uring.syncs), (0, 0));
        assert!(uring.finished(Wait::No).unwrap().is_some());
    }
}

/// The kernel is told of a read before the write that comes after it is carried out.
#[test]
fn a_write_at_once_does_not_delay_what_was_begun_before() {
    let Some((mut uring, files, _directory)) = at_once_over(2) else {
        return;
    };
    let read = Action::read_once(FileOffset(0), Buffer::whole(vec![7; 512]));
    uring.begin(under_way(read).operation, &files);
    assert!(!uring.ring.submission().is_empty());
    uring.begin(write_page(1, 1), &files);
    assert_eq!((uring.count(), uring.finished.len()), (1, 1));
    assert!(uring.ring.submission().is_empty());
    while uring.under_way() > 0 {
        let ended = uring.finished(Wait::ForOne).unwrap().unwrap();
        assert_eq!(ended.result, Ok(()));
    }
}

#[test]
fn writes_at_once_are_given_back_as_they_were_begun() {
    let Some((mut uring, files, _directory)) = at_once_over(4) else {
        return;
    };
    for page in 0..4 {
        uring.begin(write_page(page, 1), &files);
    }
    let mut ended = Vec::new();
    while let Some(finished) = uring.finished(Wait::No).unwrap() {
        let Action::Write { at, .. } = finished.operation.action else {
            panic!("it is another action now");
        };
        ended.push(at.0 / 4096);
    }
    assert_eq!(ended, [0, 1, 2, 3]);
}

/// Looking for data, or freeing it, may take long: who begins it does not wait, and is woken at
/// its end, beside what is on the ring.
#[test]
fn what_is_not_for_the_ring_is_carried_out_beside_it() {
    let Ok(mut uring) = Uring::new() else {
        eprintln!("skipped: there is no ring here");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, [9; 8192]).unwrap();
    let files = Files {
        cow: Arc::new(RealHost.open(&path, Access::ReadWrite).unwrap()),
        backing: None,
        new: None,
    };
    let room = uring.room();
    let at = FileOffset(0);
    for wait in [Wait::ForOne, Wait::AtMost(Duration::from_secs(600))] {
        let read = Action::read_once(at, Buffer::whole(vec![7; 512]));
        let look = Action::NextData {
            from: at,
            found: None,
        };
        for action in [look, Action::SetLen(Bytes(8192)), read] {
            uring.begin(under_way(action).operation, &files);
        }
        assert_eq!((uring.count(), uring.count_aside()), (1, 2));
        assert_eq!((uring.finished.len(), uring.under_way()), (0, 3));
        assert_eq!(uring.room(), room - 3);
        let mut ended = Vec::new();
        while uring.under_way() > 0 {
            if let Some(finished) = uring.finished(wait).unwrap() {
                assert_eq!(finished.result, Ok(()));
                ended.push(finished.operation.action.kind());
            }
        }
        ended.sort_unstable();
        let expected = [
            OperationKind::Read,
            OperationKind::SetLen,
            OperationKind::NextData,
        ];
        assert_eq!(ended, expected);
        assert_eq!(uring.room(), room);
    }
}

/// A ring whose queue has one entry, and a file of `pages` pages; `None` where there is no ring.
fn of_one_entry(
    builder: &mut io_uring::Builder,
    pages: usize,
) -> Option<(Uring, Files<RealFile>, tempfile::TempDir)> {
    let Ok(ring) = builder.setup_cqsize(2 * DEPTH).build(1) else {
        eprintln!("skipped: there is no ring here");
        return None;
    };
    let (_, files, directory) = at_once_over(pages)?;
    Some((Uring::over(ring), files, directory))
}

#[test]
fn a_queue_that_is_full_is_given_to_the_kernel_and_filled_again() {
    let Some((mut uring, files, _directory)) = of_one_entry(&mut IoUring::builder(), 4) else {
        return;
    };
    let look = Action::NextData {
        from: FileOffset(0),
        found: None,
    };
    uring.begin(under_way(look).operation, &files);
    for page in 0..4 {
        let at = FileOffset(page * 4096);
        let read = Action::Read {
            at,
            buffer: Buffer::whole(vec![0; 4096]),
        };
        uring.begin(under_way(read).operation, &files);
        assert!(uring.ring.submission().is_full());
    }
    assert_eq!((uring.count(), uring.count_aside()), (4, 1));
    assert!(uring.listen());
    let mut reads = 0;
    while uring.under_way() > 0 {
        let ended = uring.finished(Wait::ForOne).unwrap().unwrap();
        assert_eq!(ended.result, Ok(()));
        if let Action::Read { buffer, .. } = ended.operation.action {
            assert!(buffer.data == [9; 4096]);
            reads += 1;
        }
    }
    assert_eq!(reads, 4);
}

/// A ring that is not enabled takes nothing: what fills its queue stays there.
#[test]
fn a_ring_that_takes_nothing_keeps_nobody_from_what_is_carried_out_beside_it() {
    let mut disabled = IoUring::builder();
    disabled.setup_r_disabled();
    let Some((mut uring, files, _directory)) = of_one_entry(&mut disabled, 1) else {
        return;
    };
    for wait in [Wait::ForOne, Wait::AtMost(Duration::from_secs(600))] {
        uring.begin(under_way(Action::SetLen(Bytes(4096))).operation, &files);
        uring.listen();
        // As if that entry had ended, and another had its place.
        uring.listens = false;
        assert!(!uring.listen());
        let ended = uring.finished(wait).unwrap().unwrap();
        assert_eq!(ended.result, Ok(()));
        assert_eq!(uring.under_way(), 0);
    }
}

/// The process of the test below: what it may write into a file ends within the transfer, so
/// that the kernel writes a part of it, and then nothing.
#[test]
#[ignore = "it is run by a_short_write_is_not_taken_for_a_whole_one"]
fn a_write_past_what_the_process_may_write() {
    let Some(path) = std::env::var_os("UBDLAB_SHORT_WRITE") else {
        return;
    };
    let files = Files {
        cow: Arc::new(RealHost.open(path.as_ref(), Access::ReadWrite).unwrap()),
        backing: None,
        new: None,
    };
    let mut uring = Uring::new().unwrap();
    uring.at_once = AtOnce::never();
    let data: Vec<u8> = (0..8192u32).map(|byte| (byte / 7) as u8).collect();
    let action = Action::Write {
        at: FileOffset(0),
        buffer: Buffer::whole(data),
    };
    uring.begin(under_way(action).operation, &files);
    let ended = uring.finished(Wait::ForOne).unwrap().unwrap();
    assert!(ended.result.is_err(), "{:?}", ended.result);
}

#[test]
fn a_short_write_is_not_taken_for_a_whole_one() {
    if Uring::new().is_err() {
        eprintln!("skipped: there is no ring here");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "").unwrap();
    // The shell counts in blocks of 512 or of 1024 bytes.
    let limited = "trap '' XFSZ; ulimit -f 4; exec \"$0\" --ignored --exact \"$1\"";
    let test = "executor::uring::tests::a_write_past_what_the_process_may_write";
    let ran = std::process::Command::new("sh")
        .args(["-c", limited])
        .arg(std::env::current_exe().unwrap())
        .arg(test)
        .env("UBDLAB_SHORT_WRITE", &path)
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stdout)
    );
    let written = std::fs::read(&path).unwrap();
    assert!(matches!(written.len(), 2048 | 4096), "{}", written.len());
    let expected = (0..8192u32).map(|byte| (byte / 7) as u8);
    assert!(written.iter().copied().eq(expected.take(written.len())));
}

/// Where no thread can be started for it, the kernel cancels what it has not begun.
#[test]
fn what_the_kernel_has_not_begun_is_no_failure() {
    let read = || Action::Read {
        at: FileOffset(0),
        buffer: Buffer::whole(vec![0; 512]),
    };
    let cancelled = -Errno::CANCELED.raw_os_error();
    for action in [read(), Action::SyncData] {
        let after = under_way(action).after(cancelled);
        assert!(matches!(after, After::NotBegun));
    }
    // A part that was read goes on from there.
    let mut begun = under_way(read());
    assert!(matches!(begun.after(100), After::GoesOn));
    assert!(matches!(begun.after(412), After::Ended(Ok(()))));
    // A sync that was interrupted is not repeated.
    let interrupted = under_way(Action::SyncData).after(-Errno::INTR.raw_os_error());
    assert!(matches!(interrupted, After::Ended(Err(_))));
}
