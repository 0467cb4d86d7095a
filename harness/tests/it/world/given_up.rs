//! A story whose resize is given up, after each of the things that it asks for: with a crash before
//! every change from there on, or some (`taken.rs`), and every survivor of a power cut there.

use std::cell::Cell;

use driver::blk::Status;
use driver::driver::Driver;
use driver::executor::{Died, Executor, Files, Wait};
use driver::host::{Finished, Operation};
use driver::resize::ResizeError;
use harness::sim::{SimFile, SimHost};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;

use super::explore::{Check, Context, Depth, Story, Told, crash_images};
use super::taken::Rows;
use super::{Act, BACKING, COW, Device, World, found, request_of, step_to_completion};

/// There are as many crashes as operations, and most of them are alike.
const FEW: Depth = Depth {
    torn: 8,
    whole: 16,
    drawn: 4,
};

/// Carries an operation out when it begins, and says so when it is asked: a step for each.
#[derive(Default)]
struct OneByOne(Option<Finished>);

impl Executor<SimFile> for OneByOne {
    fn room(&self) -> usize {
        usize::from(self.0.is_none())
    }

    fn under_way(&self) -> usize {
        usize::from(self.0.is_some())
    }

    fn begin(&mut self, operation: Operation, files: &Files<SimFile>) {
        self.0 = Some(files.carry_out(operation));
    }

    fn finished(&mut self, _: Wait) -> Result<Option<Finished>, Died> {
        Ok(self.0.take())
    }
}

impl Story<'_> {
    /// Tells the story and gives the resize up before its step number `at`. How many changes there
    /// had been by then; `None` if it had ended before.
    fn tell_given_up(&self, world: World, at: u64) -> (Told, Option<u64>) {
        let host = world.host.clone();
        let (mut hands, mut steps) = (OneByOne::default(), 0);
        let changes = Cell::new(None);
        let told = self.tell_with(world, &mut |device: &mut Device| {
            if steps == at {
                changes.set(Some(host.changes()));
                device.abandon_resize();
            }
            steps += 1;
            let step = device.step_resize_on(&mut hands);
            device.take_ended(&mut hands, Wait::No).unwrap();
            step
        });
        (told, changes.get())
    }

    /// The resize, given up at every step.
    pub(crate) fn may_be_given_up_at_every_step(&self) {
        for at in 0.. {
            let _what = Context(format!("{}: given up before step {at}", self.name));
            let world = self.before.restarted();
            world.host.keep_snapshots();
            let (mut told, given_up) = self.tell_given_up(world, at);
            let rows = Rows::told_on(&told.world.host);
            let changes = told.world.host.changes();
            let Some(first) = given_up else {
                assert!(at > 5, "there are steps to give it up at");
                return;
            };
            told.world.model.check_now(&mut told.device);
            let sizes = self.check_given_up(&mut told);
            let host = told.world.host.clone();
            drop(told.device);
            self.check_images(&host, &told.world, &sizes, at);
            for crash in rows.crashes((first..changes).rev()) {
                let _what = Context(format!("crash before change {crash} of {changes}"));
                let world = self.before.restarted();
                world.host.crash_before_change(crash);
                let (told, _) = self.tell_given_up(world, at);
                let sizes = [self.before.model.capacity(), self.new_sectors];
                self.check_images(&told.world.host, &told.world, &sizes, at);
            }
        }
    }

    /// What a resize that was given up leaves, on a host that works: its size. The sizes that a
    /// reader may find.
    fn check_given_up(&self, told: &mut Told) -> Vec<u64> {
        let old = self.before.model.capacity();
        let files = |host: &SimHost| (host.content(COW), host.content(BACKING), host.paths());
        let now = found(&told.world.host).unwrap();
        let sizes = match &told.outcome {
            Some(Ok(_)) => vec![self.new_sectors],
            Some(Err(error)) => {
                assert_eq!(*error, ResizeError::Abandoned);
                assert_eq!(told.device.capacity().0, old);
                let quiet = self.between.is_empty() && self.pending.is_empty();
                if now.marked {
                    assert!(now.frontier.unwrap() < old, "marked, and nothing was moved");
                } else if quiet {
                    // Not assert_eq: nobody wants to see two files.
                    let same = files(&told.world.host) == files(&self.before.host);
                    assert!(same, "{now:?}: files were changed");
                }
                match now.marked {
                    true => vec![old, self.new_sectors],
                    false => vec![old],
                }
            }
            None => panic!("it does not end"),
        };
        let flush = request_of(Act::Flush, u32::MAX);
        told.device.submit(flush).unwrap();
        let status = step_to_completion(&mut told.device).unwrap().status;
        assert_eq!(status, Status::Ok);
        told.world.model.flushed();
        sizes
    }

    fn check_images(&self, host: &SimHost, world: &World, sizes: &[u64], seed: u64) {
        let check = Check {
            model: &world.model,
            sizes,
            rolled_forward: self.new_sectors,
            backing: &self.before.host.content(BACKING).unwrap(),
        };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        for (survivors, image) in crash_images(host, FEW, &mut rng) {
            let _what = Context(survivors);
            check.image(&image);
        }
    }
}
