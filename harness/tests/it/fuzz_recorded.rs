//! A recorded life is judged like a model's: without the kernel that has lived it, and without a
//! mount.

use std::slice::from_ref;

use driver::linux::Defect;
use driver::units::Sector;
use harness::fuzz::case::{Case, DriverName, Image, ImageVersion, Stimulus};
use harness::fuzz::explore::Search;
use harness::fuzz::generate::{Subject, generate};
use harness::fuzz::paths::COW;
use harness::fuzz::recorded::{
    Deed, Ending, GuestOperation, GuestRequest, GuestWord, HostRecord, Recording, Witnessed, deeds,
    deeds_after, numbered_after, pieces,
};
use harness::fuzz::story::tell_recorded;
use harness::fuzz::violation::{Kind, Violation};
use harness::fuzz::world::Mending;
use harness::kernel::naming::{Explained, explain};
use harness::plain_format::{Layout, Version};
use harness::stamp::Stamp;

const SECTORS: u64 = 128;
const ALIGNMENT: u32 = 4096;
const SEED: u64 = 1;

/// A write, and then a flush.
fn case() -> Case {
    let mut case = generate(SEED, &Subject::healthy(DriverName::Linux612));
    case.image = Image::sound(SECTORS, ImageVersion::V3, ALIGNMENT);
    case.kernel = harness::fuzz::case::KernelSetup::default();
    case.retries = false;
    let life = &mut case.lives[0];
    life.backing = harness::fuzz::case::BackingFile::AsItWas;
    life.faults.clear();
    life.actions = vec![
        Stimulus::Write {
            start: 70,
            count: 2,
            fua: false,
        },
        Stimulus::Drain,
        Stimulus::Flush,
        Stimulus::Drain,
    ];
    case
}

fn write(at: u64, data: &[u8]) -> Witnessed {
    let len = data.len() as u64;
    Witnessed::Host(HostRecord {
        kind: "write".into(),
        path: COW.into(),
        at,
        len,
        done: len,
        data: Some(HostRecord::encoded(data)),
        errno: None,
    })
}

fn ended(number: u32, errno: Option<i32>, brought: &[u8]) -> Witnessed {
    Witnessed::Guest(GuestWord::Ended {
        number,
        errno,
        brought: pieces(brought),
    })
}

/// What Linux's driver does with it: the data, the words of the bitmap, and nothing for the flush.
fn recording() -> Recording {
    recording_of(SECTORS, 0)
}

/// Likewise on a device of this many sectors, where each byte of memory past the bitmap is this.
fn recording_of(sectors: u64, foreign: u8) -> Recording {
    let layout = Layout::of(Version::V3, sectors * 512, ALIGNMENT).unwrap();
    let mut disk = vec![0; (sectors * 512) as usize];
    Stamp::BACKING.fill(Sector(0), &mut disk);
    let mut witnessed = vec![Witnessed::Guest(GuestWord::Opened { sectors })];
    for deed in deeds(&case().lives[0], sectors, sectors) {
        let Deed::Submit(asked) = deed else { continue };
        let number = asked.number;
        witnessed.push(Witnessed::Guest(GuestWord::Submitted { number }));
        match asked.what {
            GuestOperation::Read => witnessed.push(ended(number, None, &disk)),
            GuestOperation::Write => {
                let range =
                    (asked.start * 512) as usize..((asked.start + asked.count) * 512) as usize;
                Stamp(number).fill(Sector(asked.start), &mut disk[range.clone()]);
                witnessed.push(write(layout.place(asked.start), &disk[range]));
                let mut words = [0; 16];
                words[layout.bitmap_len as usize..].fill(foreign);
                for sector in asked.start..asked.start + asked.count {
                    let (byte, mask) = layout.bit(sector);
                    words[byte as usize] |= mask;
                }
                witnessed.push(write(layout.bitmap, &words));
                witnessed.push(ended(number, None, &[]));
            }
            _ => witnessed.push(ended(number, None, &[])),
        }
    }
    witnessed.push(Witnessed::Guest(GuestWord::Closed));
    Recording {
        kernel: "Linux of a test".into(),
        longest: sectors,
        witnessed,
        ending: Ending::Whole,
    }
}

