//! A kernel held against the model of its driver: what differs is found, in words that say what
//! each of the two does, and what does not differ is not.

use std::collections::BTreeSet;

use harness::fuzz::case::Stimulus;
use harness::fuzz::case::{BackingFile, Case, DriverName, Image, ImageVersion, KernelSetup};
use harness::fuzz::generate::{Subject, generate};
use harness::fuzz::paths::{BACKING, COW};
use harness::fuzz::recorded::{
    Deed, Ending, GuestOperation, GuestRequest, GuestWord, HostRecord, Recording, Witnessed, deeds,
    pieces,
};
use harness::kernel::against::difference::DifferenceFile;
use harness::kernel::against::{Compared, compare};
use harness::plain_format::{Layout, Version};
use harness::stamp::Stamp;

use driver::units::Sector;

use crate::support::cli::{Sandbox, output, ubdlab};
use crate::support::fuse::can_mount;
use crate::support::peers::peer;

const SECTORS: u64 = 128;
const ALIGNMENT: u32 = 4096;
const SEGMENT: u64 = 8;

/// Reads and writes of several segments, zeros, a discard and a flush, on an image that has sectors
/// 8 to 11 already.
fn case() -> Case {
    let mut case = generate(1, &Subject::healthy(DriverName::Linux612));
    case.image = Image {
        dirty: vec![(8, 4)],
        ..Image::sound(SECTORS, ImageVersion::V3, ALIGNMENT)
    };
    case.kernel = KernelSetup::default();
    case.retries = false;
    let life = &mut case.lives[0];
    life.backing = BackingFile::AsItWas;
    life.faults.clear();
    let write = |start, count| Stimulus::Write {
        start,
        count,
        fua: false,
    };
    life.actions = vec![
        write(70, 20),
        write(120, 8),
        Stimulus::Drain,
        Stimulus::Flush,
        Stimulus::Drain,
        Stimulus::WriteZeroes { start: 6, count: 3 },
        Stimulus::Drain,
        Stimulus::Discard {
            start: 30,
            count: 9,
        },
        Stimulus::Drain,
    ];
    case
}

/// What Linux's driver does, said once more: in segments of eight sectors, each in runs of sectors
/// that are in the same file, and two words of the bitmap after a segment that had a clean sector.
struct Double {
    layout: Layout,
    dirty: BTreeSet<u64>,
    disk: Vec<u8>,
    witnessed: Vec<Witnessed>,
}

impl Double {
    fn asks(&mut self, kind: &str, path: &str, at: u64, len: u64, data: Option<&[u8]>) {
        self.witnessed.push(Witnessed::Host(HostRecord {
            kind: kind.into(),
            path: path.into(),
            at,
            len,
            done: len,
            data: data.map(HostRecord::encoded),
            errno: None,
        }));
    }

    fn opens(&mut self) {
        self.asks("read", COW, 0, 4136, None);
        self.asks("read", COW, self.layout.bitmap, SECTORS / 8, None);
    }

    fn reads(&mut self, start: u64, end: u64) {
        let mut at = start;
        while at < end {
            let is_dirty = self.dirty.contains(&at);
            let is_other = |it: &u64| self.dirty.contains(it) != is_dirty;
            let run = (at..end).find(is_other).unwrap_or(end);
            match is_dirty {
                true => self.asks("read", COW, self.layout.place(at), (run - at) * 512, None),
                false => self.asks("read", BACKING, at * 512, (run - at) * 512, None),
            }
            at = run;
        }
    }

    /// The data has been written, or is gone: the bits.
    fn publishes(&mut self, start: u64, end: u64) {
        let was = self.dirty.len();
        self.dirty.extend(start..end);
        if self.dirty.len() == was {
            return;
        }
        // There are two words in all, and the last two are written.
        let mut words = [0; 16];
        for &sector in &self.dirty {
            let (byte, mask) = self.layout.bit(sector);
            words[byte as usize] |= mask;
        }
        self.asks("write", COW, self.layout.bitmap, 16, Some(&words));
    }

