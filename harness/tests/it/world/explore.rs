//! A story, told to every possible end: without a crash, with one before every change, with
//! every survivor of a power cut there, with a second crash in the recovery, and with a
//! failing host operation at every place.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use driver::blk::{Status, Tag};
use driver::host::OperationKind;
use driver::ordered::{Resize, Step};
use driver::resize::{ResizeError, ResizeStep, Resized, Strategy};
use driver::units::SectorCount;
use harness::sim::{Fault, FaultPlan, FileContent, SimFile, SimHost, SurvivalWeights, Tearing};
use harness::streams::below;
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use userhelper::planner::{Shrink, Wish};
use userhelper::resize::{WishedResize, recover};

use super::model::{Model, read_all};
use super::taken::Rows;
use super::{
    Act, BACKING, COW, Device, World, close, found, request_of, step_to_completion, try_open,
};

/// Of how many survivors all are looked at: 9 operations have 512 subsets. The rest is drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    /// All are looked at if they are at most this many, torn operations included.
    pub(crate) torn: u64,
    /// All are looked at if they are at most this many, those with torn operations left out.
    pub(crate) whole: u64,
    /// How many are drawn beside those, or where there are more.
    pub(crate) drawn: u64,
}

/// The first changes are the syncs with which the device is opened.
const OPENING: u64 = 2;

/// When the resize is alone.
const WHOLE: Depth = Depth {
    torn: 256,
    whole: 512,
    drawn: 60,
};

/// When the guest is at work too: there are many more crashes, most of them alike.
const SAMPLE: Depth = Depth {
    torn: 16,
    whole: 32,
    drawn: 8,
};

/// Begins the resize of a story.
pub(crate) type Start<'a> =
    &'a dyn Fn(&World, &Device) -> Result<Box<dyn Resize<SimFile>>, ResizeError>;

/// A device, what its guest does, and a resize.
pub(crate) struct Story<'a> {
    pub(crate) name: &'a str,
    pub(crate) before: &'a World,
    /// What the guest has done before, not flushed.
    pub(crate) pending: &'a [Act],
    /// What it does between the steps, over and over.
    pub(crate) between: &'a [Act],
    pub(crate) resize: Start<'a>,
    pub(crate) new_sectors: u64,
}

/// How far a story went.
pub(crate) struct Told {
    pub(crate) world: World,
    /// `None` if the host crashed before the resize came to an end.
    pub(crate) outcome: Option<Result<Resized, ResizeError>>,
    /// The sizes that a reader may find now.
    pub(crate) sizes: Vec<u64>,
    pub(crate) device: Device,
}

