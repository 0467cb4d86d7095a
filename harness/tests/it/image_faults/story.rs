//! A tool at work, failing once at every host operation.

use std::path::{Path, PathBuf};

use driver::host::HostError;
use driver::open::OpenError;
use harness::sim::{Fault, FaultPlan, FaultRule, FileContent, FileMatch, Occurrence, SimHost};
use userhelper::image::ImageError;
use userhelper::image::check::{Severity, check, check_and_repair};
use userhelper::image::open::{Format, Trust};
use userhelper::image::recover::{Recovered, recover};

use crate::image_crashes::story::{Tool, ends, go_on};
use crate::image_crashes::world::{assert_same, disk_of};
use crate::world::explore::Context;

/// How the operation with some number fails.
#[derive(Clone, Copy, Debug)]
enum Failing {
    /// It alone.
    Once(Fault),
    /// All that the fault can happen to, from it on: a disk that is broken, or full.
    FromThere(Fault),
    /// The disk becomes full in the middle of it.
    Half,
}

/// EIO, ENOSPC, and the EIO of a sync that leaves nobody knows what on the disk.
const FAILING: [Failing; 7] = [
    Failing::Once(Fault::Io),
    Failing::Once(Fault::NoSpace),
    Failing::Once(Fault::FailedSync),
    Failing::FromThere(Fault::Io),
    Failing::FromThere(Fault::NoSpace),
    Failing::FromThere(Fault::FailedSync),
    Failing::Half,
];

impl Failing {
    fn plan(self, index: u64) -> FaultPlan {
        let from = |index, fault| FaultRule {
            file: FileMatch::Any,
            kind: None,
            bytes: None,
            occurrence: Occurrence::From(index),
            fault,
        };
        match self {
            Failing::Once(fault) => FaultPlan::at([FaultRule::at_operation(index, fault)]),
            Failing::FromThere(fault) => FaultPlan::at([from(index, fault)]),
            Failing::Half => FaultPlan::at([
                FaultRule::at_operation(index, Fault::ShortWrite(512)),
                from(index + 1, Fault::NoSpace),
            ]),
        }
    }
}

/// What a tool works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A COW file that is there before.
    Image,
    /// A COW file that the tool makes.
    NewImage,
    /// A raw disk that the tool makes.
    NewRaw,
}

/// A tool, told to fail.
pub(super) struct Story<'a> {
    pub(super) name: &'a str,
    /// Before the tool begins.
    pub(super) host: SimHost,
    pub(super) tool: Tool<'a>,
    /// The name of what it works on, which a recovery is given.
    pub(super) file: &'a str,
    pub(super) subject: Subject,
    /// Whether the image's extension block is damaged before.
    pub(super) damaged: bool,
    /// What the disk may show.
    pub(super) disks: Vec<Vec<u8>>,
    /// What else holds when the tool is done.
    pub(super) done: &'a dyn Fn(&SimHost),
}

/// How many of the power cuts right after a failure are drawn.
const POWER_CUTS: u64 = 3;

/// What is on a host, as far as a later process can see it.
type Seen = Vec<(PathBuf, Option<FileContent>, Option<i64>)>;

fn seen(host: &SimHost) -> Seen {
    let look = |path: PathBuf| {
        let (content, time) = (host.content(&path), host.modified_seconds(&path));
        (path, content, time)
    };
    host.paths().into_iter().map(look).collect()
}