    fn serves(&mut self, asked: GuestRequest) {
        let GuestRequest {
            number,
            what,
            start,
            count,
        } = asked;
        let bytes = (start * 512) as usize..((start + count) * 512) as usize;
        match what {
            GuestOperation::Write => {
                Stamp(number).fill(Sector(start), &mut self.disk[bytes.clone()])
            }
            GuestOperation::WriteZeroes | GuestOperation::Discard => {
                self.disk[bytes.clone()].fill(0);
            }
            _ => {}
        }
        let place = self.layout.place(start);
        let len = count * 512;
        match what {
            GuestOperation::Discard => self.asks("punch_hole", COW, place, len, None),
            GuestOperation::WriteZeroes => self.asks("zero_range", COW, place, len, None),
            _ => {}
        }
        match what {
            GuestOperation::Discard | GuestOperation::WriteZeroes => {
                self.publishes(start, start + count);
            }
            _ => {}
        }
        let segments = (start..start + count).step_by(SEGMENT as usize);
        for begin in segments {
            let end = (begin + SEGMENT).min(start + count);
            match what {
                GuestOperation::Read => self.reads(begin, end),
                GuestOperation::Write => {
                    let data = (begin * 512) as usize..(end * 512) as usize;
                    let data = self.disk[data].to_vec();
                    let place = self.layout.place(begin);
                    self.asks("write", COW, place, data.len() as u64, Some(&data));
                    self.publishes(begin, end);
                }
                _ => {}
            }
        }
    }

    fn ends(&mut self, asked: GuestRequest) {
        let GuestRequest {
            number,
            what,
            start,
            count,
        } = asked;
        let brought = match what {
            GuestOperation::Read => {
                &self.disk[(start * 512) as usize..((start + count) * 512) as usize]
            }
            _ => &[],
        };
        self.witnessed.push(Witnessed::Guest(GuestWord::Ended {
            number,
            errno: None,
            brought: pieces(brought),
        }));
    }
}

/// The life of the case with that driver. Requests in flight together are served last ones first.
fn recording() -> Recording {
    recording_of(&case(), |double, in_flight| {
        for &asked in in_flight.iter().rev() {
            double.serves(asked);
            double.ends(asked);
        }
    })
}

/// The life of a case with that driver. `serve` is given the requests in flight together.
fn recording_of(case: &Case, serve: impl Fn(&mut Double, &[GuestRequest])) -> Recording {
    let mut disk = vec![0; (SECTORS * 512) as usize];
    Stamp::BACKING.fill(Sector(0), &mut disk);
    Stamp(1).fill(Sector(8), &mut disk[8 * 512..12 * 512]);
    let mut double = Double {
        layout: Layout::of(Version::V3, SECTORS * 512, ALIGNMENT).unwrap(),
        dirty: (8..12).collect(),
        disk,
        witnessed: Vec::new(),
    };
    double.opens();
    // The kernel looks for partitions in the first page.
    double.reads(0, SEGMENT);
    double.opens();
    let sectors = SECTORS;
    let opened = GuestWord::Opened { sectors };
    double.witnessed.push(Witnessed::Guest(opened));
    let mut in_flight = Vec::new();
    for deed in deeds(&case.lives[0], SECTORS, SEGMENT) {
        match deed {
            Deed::Submit(asked) => {
                let number = asked.number;
                let submitted = GuestWord::Submitted { number };
                double.witnessed.push(Witnessed::Guest(submitted));
                in_flight.push(asked);
            }
            _ => {
                serve(&mut double, &in_flight);
                in_flight.clear();
            }
        }
    }
    double.witnessed.push(Witnessed::Guest(GuestWord::Closed));
    Recording {
        kernel: "Linux of a test 6.1.0".into(),
        longest: SEGMENT,
        witnessed: double.witnessed,
        ending: Ending::Whole,
    }
}