impl Story<'_> {
    /// Tells the story on `world` until its end or the crash that the host has planned.
    pub(crate) fn tell(&self, world: World) -> Told {
        self.tell_with(world, &mut |device| device.step_resize())
    }

    /// Tells the story like [`Story::tell`]; `step` does a step of the resize.
    pub(crate) fn tell_with(
        &self,
        mut world: World,
        step: &mut dyn FnMut(&mut Device) -> ResizeStep,
    ) -> Told {
        let old = world.model.capacity();
        let mut device = world.open().device;
        let mut sizes = vec![old];
        let mut outcome = None;
        for act in self.pending {
            if !world.act(&mut device, *act) && world.host.crashed() {
                break;
            }
        }
        if !world.host.crashed() {
            sizes = vec![old, self.new_sectors];
            device.begin_resize((self.resize)(&world, &device).unwrap());
            outcome = self.interleave(&mut world, &mut device, step);
        }
        if let Some(Ok(_)) = outcome {
            assert_eq!(device.capacity().0, self.new_sectors);
            world.model.resized(self.new_sectors);
            sizes = vec![self.new_sectors];
        }
        Told {
            world,
            outcome,
            sizes,
            device,
        }
    }

    /// Steps of the resize and of the guest by turns.
    fn interleave(
        &self,
        world: &mut World,
        device: &mut Device,
        step: &mut dyn FnMut(&mut Device) -> ResizeStep,
    ) -> Option<Result<Resized, ResizeError>> {
        let mut acts = self.between.iter().cycle();
        let mut in_flight: VecDeque<(Act, Tag)> = VecDeque::new();
        let mut outcome = None;
        for round in 0..100_000 {
            if world.host.crashed() {
                return None;
            }
            if outcome.is_none() {
                match step(device) {
                    ResizeStep::Working | ResizeStep::Waiting => {}
                    ResizeStep::Ended(Err(_)) if world.host.crashed() => return None,
                    ResizeStep::Ended(ended) => outcome = Some(ended),
                    ResizeStep::Idle => unreachable!("it was begun, and has not ended"),
                }
                let may_begin = outcome.is_none() && in_flight.len() < 3;
                if let (true, Some(act)) = (may_begin, acts.next()) {
                    let tag = world.submit(device, *act);
                    in_flight.push_back((*act, tag));
                }
            } else if in_flight.is_empty() {
                return outcome;
            }
            // One host operation of a publication at a time, in a changing rhythm.
            for _ in 0..1 + round % 3 {
                match device.step() {
                    Step::Completed(completion) => {
                        // Those that overlap end in their order, and others in any.
                        let tag = completion.request.tag;
                        let place = in_flight.iter().position(|(_, asked)| *asked == tag);
                        let (act, tag) = in_flight.remove(place.unwrap()).unwrap();
                        world.completed(act, tag, completion);
                    }
                    Step::Working => {}
                    Step::Blocked | Step::Idle => break,
                }
            }
        }
        panic!("{}: the resize does not come to an end", self.name);
    }

    /// Without a crash: the resize succeeds, and everything is right before and after
    /// reopening. The number of changes that it took, and the rows that it went through.
    pub(crate) fn succeeds(&self) -> (u64, Rows) {
        let world = self.before.restarted();
        world.host.keep_snapshots();
        let mut told = self.tell(world);
        match &told.outcome {
            Some(Ok(resized)) => assert_eq!(resized.new_size.whole_sectors().0, self.new_sectors),
            other => panic!("{}: {other:?}", self.name),
        }
        told.world.model.check_now(&mut told.device);
        (told.world.host.changes(), Rows::told_on(&told.world.host))
    }

    /// Every crash, or those in each row and every third of the others.
    pub(crate) fn survives_every_crash(&self) {
        let (changes, rows) = self.succeeds();
        let (mut images, mut seed) = (0, 0);
        let depth = match self.between.is_empty() {
            true => WHOLE,
            false => SAMPLE,
        };
        for at in rows.crashes((OPENING..=changes).rev()) {
            let world = self.before.restarted();
            world.host.crash_before_change(at);
            let told = self.tell(world);
            let label = format!("{}: crash before change {at} of {changes}", self.name);
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(at);
            for (survivors, image) in crash_images(&told.world.host, depth, &mut rng) {
                images += 1;
                let _what = Context(format!("{label}, {survivors}"));
                let check = Check {
                    model: &told.world.model,
                    sizes: &told.sizes,
                    rolled_forward: self.new_sectors,
                    backing: &self.before.host.content(BACKING).unwrap(),
                };
                check.image(&image);
                // The rest costs more: for some.
                if below(&mut rng, 24) == 0 || survivors == "killed" && at % 5 == 0 {
                    seed += 1;
                    check.crash_in_recovery(&image, seed);
                    check.flush_after_reopening(&image);
                    check.next_resize(&image);
                }
            }
        }
        println!("{}: {changes} changes, {images} crash images", self.name);
    }

    /// Every single failure of a host operation, or those that begin a row and every third of the
    /// others; the resize may fail, nothing else.
    pub(crate) fn survives_every_failure(&self, fault: Fault) {
        let (changes, rows) = self.succeeds();
        let files = |host: &SimHost| (host.content(COW), host.content(BACKING), host.paths());
        let before = files(&self.before.host);
        for at in rows.failures(OPENING..changes) {
            let world = self.before.restarted();
            let mut count = 0;
            world
                .host
                .set_faults(FaultPlan::default().and(move |operation| {
                    let change = operation.kind.is_change();
                    count += u64::from(change);
                    (change && count == at + 1).then_some(fault)
                }));
            let mut told = self.tell(world);
            let host = told.world.host.clone();
            let injected = host.injected();
            let _what = Context(format!("{}: {injected:?}", self.name));
            let Some(injected) = injected.first() else {
                continue; // It does not fit this operation.
            };
            // The sync of a new file is the device's own only when that file is the COW file.
            let renamed = matches!(told.outcome, Some(Ok(_)));
            let own = renamed || *injected.call.path == *Path::new(COW);
            let sync_failed = injected.call.kind == OperationKind::SyncData && own;
            let directory_failed = injected.call.kind == OperationKind::SyncDirectory;
            told.world.model.check_now(&mut told.device);
            let failed = matches!(told.outcome, Some(Err(_)));
            if failed && !directory_failed {
                assert_eq!(told.device.capacity().0, self.before.model.capacity());
                let quiet = self.between.is_empty() && self.pending.is_empty();
                let now = found(&host).unwrap();
                if quiet && !now.marked {
                    // Not assert_eq: nobody wants to see two files.
                    assert!(files(&host) == before, "{now:?}: files were changed");
                } else if quiet {
                    let moved = now.frontier.unwrap() < told.device.capacity().0;
                    assert!(moved, "{now:?}: nothing was moved, and it is marked");
                }
            }
            // A flush tells whether what is there can be relied on.
            told.device
                .submit(request_of(Act::Flush, u32::MAX))
                .unwrap();
            let status = step_to_completion(&mut told.device).unwrap().status;
            let distrusted = sync_failed || directory_failed && failed;
            if distrusted {
                assert_eq!(status, Status::IoError, "a sync has failed");
            } else {
                assert_eq!(status, Status::Ok, "the host works again");
                told.world.model.flushed();
            }
            let old = self.before.model.capacity();
            let sizes = match failed {
                // The flush has made sure of the size, unless a part was moved.
                true if !distrusted && !found(&host).unwrap().marked => vec![old],
                true => vec![old, self.new_sectors],
                false => vec![self.new_sectors],
            };
            drop(told.device);
            let check = Check {
                model: &told.world.model,
                sizes: &sizes,
                rolled_forward: self.new_sectors,
                backing: &self.before.host.content(BACKING).unwrap(),
            };
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(at);
            for (number, (survivors, image)) in crash_images(&host, SAMPLE, &mut rng)
                .into_iter()
                .enumerate()
            {
                let _what = Context(survivors);
                check.image(&image);
                if number % 16 == 0 {
                    check.next_resize(&image);
                }
            }
        }
    }
}