impl Story<'_> {
    /// Every failure. How many images did not open until they were recovered.
    pub(super) fn survives_every_failure(&self) -> u64 {
        let whole = self.host.after_kill();
        (self.tool)(&whole).unwrap();
        self.check_done(&whole);
        let operations = whole.operations();
        let (mut failures, mut refused, mut checked) = (0, 0, Vec::new());
        for failing in FAILING {
            for index in 0..operations {
                let host = self.host.after_kill();
                host.set_faults(failing.plan(index));
                let told = (self.tool)(&host);
                let injected = host.injected();
                // It does not fit this operation, or so little was written that all of it was.
                let Some(injected) = injected.first().filter(|it| it.call.index == index) else {
                    continue;
                };
                failures += 1;
                let _what = Context(format!(
                    "{}: {failing:?}, {injected:?}, {told:?}",
                    self.name
                ));
                if told.is_ok() {
                    self.check_done(&host);
                }
                for (how, image) in ends(&host, index, POWER_CUTS) {
                    // Many failures leave the same.
                    let now = (told.is_ok(), seen(&image));
                    if checked.contains(&now) {
                        continue;
                    }
                    let _what = Context(how.into());
                    refused += u64::from(!self.check_image(&image));
                    self.check_recovery(&image);
                    self.check_redo(&image);
                    checked.push(now);
                }
            }
        }
        println!(
            "{}: {operations} operations, {failures} failures, {} images, {refused} to be recovered",
            self.name,
            checked.len()
        );
        refused
    }

    fn path(&self) -> &Path {
        Path::new(self.file)
    }

    /// What the disk shows, if it is there.
    fn disk(&self, host: &SimHost) -> Option<Result<Vec<u8>, OpenError>> {
        let content = host.content(self.file)?;
        Some(match self.subject {
            Subject::NewRaw => Ok(content.to_bytes()),
            Subject::Image | Subject::NewImage => disk_of(host, self.file),
        })
    }

    /// As it is: right, or not there, or something that says that it is to be recovered. Whether
    /// it opens.
    fn check_image(&self, image: &SimHost) -> bool {
        match self.disk(image) {
            None => assert_ne!(self.subject, Subject::Image, "the image is gone"),
            Some(Ok(disk)) => self.check_disk(&disk),
            Some(Err(error)) => {
                assert!(says_recover(&error), "it does not open: {error}");
                return false;
            }
        }
        true
    }

    fn check_disk(&self, found: &[u8]) {
        if self.disks.iter().any(|disk| disk == found) {
            return;
        }
        // Nobody wants to see two disks.
        let same_size = self.disks.iter().find(|disk| disk.len() == found.len());
        assert_same(found, same_size.unwrap_or(&self.disks[0]), "the disk");
    }

    fn recover(&self, host: &SimHost) -> Result<Recovered, ImageError> {
        let format = match self.subject {
            Subject::Image | Subject::NewImage => Format::Cow,
            Subject::NewRaw => Format::Guess,
        };
        match recover(host, self.path(), format, Trust::Follow, &mut go_on) {
            // Nothing was made, and nothing is left of it.
            Err(ImageError::Open(OpenError::Host {
                error: HostError::NotFound,
                path,
                ..
            })) if self.subject != Subject::Image && path == self.path() => {
                Ok(Recovered::default())
            }
            // A file that is to be made, and of which nothing was left.
            Err(ImageError::NothingToRecover { path, .. })
                if self.subject != Subject::Image && path == self.path() =>
            {
                Ok(Recovered::default())
            }
            // A check mends that.
            Err(ImageError::Open(OpenError::ExtensionDamaged { .. })) if self.damaged => {
                Ok(Recovered::default())
            }
            recovered => recovered,
        }
    }

    fn check_recovery(&self, image: &SimHost) {
        let host = image.after_kill();
        self.recover(&host).unwrap();
        match self.disk(&host) {
            None => assert_ne!(self.subject, Subject::Image, "the image is gone"),
            Some(disk) => self.check_disk(&disk.unwrap()),
        }
        let expected = self.host.paths();
        let left = |path: &PathBuf| !expected.contains(path) && path != self.path();
        let left: Vec<PathBuf> = host.paths().into_iter().filter(left).collect();
        assert!(left.is_empty(), "{left:?} were left");
        let nothing = Recovered::default();
        assert_eq!(self.recover(&host).unwrap(), nothing, "there was more");
        self.check_findings(&host);
    }

    /// What a check finds after a recovery, it mends; nothing of it is about the disk.
    fn check_findings(&self, host: &SimHost) {
        if self.subject == Subject::NewRaw || host.content(self.file).is_none() {
            return;
        }
        let found = check(host, self.path(), Trust::Follow, &mut go_on).unwrap();
        if found.severity() > Some(Severity::Note) {
            let (path, trust) = (self.path(), Trust::Follow);
            let repaired = check_and_repair(host, path, trust, &mut go_on).unwrap();
            assert!(
                repaired.severity() <= Some(Severity::Note),
                "{:?}",
                repaired.findings
            );
            self.check_disk(&disk_of(host, self.file).unwrap());
        }
    }

    /// Begun again, after a recovery where it asks for that, the tool completes.
    fn check_redo(&self, image: &SimHost) {
        let host = image.after_kill();
        let made = self.subject != Subject::Image && host.content(self.file).is_some();
        let told = match (self.tool)(&host) {
            Err(ImageError::Unfinished { .. }) => self.recovered_redo(&host),
            Err(ImageError::Open(error)) if says_recover(&error) => self.recovered_redo(&host),
            // The name came before the failure.
            Err(ImageError::Exists { .. }) if made => Ok(()),
            told => told,
        };
        told.unwrap();
        self.check_done(&host);
    }

    fn recovered_redo(&self, host: &SimHost) -> Result<(), ImageError> {
        self.recover(host)?;
        (self.tool)(host)
    }

    fn check_done(&self, host: &SimHost) {
        match self.disk(host) {
            None => panic!("done, and it is not there"),
            Some(disk) => self.check_disk(&disk.unwrap()),
        }
        (self.done)(host);
    }
}

/// Whether a user who reads this knows what to do.
fn says_recover(error: &OpenError) -> bool {
    error.to_string().contains("ubdlab image recover")
}