fn compared(recording: &Recording) -> Compared {
    compare(&case(), recording, DriverName::Linux612).unwrap()
}

/// The place of the first operation of this kind on this file from a place on.
fn find(recording: &Recording, kind: &str, path: &str, from: usize) -> usize {
    let is_it = |witnessed: &Witnessed| match witnessed {
        Witnessed::Host(record) => record.kind == kind && record.path == path,
        Witnessed::Guest(_) => false,
    };
    let found = recording.witnessed[from..].iter().position(is_it);
    from + found.expect("the recording has one")
}

fn at(recording: &mut Recording, index: usize) -> &mut HostRecord {
    match &mut recording.witnessed[index] {
        Witnessed::Host(record) => record,
        Witnessed::Guest(word) => panic!("found {word:?}"),
    }
}

fn difference(recording: &Recording) -> String {
    let found = compared(recording).difference;
    found.expect("they differ").to_string()
}

#[test]
fn what_the_same_driver_does_agrees_in_every_operation() {
    let recording = recording();
    let found = compared(&recording);
    assert_eq!(found.difference, None);
    assert_eq!(found.cut_short, None);
    let is_host = |it: &&Witnessed| matches!(it, Witnessed::Host(_));
    let asked = recording.witnessed.iter().filter(is_host).count() as u64;
    assert_eq!(found.host_operations, asked);
    let is_end = |it: &&Witnessed| matches!(it, Witnessed::Guest(GuestWord::Ended { .. }));
    let ended = recording.witnessed.iter().filter(is_end).count() as u64;
    assert_eq!(found.requests, ended);
    assert_eq!(found.sectors_read, 2 * SECTORS);
}

#[test]
fn of_requests_that_ask_for_the_same_the_one_that_ends_first_was_served_first() {
    let mut case = case();
    // The guest makes three requests of each. The three of the second would go as one, too.
    let read = Stimulus::Read {
        start: 18,
        count: 22,
    };
    case.lives[0].actions = vec![read, read, Stimulus::Drain];
    let recording = recording_of(&case, |double, in_flight| {
        let Some((&first, others)) = in_flight.split_first() else {
            return;
        };
        double.serves(first);
        double.ends(first);
        others.iter().for_each(|&asked| double.serves(asked));
        others.iter().for_each(|&asked| double.ends(asked));
    });
    let found = compare(&case, &recording, DriverName::Linux612).unwrap();
    assert_eq!(found.difference, None);
    assert_eq!(found.sectors_read, 2 * (SECTORS + 22));
}

#[test]
fn another_place_and_another_length_are_differences() {
    let mut recording = recording();
    let write = find(&recording, "write", COW, 0);
    let place = at(&mut recording, write).at;
    at(&mut recording, write).at += 512;
    assert_eq!(
        difference(&recording),
        format!(
            "witnessed[{write}]: the kernel asks for write /disk/cow {}+4096, the model asks for \
             write /disk/cow {}+4096 or write /disk/cow {}+4096 or write /disk/cow {}+2048 or 1 more",
            place + 512,
            place - 50 * 512,
            place - 42 * 512,
            place - 34 * 512,
        )
    );
}

#[test]
fn another_bit_is_a_difference_with_the_words_of_both() {
    let mut recording = recording();
    let data = find(&recording, "write", COW, 0);
    let words = find(&recording, "write", COW, data + 1);
    let record = at(&mut recording, words);
    let mut bytes = record.data().unwrap();
    assert_eq!(bytes, [0, 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255]);
    bytes[15] = 127;
    record.data = Some(HostRecord::encoded(&bytes));
    assert_eq!(
        difference(&recording),
        format!(
            "witnessed[{words}]: the kernel asks for write /disk/cow 8192+16 (00 0f 00 00 00 00 00 \
             00 00 00 00 00 00 00 00 7f), the model asks for write /disk/cow 8192+16 (00 0f 00 00 00 \
             00 00 00 00 00 00 00 00 00 00 ff)"
        )
    );
}

