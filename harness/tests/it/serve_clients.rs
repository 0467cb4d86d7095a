//! A client of a device that is served, without a protocol: what it asks for ends, and what it
//! holds comes back, whatever becomes of the threads that work for it.

use std::sync::Arc;
use std::sync::mpsc::channel;

use driver::blk::Status;
use driver::units::{Bytes, Sector, SectorCount, SectorRange};
use harness::serve::{Endpoints, Export, Job};
use userhelper::planner::{Shrink, Wish};

use crate::support::cli::{SIZE, Sandbox};
use crate::support::served::bring_up;
use crate::support::waits::{elsewhere, soon};

#[test]
fn jobs_about_no_sectors_end_at_once_and_well() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let (submitter, completer) = up.export.client::<usize>("test".into());
    let nowhere = SectorRange::new(Sector(3), SectorCount(0));
    let one = SectorRange::new(Sector(3), SectorCount(1));
    let range = nowhere;
    let jobs = [
        Job::Read(nowhere),
        Job::Write {
            start: Sector(3),
            data: Vec::new(),
            fua: true,
        },
        Job::Discard { range, fua: true },
        Job::WriteZeroes { range, fua: true },
        Job::WriteZeroes { range, fua: false },
        // One that is about something ends beside them.
        Job::Read(one),
    ];
    let count = jobs.len();
    let jobs = jobs.into_iter().enumerate();
    submitter
        .submit(jobs.map(|(number, job)| (job, number, None)))
        .unwrap();
    drop(submitter);
    let ended = elsewhere(move || {
        let mut ended = Vec::new();
        while let Some(batch) = completer.next_batch().unwrap() {
            ended.extend(batch.into_iter().map(|done| (done.context, done.status)));
        }
        ended.sort_unstable_by_key(|(number, _)| *number);
        ended
    });
    let all_well: Vec<_> = (0..count).map(|number| (number, Status::Ok)).collect();
    assert_eq!(soon(&ended), all_well);
    assert_eq!(up.export.status().unwrap().in_flight, 0);
    up.close().unwrap();
}

/// Over whichever protocol they come: nobody waits for 256 GiB of zeros.
#[test]
fn long_jobs_keep_nobody_waiting_and_are_not_finished_when_the_server_ends() {
    const JOBS: usize = 64;
    let sandbox = Sandbox::with_hole(5 << 30);
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let (submitter, completer) = up.export.client::<()>("test".into());
    let range = SectorRange::new(Sector(1), SectorCount(8 << 20));
    let zeroes = || Job::WriteZeroes { range, fua: true };
    let jobs = std::iter::repeat_with(|| (zeroes(), (), None));
    submitter.submit(jobs.take(JOBS)).unwrap();
    let (other, answers) = up.export.client::<()>("other".into());
    for start in (0..64).map(|n| Sector(range.end().0 + n)) {
        let data = vec![7; 512];
        let fua = false;
        let write = Job::Write { start, data, fua };
        let read = Job::Read(SectorRange::new(start, SectorCount(1)));
        for (job, expected) in [(write, vec![]), (read, vec![vec![7; 512]])] {
            other.submit([(job, (), None)]).unwrap();
            let done = answers.next_batch().unwrap().unwrap();
            assert_eq!((done[0].status, &done[0].data), (Status::Ok, &expected));
        }
    }
    drop(Endpoints::of(up.export.clone()));
    drop(submitter);
    let ended = elsewhere(move || {
        let mut ended = Vec::new();
        while let Some(batch) = completer.next_batch().unwrap() {
            ended.extend(
                batch
                    .into_iter()
                    .map(|done| (done.status, done.is_given_up)),
            );
        }
        ended
    });
    let ended = soon(&ended);
    assert_eq!(ended.len(), JOBS);
    let given_up = (Status::IoError, true);
    assert!(
        ended
            .iter()
            .all(|end| [(Status::Ok, false), given_up].contains(end))
    );
    assert!(ended.contains(&given_up));
    assert_eq!(up.export.status().unwrap().in_flight, 0);
    drop((other, answers));
    up.close().unwrap();
}

/// As where the thread that writes replies has panicked.
#[test]
fn a_client_whose_answers_are_lost_hears_of_it_and_holds_nothing() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let (submitter, mut completer) = up.export.client::<Arc<()>>("test".into());
    let (alarm, alarmed) = channel();
    completer.when_lost(move || alarm.send(()).unwrap());
    let kept = Arc::new(());
    let read = |sector| {
        let job = Job::Read(SectorRange::new(Sector(sector), SectorCount(8)));
        let permit = submitter.share().take(4096);
        submitter.submit([(job, Arc::clone(&kept), Some(permit))])
    };
    read(0).unwrap();
    let answers = std::thread::spawn(move || {
        let _first = completer.next_batch();
        panic!("the answer is too much");
    });
    assert!(answers.join().is_err());
    soon(&alarmed);
    let refused = read(8).unwrap_err();
    assert_eq!(refused.len(), 1);
    drop(refused);
    assert_eq!(Arc::strong_count(&kept), 1);
    let status = up.export.status().unwrap();
    assert_eq!((status.in_flight, status.buffered_bytes), (0, 0));
    // Others go on.
    let (other, answers) = up.export.client::<()>("other".into());
    other.submit([(Job::Flush, (), None)]).unwrap();
    assert_eq!(answers.next_batch().unwrap().unwrap().len(), 1);
    drop((submitter, other));
    up.close().unwrap();
}

/// A client that goes as it should sets off no alarm.
#[test]
fn a_client_that_ends_loses_nothing() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let (submitter, mut completer) = up.export.client::<()>("test".into());
    completer.when_lost(|| panic!("nothing is lost"));
    submitter.submit([(Job::Flush, (), None)]).unwrap();
    drop(submitter);
    while completer.next_batch().unwrap().is_some() {}
    drop(completer);
    assert!(up.export.status().unwrap().clients.is_empty());
    up.close().unwrap();
}

fn grow(export: &Export, by: u64) -> Result<u64, String> {
    let new_size = Bytes(export.capacity().bytes().0 + by);
    let resized = export.resize(Wish {
        new_size,
        strategy: None,
        shrink: Shrink::Refuse,
        online: true,
    });
    let resized = resized.map_err(|error| error.to_string())?;
    Ok(resized.new_size.0)
}

/// One that is slow to take note of a new size keeps others from nothing.
#[test]
fn whoever_watches_for_resizes_may_take_its_time() {
    let sandbox = Sandbox::with_device();
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    let (begins, has_begun) = channel();
    let (goes_on, until) = channel::<()>();
    let until = std::sync::Mutex::new(until);
    up.export.when_resized(Arc::new(move |_| {
        let _ = begins.send(());
        let _ = until.lock().unwrap().recv();
        false
    }));
    let export = up.export.clone();
    let first = elsewhere(move || grow(&export, 1 << 20));
    soon(&has_begun);
    let (seen, sees) = channel();
    let export = up.export.clone();
    let entered = elsewhere(move || {
        export.when_resized(Arc::new(move |size| seen.send(size).is_ok()));
    });
    soon(&entered);
    drop(goes_on);
    assert_eq!(soon(&first), Ok(2 * SIZE));
    assert_eq!(grow(&up.export, 1 << 20), Ok(3 * SIZE));
    assert_eq!(soon(&sees), Bytes(3 * SIZE).whole_sectors());
    up.close().unwrap();
}