fn search(recording: &Recording, mending: Mending) -> Option<(Case, Violation)> {
    let search = Search::for_anything(SEED);
    let explored = search
        .of_recorded(&case(), from_ref(recording), mending)
        .unwrap();
    explored.finding.map(|(case, violation)| (*case, violation))
}

#[test]
fn what_a_flush_has_not_synced_is_found_and_named_and_then_what_it_hid() {
    let recording = recording();
    let explained = |violation: &Violation, mending| {
        explain(&case(), from_ref(&recording), violation, mending, SEED).unwrap()
    };
    let as_it_is = Mending::default();
    let (_, lost) = search(&recording, as_it_is).expect("the flush is not seen to do nothing");
    let flush_noop = Explained::Mended(vec![Defect::FlushNoop]);
    assert_eq!(explained(&lost, as_it_is), flush_noop, "{lost}");

    let flushes = Mending {
        flushes: true,
        ..as_it_is
    };
    let (found, zeros) = search(&recording, flushes).expect("the bit may come before its data");
    assert_eq!(
        (zeros.kind, zeros.sector),
        (Kind::Zeros, Some(70)),
        "{zeros}"
    );
    let unordered = Explained::Mended(vec![Defect::UnorderedPublish]);
    assert_eq!(explained(&zeros, flushes), unordered);

    // The story of it ends in what was found, and shows what was lost.
    let told = tell_recorded(&found, from_ref(&recording), flushes).unwrap();
    assert_eq!(told.violation.as_ref(), Some(&zeros));
    let story = told.to_string();
    assert!(story.contains("the power goes here"), "{story}");
    assert!(
        story.contains("request 1002 is submitted: a write at"),
        "{story}"
    );

    let both = Mending {
        order: true,
        ..flushes
    };
    assert_eq!(search(&recording, both), None);
}

#[test]
fn a_read_that_brings_another_sector_is_found_without_a_crash() {
    let mut recording = recording();
    let mut wrong = vec![0; (SECTORS * 512) as usize];
    Stamp::BACKING.fill(Sector(8), &mut wrong);
    for witnessed in &mut recording.witnessed {
        if let Witnessed::Guest(GuestWord::Ended {
            number: 1001,
            brought,
            ..
        }) = witnessed
        {
            *brought = pieces(&wrong);
        }
    }
    let (_, found) = search(&recording, Mending::default()).expect("it shows other sectors");
    assert_eq!((found.kind, found.sector), (Kind::Misplaced, Some(0)));
}

/// Sector 0 is dirty, and the next one is not: what lies past the first segment comes from the
/// wrong place.
#[test]
fn a_read_past_a_segment_of_both_files_is_named_for_its_offset() {
    let mut case = case();
    case.image.dirty = vec![(0, 1)];
    let mut recording = recording();
    let mut misled = vec![0; (SECTORS * 512) as usize];
    Stamp(1).fill(Sector(0), &mut misled[..512]);
    Stamp::BACKING.fill(Sector(1), &mut misled[512..8 * 512]);
    Stamp::BACKING.fill(Sector(7), &mut misled[8 * 512..]);
    for witnessed in &mut recording.witnessed {
        if let Witnessed::Guest(GuestWord::Ended {
            number: 1001,
            brought,
            ..
        }) = witnessed
        {
            *brought = pieces(&misled);
        }
    }
    let search = Search::for_anything(SEED);
    let explored = search.of_recorded(&case, from_ref(&recording), Mending::default());
    let (_, found) = explored.unwrap().finding.expect("it shows other sectors");
    assert_eq!((found.kind, found.sector), (Kind::Misplaced, Some(8)));
    let explained = explain(
        &case,
        from_ref(&recording),
        &found,
        Mending::default(),
        SEED,
    );
    let last_run_offset = Explained::Mended(vec![Defect::LastRunOffset]);
    assert_eq!(explained, Ok(last_run_offset));
}

