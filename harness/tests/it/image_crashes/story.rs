//! A tool at work on an image, told to every end that it can have: no crash, one before each
//! change, and a second one in what is done about the first.

use std::ops::ControlFlow;
use std::path::Path;

use driver::open::{OpenError, temporary_name};
use driver::units::Bytes;
use harness::sim::{SimHost, SurvivalWeights};
use harness::streams::below;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use userhelper::image::ImageError;
use userhelper::image::open::{Format, Trust};
use userhelper::image::recover::{Recovered, recover};

use super::world::{COW, SIBLING, assert_same, disk_of};
use crate::world::explore::{Context, Depth, crash_images};
use crate::world::taken::Rows;

/// How many of the power cuts at one place are looked at.
pub(crate) const DEPTH: Depth = Depth {
    torn: 24,
    whole: 24,
    drawn: 8,
};

/// Something that is done to the images on a host.
pub(crate) type Tool<'a> = &'a dyn Fn(&SimHost) -> Result<(), ImageError>;

/// A tool that changes the image [`COW`] and leaves its disk what it is.
pub(crate) struct Story<'a> {
    pub(crate) name: &'a str,
    /// Before the tool begins.
    pub(crate) host: SimHost,
    /// What the disk may show: one thing, or two if the tool changes its size.
    pub(crate) disks: Vec<Vec<u8>>,
    /// What the disk of [`SIBLING`] holds, if there is one.
    pub(crate) sibling: Option<Vec<u8>>,
    pub(crate) tool: Tool<'a>,
    /// The documented exception: the image does not open, with such an error, until this has
    /// been done about it.
    pub(crate) exception: Option<Exception<'a>>,
    /// What else holds when the tool is done.
    pub(crate) done: &'a dyn Fn(&SimHost),
}

/// Whether an error is expected, and what to do about it.
pub(crate) type Exception<'a> = (&'a dyn Fn(&OpenError) -> bool, Tool<'a>);

/// What `look` sees on a host before each change that a tool makes, and after the last; what
/// stays the same is told once.
pub(crate) fn rows<T: PartialEq>(
    host: &SimHost,
    tool: Tool<'_>,
    look: &dyn Fn(&SimHost) -> T,
) -> Vec<T> {
    let host = host.after_kill();
    host.keep_snapshots();
    tool(&host).unwrap();
    let mut moments = host.take_snapshots();
    moments.push(host);
    let mut rows: Vec<T> = moments.iter().map(look).collect();
    rows.dedup();
    // A story crashes in each, however short the run.
    let all = Rows::of(&moments);
    let crashes = all.crashes(0..moments.len() as u64);
    let mut crashed_in: Vec<T> = crashes.map(|at| look(&moments[at as usize])).collect();
    crashed_in.dedup();
    assert!(crashed_in == rows, "a row without a crash");
    rows
}

/// A watcher that lets the tool go on.
pub(crate) fn go_on(_: Bytes, _: Bytes) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// What may be on the disk when the process has ended, or the power with it: nothing of what is
/// unsynced, all of it, and this many drawn from what may be.
pub(crate) fn ends(host: &SimHost, seed: u64, drawn: u64) -> Vec<(&'static str, SimHost)> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let unsynced = host.unsynced();
    let mut survivors = vec![Default::default(), unsynced.everything()];
    for _ in 0..drawn {
        let weights = SurvivalWeights::draw(&mut rng);
        survivors.push(unsynced.sample(weights, &mut rng));
    }
    let cut = |survivors| ("a power cut", host.after_power_cut(survivors).unwrap());
    let killed = ("a kill", host.after_kill());
    [killed]
        .into_iter()
        .chain(survivors.iter().map(cut))
        .collect()
}

/// `ubdlab image recover`, which leaves a damaged extension block to the check.
pub(crate) fn finish(host: &SimHost) -> Result<Recovered, ImageError> {
    match recover(host, Path::new(COW), Format::Cow, Trust::Follow, &mut go_on) {
        Err(ImageError::Open(OpenError::ExtensionDamaged { .. })) => Ok(Recovered::default()),
        recovered => recovered,
    }
}