/// Kill and power cuts, each with a name.
pub(crate) fn crash_images(
    host: &SimHost,
    depth: Depth,
    rng: &mut Xoshiro256PlusPlus,
) -> Vec<(String, SimHost)> {
    let mut images = vec![("killed".to_string(), host.after_kill())];
    let unsynced = host.unsynced();
    let all = [(Tearing::One, depth.torn), (Tearing::None, depth.whole)];
    let tearing = (all.into_iter())
        .find(|&(tearing, most)| unsynced.subset_count(tearing).is_ok_and(|n| n <= most))
        .map(|(tearing, _)| tearing);
    let mut survivors = vec![unsynced.everything()];
    match tearing {
        Some(tearing) => survivors.extend(unsynced.subsets(tearing).unwrap()),
        None => survivors.push(Default::default()),
    }
    if tearing != Some(Tearing::One) {
        for _ in 0..depth.drawn {
            let weights = SurvivalWeights::draw(rng);
            survivors.push(unsynced.sample(weights, rng));
        }
    }
    for survivors in survivors {
        let image = host.after_power_cut(&survivors).unwrap();
        images.push((format!("{survivors:?}"), image));
    }
    images
}

/// What every image has to satisfy.
pub(crate) struct Check<'a> {
    pub(crate) model: &'a Model,
    pub(crate) sizes: &'a [u64],
    /// The size that an interrupted resize leads to.
    pub(crate) rolled_forward: u64,
    pub(crate) backing: &'a FileContent,
}