/// Two reads of one segment each, in flight together: the block layer makes one request of them,
/// and what the second one brings comes from the wrong place.
#[test]
fn reads_that_are_made_one_request_mislead_each_other() {
    let mut case = case();
    case.image.dirty = vec![(0, 1)];
    case.lives[0].actions = vec![Stimulus::Read {
        start: 0,
        count: 16,
    }];
    let mut first_page = vec![0; 8 * 512];
    Stamp(1).fill(Sector(0), &mut first_page[..512]);
    Stamp::BACKING.fill(Sector(1), &mut first_page[512..]);
    let page = |at: u64| {
        let mut page = vec![0; 8 * 512];
        Stamp::BACKING.fill(Sector(at), &mut page);
        page
    };
    let sectors = SECTORS;
    let mut witnessed = vec![Witnessed::Guest(GuestWord::Opened { sectors })];
    let submitted: Vec<_> = deeds(&case.lives[0], SECTORS, 8)
        .into_iter()
        .filter_map(|deed| match deed {
            Deed::Submit(asked) => Some(asked),
            _ => None,
        })
        .collect();
    let of_life: Vec<_> = submitted[16..18].to_vec();
    for asked in &of_life {
        let number = asked.number;
        witnessed.push(Witnessed::Guest(GuestWord::Submitted { number }));
    }
    witnessed.push(ended(of_life[0].number, None, &first_page));
    // It goes on seven sectors after the first, where its last run began.
    witnessed.push(ended(of_life[1].number, None, &page(7)));
    let recording = Recording {
        longest: 8,
        witnessed,
        ..recording()
    };
    let search = |mending| {
        let search = Search::for_anything(SEED);
        let explored = search.of_recorded(&case, from_ref(&recording), mending);
        explored.unwrap().finding.map(|(_, violation)| violation)
    };
    let as_it_is = Mending::default();
    let found = search(as_it_is).expect("it shows other sectors");
    assert_eq!((found.kind, found.sector), (Kind::Misplaced, Some(8)));
    let offsets = Mending {
        offsets: true,
        ..as_it_is
    };
    assert_eq!(search(offsets), None);
}

#[test]
fn an_error_is_wrong_unless_the_host_has_failed_since_the_request_was_submitted() {
    let mut recording = recording();
    let is_submission =
        |it: &Witnessed| matches!(it, Witnessed::Guest(GuestWord::Submitted { number: 1002 }));
    let at = recording.witnessed.iter().position(is_submission).unwrap();
    // The data is not written, nor a word of the bitmap.
    let Witnessed::Host(data) = recording.witnessed.remove(at + 1) else {
        panic!("the data comes after the submission");
    };
    recording.witnessed.remove(at + 1);
    recording.witnessed[at + 1] = ended(1002, Some(5), &[]);
    let last = recording.witnessed.len() - 2;
    let mut backing = vec![0; (SECTORS * 512) as usize];
    Stamp::BACKING.fill(Sector(0), &mut backing);
    recording.witnessed[last] = ended(1004, None, &backing);
    let (_, found) = search(&recording, Mending::default()).expect("nothing has failed");
    assert_eq!(found.kind, Kind::WrongStatus);
    let failed = HostRecord {
        done: 0,
        data: None,
        errno: Some(5),
        ..data
    };
    recording.witnessed.insert(at + 1, Witnessed::Host(failed));
    assert_eq!(search(&recording, Mending::default()), None);
}

#[test]
fn a_kernel_that_dies_or_hangs_is_a_finding_with_what_it_waits_for() {
    for (ending, kind) in [
        (Ending::Died("Kernel panic".into()), Kind::Died),
        (Ending::Hung(String::new()), Kind::DoesNotEnd),
    ] {
        let mut recording = recording();
        recording.witnessed.truncate(2);
        recording.ending = ending;
        let (_, found) =
            search(&recording, Mending::default()).expect("it has not come to its end");
        assert_eq!(found.kind, kind);
        assert!(found.what.contains("waits for a read at"), "{found}");
    }
}