impl Story<'_> {
    /// Every crash, or those in each row and every third of the others. How many images needed the
    /// exception.
    pub(crate) fn survives_every_crash(&self) -> u64 {
        self.check_disk(&self.host);
        let whole = self.host.after_kill();
        whole.keep_snapshots();
        (self.tool)(&whole).unwrap();
        let (changes, rows) = (whole.changes(), Rows::told_on(&whole));
        self.check_done(&whole);
        let (mut images, mut exceptions) = (0, 0);
        // The exception is for one or two crashes, which are not to be missed.
        let all = (0..=changes).rev();
        let crashes: Vec<u64> = match self.exception {
            Some(_) => all.collect(),
            None => rows.crashes(all).collect(),
        };
        for at in crashes {
            let host = self.host.after_kill();
            host.crash_before_change(at);
            let told = (self.tool)(&host);
            assert_eq!(told.is_err(), host.crashed(), "{}: {told:?}", self.name);
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(at);
            for (survivors, image) in crash_images(&host, DEPTH, &mut rng) {
                let _what = Context(format!(
                    "{}: crash before change {at} of {changes}, {survivors}",
                    self.name
                ));
                images += 1;
                exceptions += u64::from(!self.check_disk(&image));
                self.check_recovery(&image);
                self.check_redo(&image);
                if below(&mut rng, 40) == 0 || survivors == "killed" && at % 8 == 0 {
                    self.crash_again(&image, &mut rng);
                }
            }
        }
        println!(
            "{}: {changes} changes, {images} crash images, {exceptions} exceptions",
            self.name
        );
        exceptions
    }

    /// The image as a device, and its sibling. Whether it opens.
    fn check_disk(&self, image: &SimHost) -> bool {
        if let Some(expected) = &self.sibling
            && let Ok(found) = disk_of(image, SIBLING)
        {
            assert_same(&found, expected, "the sibling was taken");
        }
        match disk_of(image, COW) {
            Ok(found) => self.check_content(&found),
            Err(error) => {
                let expected = self.exception.is_some_and(|(expected, _)| expected(&error));
                assert!(expected, "it does not open: {error}");
                return false;
            }
        }
        true
    }

    fn check_content(&self, found: &[u8]) {
        let same_size = self.disks.iter().find(|disk| disk.len() == found.len());
        let expected = same_size.unwrap_or(&self.disks[0]);
        assert_same(found, expected, "the disk");
    }

    /// Brings an image that does not open to where it does.
    fn help(&self, host: &SimHost) -> Result<(), ImageError> {
        match (disk_of(host, COW), self.exception) {
            (Err(_), Some((_, help))) => help(host),
            _ => Ok(()),
        }
    }

    fn check_recovery(&self, image: &SimHost) {
        let host = image.after_kill();
        self.help(&host).unwrap();
        finish(&host).unwrap();
        self.check_content(&disk_of(&host, COW).unwrap());
        assert!(!host.paths().contains(&temporary_name(Path::new(COW))));
        // There is nothing more to do, and the next change of the backing file is noticed.
        assert_eq!(finish(&host).unwrap(), Recovered::default());
        self.check_disk(&host);
    }

    /// Begins the tool again, after a recovery where it asks for that.
    fn redo(&self, host: &SimHost) -> Result<(), ImageError> {
        self.help(host)?;
        match (self.tool)(host) {
            Err(ImageError::Unfinished { .. }) => {
                finish(host)?;
                (self.tool)(host)
            }
            done => done,
        }
    }

    fn check_redo(&self, image: &SimHost) {
        let host = image.after_kill();
        self.redo(&host).unwrap();
        self.check_done(&host);
        let cut = host.after_power_cut(&Default::default()).unwrap();
        // What finds nothing to do has made nothing durable either.
        match host.changes() {
            0 => assert!(self.check_disk(&cut)),
            _ => self.check_done(&cut),
        }
    }

    fn check_done(&self, host: &SimHost) {
        assert!(self.check_disk(host), "done, and it does not open");
        (self.done)(host);
    }

    /// A second crash before every change of the recovery, and of what begins the tool again.
    fn crash_again(&self, image: &SimHost, rng: &mut Xoshiro256PlusPlus) {
        let recovery = |host: &SimHost| self.help(host).and_then(|()| finish(host).map(drop));
        let redo = |host: &SimHost| self.redo(host);
        let seconds: [Tool<'_>; 2] = [&recovery, &redo];
        for second in seconds {
            for at in 0.. {
                let host = image.after_kill();
                host.crash_before_change(at);
                let told = second(&host);
                assert_eq!(told.is_err(), host.crashed(), "{told:?}");
                if !host.crashed() {
                    break;
                }
                let _what = Context(format!("second crash before change {at}"));
                let weights = SurvivalWeights::draw(rng);
                let survivors = host.unsynced().sample(weights, rng);
                let images = [
                    host.after_kill(),
                    host.after_power_cut(&survivors).unwrap(),
                    host.after_power_cut(&Default::default()).unwrap(),
                ];
                for image in images {
                    self.check_disk(&image);
                    self.check_recovery(&image);
                    self.check_redo(&image);
                }
            }
        }
    }
}