#[test]
fn an_operation_that_is_missing_or_is_one_too_many_is_a_difference() {
    let whole = recording();
    let words = find(&whole, "write", COW, find(&whole, "write", COW, 0) + 1);
    let mut missing = whole.clone();
    missing.witnessed.remove(words);
    let Witnessed::Guest(GuestWord::Ended { number, .. }) = missing.witnessed[words] else {
        panic!("the request ends after its words");
    };
    assert_eq!(
        difference(&missing),
        format!(
            "witnessed[{words}]: the kernel ends request {number} well, the model asks for write \
             /disk/cow 8192+16 (00 0f 00 00 00 00 00 00 00 00 00 00 00 00 00 ff) before that"
        )
    );

    let mut more = whole.clone();
    let sync = HostRecord {
        kind: "sync_data".into(),
        path: COW.into(),
        at: 0,
        len: 0,
        done: 0,
        data: None,
        errno: None,
    };
    let end = more.witnessed.len();
    more.witnessed.push(Witnessed::Host(sync));
    assert_eq!(
        difference(&more),
        format!(
            "witnessed[{end}]: the kernel asks for sync data /disk/cow, the model asks for nothing"
        )
    );
}

#[test]
fn another_status_and_another_sector_are_differences() {
    let mut failed = recording();
    let is_flush = |it: &Witnessed| match it {
        Witnessed::Guest(GuestWord::Ended { number, .. }) => *number == 1021,
        _ => false,
    };
    let flush = failed.witnessed.iter().position(is_flush).unwrap();
    if let Witnessed::Guest(GuestWord::Ended { errno, .. }) = &mut failed.witnessed[flush] {
        *errno = Some(5);
    }
    assert_eq!(
        difference(&failed),
        format!(
            "witnessed[{flush}]: the kernel ends request 1021 with \"input/output error\", the model \
             ends request 1021 well"
        )
    );

    let mut misled = recording();
    let is_read = |it: &Witnessed| matches!(it, Witnessed::Guest(GuestWord::Ended { .. }));
    let read = misled.witnessed.iter().position(is_read).unwrap();
    if let Witnessed::Guest(GuestWord::Ended { brought, .. }) = &mut misled.witnessed[read] {
        let mut content = vec![0; 8 * 512];
        Stamp::BACKING.fill(Sector(0), &mut content);
        content[5 * 512..6 * 512].fill(0);
        *brought = pieces(&content);
    }
    assert_eq!(
        difference(&misled),
        format!(
            "witnessed[{read}]: the kernel reads zeros in sector 5 for request 1001, the model reads \
             the backing file's sector 5 in sector 5 for request 1001"
        )
    );
}

#[test]
fn what_the_host_has_told_the_kernel_it_tells_the_model() {
    let mut recording = recording();
    let write = find(&recording, "write", COW, 0);
    let record = at(&mut recording, write);
    (record.done, record.data, record.errno) = (0, None, Some(28));
    // Its words are not written, and the request ends so.
    recording.witnessed.remove(write + 1);
    let Witnessed::Guest(GuestWord::Ended { errno, .. }) = &mut recording.witnessed[write + 1]
    else {
        panic!("the request ends after its data");
    };
    *errno = Some(28);
    // The bits stay set in memory, and nothing is at the place that they stand for: the recording's
    // reads show what was never written.
    let found = difference(&recording);
    let expected = "the kernel reads what request 1020 wrote to sector 120 in sector 120 for request \
                    1039, the model reads zeros in sector 120 for request 1039";
    assert!(found.ends_with(expected), "{found}");
}