/// A first life that is killed after its write has been acknowledged, and a second one that reads
/// everything, and finds `stamp` where that was written.
fn second_life(stamp: Stamp) -> (Case, Vec<Recording>) {
    let mut case = case();
    let mut second = case.lives[0].clone();
    second.actions.clear();
    case.lives.push(second);
    let mut first = recording();
    let is_flush =
        |it: &Witnessed| matches!(it, Witnessed::Guest(GuestWord::Submitted { number: 1003 }));
    let flush = first.witnessed.iter().position(is_flush).unwrap();
    first.witnessed.truncate(flush);
    first.ending = Ending::Killed;
    let mut disk = vec![0; (SECTORS * 512) as usize];
    Stamp::BACKING.fill(Sector(0), &mut disk);
    stamp.fill(Sector(70), &mut disk[70 * 512..72 * 512]);
    let sectors = SECTORS;
    let mut witnessed = vec![Witnessed::Guest(GuestWord::Opened { sectors })];
    for deed in deeds_after(numbered_after(1), &case.lives[1], SECTORS, SECTORS) {
        if let Deed::Submit(GuestRequest { number, .. }) = deed {
            witnessed.push(Witnessed::Guest(GuestWord::Submitted { number }));
            witnessed.push(ended(number, None, &disk));
        }
    }
    let second = Recording {
        witnessed,
        ending: Ending::Whole,
        ..first.clone()
    };
    (case, vec![first, second])
}

#[test]
fn a_life_after_a_kill_shows_what_the_kill_has_left() {
    let anything = || Search::for_anything(SEED);
    let flushes = Mending {
        flushes: true,
        order: true,
        ..Mending::default()
    };
    let (case, recordings) = second_life(Stamp(1002));
    let explored = anything().of_recorded(&case, &recordings, flushes);
    assert_eq!(explored.unwrap().finding, None);

    // It was there when the device was opened, and does not go back.
    let (case, recordings) = second_life(Stamp::BACKING);
    let explored = anything().of_recorded(&case, &recordings, flushes);
    let (found, stale) = explored.unwrap().finding.expect("an old sector is shown");
    assert_eq!((stale.kind, stale.sector), (Kind::StaleRead, Some(70)));
    assert_eq!(found.lives.len(), 2, "it is in the second life");
    let told = tell_recorded(&found, &recordings, flushes).unwrap();
    assert_eq!(told.violation.as_ref(), Some(&stale));
    let story = told.to_string();
    assert!(story.contains("the kernel is killed"), "{story}");
}

#[test]
fn memory_of_the_kernel_past_the_bitmap_is_found_when_the_device_is_closed() {
    const BITS_END_IN_A_WORD: u64 = 100;
    let mut case = case();
    case.image = Image::sound(BITS_END_IN_A_WORD, ImageVersion::V3, ALIGNMENT);
    let search = |recording: &Recording, mending| {
        let search = Search::for_anything(SEED);
        let explored = search.of_recorded(&case, from_ref(recording), mending);
        explored.unwrap().finding
    };
    let others = Mending {
        flushes: true,
        order: true,
        ..Mending::default()
    };
    let zeros = recording_of(BITS_END_IN_A_WORD, 0);
    assert_eq!(search(&zeros, others), None);
    let foreign = recording_of(BITS_END_IN_A_WORD, 0x5a);
    let (found, violation) = search(&foreign, others).expect("there are three such bytes");
    assert_eq!(violation.kind, Kind::Inconsistent);
    assert_eq!(
        violation.to_string(),
        "inconsistent: after closing: byte 8205: gap before the data: a byte past the bitmap is not \
         zero"
    );
    let explained = explain(&found, from_ref(&foreign), &violation, others, SEED);
    let memory = Explained::Mended(vec![Defect::MemoryPastTheBitmap]);
    assert_eq!(explained, Ok(memory));
    let all = Mending {
        memory: true,
        ..others
    };
    assert_eq!(search(&foreign, all), None);
    let told = tell_recorded(&found, from_ref(&foreign), others).unwrap();
    assert_eq!(told.violation, Some(violation));
}

#[test]
fn a_recording_of_another_case_is_refused() {
    let mut recording = recording();
    let number = 77;
    recording
        .witnessed
        .push(Witnessed::Guest(GuestWord::Submitted { number }));
    let search = Search::for_anything(SEED);
    let refused = search.of_recorded(&case(), from_ref(&recording), Mending::default());
    let error = refused.map(|_| ()).unwrap_err().to_string();
    let at = recording.witnessed.len() - 1;
    let expected = format!("witnessed[{at}]: found request 77, expected one of the case's");
    assert_eq!(error, expected);
}