impl Check<'_> {
    /// Opens, compares, recovers, compares, and opens again. Works on a copy.
    pub(crate) fn image(&self, image: &SimHost) {
        let host = image.after_kill();
        self.recover(&host);
    }

    fn recover(&self, host: &SimHost) {
        let opened = try_open(host).unwrap();
        let mut device = opened.device;
        let capacity = device.capacity().0;
        assert!(self.sizes.contains(&capacity), "{capacity} sectors");
        self.model.check_after_crash(&mut device);
        if let Some(record) = opened.interrupted {
            recover(&mut device, record).unwrap();
            assert_eq!(device.capacity().0, self.rolled_forward);
            self.model.check_after_crash(&mut device);
            close(device);
            let recovered = host.content(COW);
            let again = try_open(host).unwrap();
            assert_eq!(again.interrupted, None);
            let mut device = again.device;
            self.model.check_after_crash(&mut device);
            close(device);
            assert!(host.content(COW) == recovered, "there was more to recover");
        }
        let backing = host.content(BACKING).unwrap();
        assert!(backing == *self.backing, "the backing file was changed");
    }

    /// A second crash before every change of the recovery.
    pub(crate) fn crash_in_recovery(&self, image: &SimHost, seed: u64) {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        for at in 0.. {
            let host = image.after_kill();
            host.crash_before_change(at);
            let Ok(opened) = try_open(&host) else {
                assert!(host.crashed(), "opening failed by itself");
                continue;
            };
            let mut device = opened.device;
            let Some(record) = opened.interrupted else {
                return;
            };
            if recover(&mut device, record).is_ok() {
                return;
            }
            assert!(host.crashed(), "recovery failed by itself");
            drop(device);
            let mut images = vec![host.after_kill()];
            for _ in 0..2 {
                let survivors = host
                    .unsynced()
                    .sample(SurvivalWeights::draw(&mut rng), &mut rng);
                images.push(host.after_power_cut(&survivors).unwrap());
            }
            let _what = Context(format!("crash before change {at} of the recovery"));
            for image in images {
                self.image(&image);
            }
        }
    }

    /// What the guest reads when it is up again, and then flushes, it can rely on: neither
    /// its size nor its content goes away in a power cut.
    pub(crate) fn flush_after_reopening(&self, image: &SimHost) {
        let host = image.after_kill();
        let mut device = try_open(&host).unwrap().device;
        let (capacity, content) = (device.capacity(), read_all(&mut device));
        device.submit(request_of(Act::Flush, u32::MAX)).unwrap();
        step_to_completion(&mut device).unwrap();
        let cut = host.after_power_cut(&Default::default()).unwrap();
        let mut device = try_open(&cut).unwrap().device;
        assert_eq!(device.capacity(), capacity, "the size went back");
        assert!(read_all(&mut device) == content, "the content went back");
    }

    /// The next resize works, and leaves no temporary file behind.
    pub(crate) fn next_resize(&self, image: &SimHost) {
        let host = image.after_kill();
        self.recover(&host);
        let mut model = self.model.clone();
        for strategy in [None, Some(Strategy::Rebuild)] {
            let mut device = try_open(&host).unwrap().device;
            let sectors = device.capacity().0 + 9;
            let wish = Wish {
                new_size: SectorCount(sectors).bytes(),
                strategy,
                shrink: Shrink::Refuse,
                online: false,
            };
            let resize = WishedResize::new(host.clone(), COW.as_ref(), wish);
            // What a shrink has cut off does not come back.
            model.resized(device.capacity().0);
            device.resize(Box::new(resize)).unwrap();
            assert_eq!(device.capacity().0, sectors);
            model.resized(sectors);
            model.check_after_crash(&mut device);
            close(device);
        }
        let names = [PathBuf::from(COW), PathBuf::from(BACKING)];
        assert_eq!(host.paths(), names);
    }
}

/// Prints where a test was when it failed.
pub(crate) struct Context(pub(crate) String);

impl Drop for Context {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while: {}", self.0);
        }
    }
}