/// The life of the case in which a change, the one of this number, is served as `serve` does it. Of
/// what that asks for, the host has failed in the operation at this place. The guest hears `heard`.
fn failing(
    number: u32,
    serve: impl Fn(&mut Double, GuestRequest),
    (place, said): (usize, i32),
    heard: Option<i32>,
) -> Recording {
    recording_of(&case(), |double, in_flight| {
        for &asked in in_flight.iter().rev() {
            if asked.number != number {
                double.serves(asked);
                double.ends(asked);
                continue;
            }
            let begin = double.witnessed.len();
            serve(double, asked);
            let Some(Witnessed::Host(record)) = double.witnessed.get_mut(begin + place) else {
                panic!("the change asks for that");
            };
            (record.done, record.data, record.errno) = (0, None, Some(said));
            double.ends(asked);
            if let Some(Witnessed::Guest(GuestWord::Ended { errno, .. })) =
                double.witnessed.last_mut()
            {
                *errno = heard;
            }
        }
    })
}

/// The data of a write that fails, without its words. The bits are set in memory, and the COW file
/// has a hole there.
fn writes_in_vain(double: &mut Double, asked: GuestRequest) {
    let GuestRequest { start, count, .. } = asked;
    let (place, len) = (double.layout.place(start), count * 512);
    double.asks("write", COW, place, len, None);
    double.dirty.extend(start..start + count);
    double.disk[(start * 512) as usize..((start + count) * 512) as usize].fill(0);
}

#[test]
fn an_error_that_the_kernel_has_misheard_is_taken_from_the_recording() {
    const WRITE: u32 = 1020;
    const DISCARD: u32 = 1023;
    let whole = |double: &mut Double, asked| double.serves(asked);
    for (what, misheard, recording) in [
        // As the host has said it.
        ("data", 0, failing(WRITE, writes_in_vain, (0, 28), Some(28))),
        ("words", 0, failing(WRITE, whole, (1, 5), Some(5))),
        // As none, and as another one.
        ("lost data", 1, failing(WRITE, writes_in_vain, (0, 5), None)),
        ("lost words", 1, failing(WRITE, whole, (1, 5), None)),
        ("lost hole", 1, failing(DISCARD, whole, (0, 5), None)),
        ("other", 1, failing(WRITE, writes_in_vain, (0, 28), Some(5))),
    ] {
        let found = compared(&recording);
        assert_eq!(found.difference, None, "{what}");
        assert_eq!(
            (found.misheard, found.cut_short),
            (misheard, None),
            "{what}"
        );
    }

    // The host has not failed in what the guest hears an error of, or said none that it hears.
    let mut unsaid = failing(WRITE, writes_in_vain, (0, 5), None);
    let write = find(&unsaid, "write", COW, 0);
    at(&mut unsaid, write).errno = None;
    at(&mut unsaid, write).done = 4096;
    at(&mut unsaid, write).data = Some(HostRecord::encoded(&[0; 4096]));
    assert!(compared(&unsaid).difference.is_some());
    let other = failing(WRITE, writes_in_vain, (0, 5), Some(28));
    let found = difference(&other);
    let model = "the model ends request 1020 with \"input/output error\"";
    assert!(found.ends_with(model), "{found}");
}

#[test]
fn an_error_that_no_recording_has_ends_the_comparison() {
    // The data begins at 2 GiB, which is a negative number to the kernel.
    const NEGATIVE: u32 = 1 << 30;
    let mut case = case();
    case.image = Image {
        dirty: vec![(8, 4)],
        ..Image::sound(SECTORS, ImageVersion::V3, NEGATIVE)
    };
    let comes_to = |errno, brought: &[u8]| {
        let mut double = Double {
            layout: Layout::of(Version::V3, SECTORS * 512, NEGATIVE).unwrap(),
            dirty: BTreeSet::new(),
            disk: Vec::new(),
            witnessed: Vec::new(),
        };
        double.opens();
        // The first read has only sectors of the backing file, and the second four of the COW file.
        let mut page = [0; 8 * 512];
        Stamp::BACKING.fill(Sector(0), &mut page);
        let opened = GuestWord::Opened { sectors: SECTORS };
        let submitted = |number| Witnessed::Guest(GuestWord::Submitted { number });
        let ended = |number, errno, brought: &[u8]| {
            let brought = pieces(brought);
            Witnessed::Guest(GuestWord::Ended {
                number,
                errno,
                brought,
            })
        };
        double.witnessed.push(Witnessed::Guest(opened));
        double.witnessed.push(submitted(1001));
        double.reads(0, 8);
        double.witnessed.push(ended(1001, None, &page));
        double.witnessed.push(submitted(1002));
        double.witnessed.push(ended(1002, errno, brought));
        let recording = Recording {
            kernel: "Linux of a test 6.1.0".into(),
            longest: SEGMENT,
            witnessed: double.witnessed,
            ending: Ending::Whole,
        };
        let found = compare(&case, &recording, DriverName::Linux612).unwrap();
        assert_eq!((found.difference, found.misheard), (None, 0));
        found.cut_short
    };
    assert_eq!(comes_to(Some(5), &[]), None);
    let cut_short = comes_to(None, &[0; 8 * 512]).expect("the model hears an error");
    assert!(cut_short.contains("has misheard"), "{cut_short}");
}

#[test]
fn after_an_unread_header_the_kernel_goes_on_with_that_of_the_opening_before() {
    let whole = recording();
    let first = find(&whole, "read", COW, 0);
    let bitmap = find(&whole, "read", COW, first + 1);
    let second = find(&whole, "read", COW, bitmap + 1);
    let failed = |index| {
        let mut recording = recording();
        let record = at(&mut recording, index);
        (record.done, record.errno) = (0, Some(5));
        recording
    };
    for header in [first, second] {
        assert_eq!(at(&mut recording(), header).at, 0);
    }
    let found = compared(&failed(second));
    assert_eq!(found, compared(&whole));
    assert_eq!((found.difference, found.cut_short), (None, None));

    // What is there when it is opened first, nobody knows.
    let found = compared(&failed(first));
    assert_eq!(found.difference, None);
    let cut_short = found.cut_short.unwrap();
    assert!(
        cut_short.contains("could not read the header"),
        "{cut_short}"
    );
    let not_known = |recording: &Recording| {
        let found = compared(recording);
        assert_eq!((found.difference, found.cut_short), (None, Some(cut_short)));
    };
    // Nor is it known to be there still: the kernel may read a bitmap elsewhere by it, die of it,
    // or refuse the device.
    let mut other = failed(second);
    at(&mut other, second + 1).at += 512;
    not_known(&other);
    let mut dead = failed(second);
    dead.witnessed.truncate(second + 1);
    dead.ending = Ending::Died("of a division".into());
    not_known(&dead);
    let not_opened = || Witnessed::Guest(GuestWord::NotOpened { errno: 6 });
    let mut refused = failed(second);
    refused.witnessed.truncate(second + 1);
    refused.witnessed.push(not_opened());
    not_known(&refused);

    // Where there was no opening before, it refuses the device as the model does.
    let mut refused = failed(first);
    refused.witnessed.truncate(first + 1);
    refused.witnessed.push(not_opened());
    let found = compared(&refused);
    assert_eq!((found.difference, found.cut_short), (None, None));

    // What differs later is a difference.
    let mut later = failed(second);
    let write = find(&later, "write", COW, 0);
    at(&mut later, write).at += 512;
    assert!(compared(&later).difference.is_some());

    // An unread bitmap is noticed.
    let found = difference(&failed(second + 1));
    let model = "the model does not open the device: reading the bitmap: input/output error";
    assert!(found.ends_with(model), "{found}");
}

#[test]
fn a_difference_is_a_file_that_tells_its_story_without_a_kernel() {
    let mut recording = recording();
    let end = recording.witnessed.len();
    let hole = find(&recording, "punch_hole", COW, 0);
    at(&mut recording, hole).len -= 512;
    at(&mut recording, hole).done -= 512;
    let found = compared(&recording).difference.unwrap();
    assert!(found.at == hole && hole < end);
    let file = DifferenceFile::of(DriverName::Linux612, &case(), &recording, &found);
    let text = serde_json::to_string(&file).unwrap();
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("difference.json"), text).unwrap();
    let mut again = ubdlab();
    again
        .args(["fuzz", "--repro"])
        .arg(sandbox.path("difference.json"))
        .arg("--report")
        .arg(sandbox.path("difference.html"));
    let again = output(again.env("PATH", ""));
    assert_eq!(again.status.code(), Some(1));
    let story = String::from_utf8_lossy(&again.stdout).into_owned();
    let (kernel, model) = (&found.kernel, &found.model);
    let end = format!(
        "found      difference\nwhere      witnessed[{hole}]\nkernel     {kernel}\nmodel      \
         {model}\n"
    );
    assert!(story.ends_with(&end), "{story}");
    assert!(story.contains("is submitted: a discard of 30+9"), "{story}");
    let page = String::from_utf8(sandbox.read("difference.html")).unwrap();
    for part in [
        "Kernel and model differ",
        "is submitted: a discard of 30+9",
        &format!("kernel: {kernel}; model: {model}</li>"),
        "ubdlab fuzz --repro ",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }

    // What somebody has put right is right.
    let mended = DifferenceFile {
        recording: self::recording(),
        ..file
    };
    let text = serde_json::to_string(&mended).unwrap();
    std::fs::write(sandbox.path("mended.json"), text).unwrap();
    let args = [
        "fuzz",
        "--repro",
        "@mended.json",
        "--report",
        "@mended.html",
    ];
    let said = sandbox.succeeds(&args);
    assert!(said.ends_with("\nnothing is wrong\n"), "{said}");
    let page = String::from_utf8(sandbox.read("mended.html")).unwrap();
    assert!(page.contains("Kernel and model agree"), "{page}");
}

#[test]
fn a_model_that_is_none_of_a_kernel_of_today_is_refused() {
    let sandbox = Sandbox::new();
    for (args, message) in [
        (
            &["--driver", "kernel", "--against", "linux-2.6"][..],
            "--against: found linux-2.6, a model of a kernel that serves one request at a time, a \
             page each, expected linux-6.12",
        ),
        (
            &["--driver", "kernel", "--against", "ordered"],
            "--against: found ordered, a driver that is no model of a kernel's, expected linux-6.12",
        ),
        (
            &["--driver", "linux-6.12", "--against", "linux-6.12"],
            "--against: found with a driver that runs in here, expected --driver kernel",
        ),
    ] {
        let refused = sandbox.run(&[&["fuzz"], args].concat());
        assert_eq!(refused.status.code(), Some(2), "{args:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(message), "{said}");
    }
}

#[test]
fn the_running_kernel_and_the_model_agree_in_two_thousand_requests() {
    let programs = ["linux.uml", "blkdiscard"].map(peer);
    if !can_mount() || !programs.iter().all(Option::is_some) {
        return;
    }
    let sandbox = Sandbox::new();
    let mut seed = 1;
    let mut agreed = 0;
    while agreed < 2000 {
        let seeds = ["--seed", &seed.to_string(), "--cases", "20"];
        let kernel = ["fuzz", "--driver", "kernel", "--against", "linux-6.12"];
        let page = ["--report", "@page.html"];
        let report = sandbox.json(&[&kernel[..], &seeds, &page].concat());
        assert_eq!(
            report["differences"].as_array().unwrap().len(),
            0,
            "{report}"
        );
        let page = String::from_utf8(sandbox.read("page.html")).unwrap();
        assert!(page.contains("Kernel and model agree"), "{page}");
        agreed += report["requests"].as_u64().unwrap();
        seed += 20;
        assert!(seed < 400, "{agreed} requests are too few");
    }
}
