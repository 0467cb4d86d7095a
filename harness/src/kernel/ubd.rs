//! The driver of a running kernel as a [`Driver`]: requests go to the guest, which submits them,
//! and completions come from there. Its files are real ones. What it asks of them it asks of the
//! system itself: so it gives no operations to an executor, has none to finish, and tells neither
//! its syncs nor where it reads a sector.
//!
//! Linux's block layer keeps no order between requests in flight. Whoever submits here counts on
//! one: so a request waits while one is under way that it overlaps, if one of them changes what the
//! other is about.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use driver::blk::{Completion, Limits, Operation, Request, Status};
use driver::driver::{Driver, Step};
use driver::executor::Executor;
use driver::host::Finished;
use driver::ordered::Statistics;
use driver::units::SectorCount;
use rustix::io::Errno;
use userhelper::real_files::RealFile;

use crate::clock::{self, Started};
use crate::fuzz::recorded::{GuestOperation, GuestRequest, GuestWord, content, pieces};

use super::CannotFuzz;
use super::device_argument::DeviceArgument;
use super::orders::Order;
use super::running::{BOOT_HANGS, HANGS, Kit, Lost, Running};

/// Why a kernel's device does not come up.
#[derive(Debug)]
pub enum NotUp {
    /// The kernel does not take its files.
    Refused(String),
    /// The kernel does not come up.
    Cannot(CannotFuzz),
}

impl From<CannotFuzz> for NotUp {
    fn from(error: CannotFuzz) -> NotUp {
        NotUp::Cannot(error)
    }
}

/// How long a word of the guest is waited for in one step.
const LOOK: Duration = Duration::from_millis(50);

/// The device of a running kernel.
#[derive(Debug)]
pub struct KernelUbd {
    running: Running,
    kernel: PathBuf,
    capacity: SectorCount,
    waiting: VecDeque<Request>,
    /// By the numbers that the guest knows them by.
    under_way: BTreeMap<u32, (GuestRequest, Request)>,
    last_number: u32,
    completed: VecDeque<Completion>,
    statistics: Statistics,
    death: Option<String>,
    /// Since when the guest has said nothing, and nothing new was asked.
    quiet: Started,
}

impl KernelUbd {
    /// Boots a kernel with this device.
    ///
    /// # Errors
    /// What is missing, or why the device does not come up.
    pub fn boot(kit: &Kit, cow: &Path, backing: Option<&Path>) -> Result<KernelUbd, NotUp> {
        let device = DeviceArgument::of(cow, backing)?;
        let mut ubd = KernelUbd {
            running: Running::boot(kit)?,
            kernel: kit.kernel.clone(),
            capacity: SectorCount(0),
            waiting: VecDeque::new(),
            under_way: BTreeMap::new(),
            last_number: 0,
            completed: VecDeque::new(),
            statistics: Statistics::default(),
            death: None,
            quiet: clock::start(),
        };
        let opened = ubd.come_up(&device);
        let opened = opened.map_err(|why| CannotFuzz::NoGuest {
            kernel: kit.kernel.clone(),
            why,
            console: ubd.running.console(),
        })?;
        ubd.capacity = SectorCount(opened.map_err(NotUp::Refused)?);
        Ok(ubd)
    }

    /// Boots, and opens the device; its sectors, or why it is refused.
    fn come_up(&mut self, device: &DeviceArgument) -> Result<Result<u64, String>, String> {
        self.hear_until(BOOT_HANGS, |word| *word == GuestWord::Ready)?;
        let lost = |lost: Lost| lost.to_string();
        self.running.configure(device).map_err(lost)?;
        if let Err(why) = self.answer()? {
            return Ok(Err(format!("the kernel refuses the device: {why}")));
        }
        self.running.tell(&Order::Open).map_err(lost)?;
        loop {
            let opened = self.hear_until(HANGS, |word| {
                matches!(word, GuestWord::Opened { .. } | GuestWord::NotOpened { .. })
            })?;
            match opened {
                GuestWord::Opened { sectors } => return Ok(Ok(sectors)),
                GuestWord::NotOpened { errno } => {
                    let error = std::io::Error::from_raw_os_error(errno);
                    let why = driver::system_words(error);
                    return Ok(Err(format!("the kernel does not open the device: {why}")));
                }
                _ => {}
            }
        }
    }

    /// Waits for a word like this. Requests that end meanwhile complete.
    fn hear_until(
        &mut self,
        time: Duration,
        is_it: impl Fn(&GuestWord) -> bool,
    ) -> Result<GuestWord, String> {
        loop {
            for word in self.hear(time)? {
                if is_it(&word) {
                    return Ok(word);
                }
                self.take(word)?;
            }
        }
    }

    /// The answer of the management console.
    fn answer(&mut self) -> Result<Result<String, String>, String> {
        loop {
            let answer = self.running.answer();
            if let Some(answer) = answer.map_err(|lost| lost.to_string())? {
                return Ok(answer);
            }
            for word in self.hear(HANGS)? {
                self.take(word)?;
            }
        }
    }

    /// What the guest says within a while. It is an error if it is quiet for this long.
    fn hear(&mut self, time: Duration) -> Result<Vec<GuestWord>, String> {
        let lost = |lost: Lost| lost.to_string();
        let words = self.running.hear_within(LOOK).map_err(lost)?;
        if !words.is_empty() {
            self.quiet = clock::start();
        } else if let Some(how) = self.running.ended().map_err(lost)? {
            return Err(format!("the kernel has died ({how})"));
        } else if self.quiet.elapsed() > time {
            return Err("the kernel hangs".to_owned());
        }
        Ok(words)
    }

    fn take(&mut self, word: GuestWord) -> Result<(), String> {
        match word {
            GuestWord::Ended {
                number,
                errno,
                brought,
            } => {
                let Some((_, mut request)) = self.under_way.remove(&number) else {
                    return Err(format!("it ends request {number}, which is not under way"));
                };
                if errno.is_none() && request.operation == Operation::Read {
                    fill(&mut request, &content(&brought)?);
                }
                self.statistics.requests += 1;
                self.completed.push_back(Completion {
                    request,
                    status: errno.map_or(Status::Ok, status),
                    failure: None,
                });
                Ok(())
            }
            GuestWord::Broken { why } => Err(format!("its guest: {why}")),
            // Of an opening or a closing that somebody waits for.
            _ => Ok(()),
        }
    }

    /// Hands over what nothing under way is in the way of, in its order.
    fn hand_over(&mut self) -> Result<(), String> {
        while let Some(request) = self.waiting.front() {
            let asked = GuestRequest {
                number: self.last_number.wrapping_add(1),
                what: what(request.operation),
                start: request.start.0,
                count: request.range().count.0,
            };
            let mut others = self.under_way.values();
            if others.any(|(other, _)| asked.excludes(*other)) {
                return Ok(());
            }
            let Some(request) = self.waiting.pop_front() else {
                return Ok(());
            };
            let written = match request.operation {
                Operation::Write { .. } => {
                    let data: Vec<u8> = request
                        .segments
                        .iter()
                        .flat_map(|it| &it.data)
                        .copied()
                        .collect();
                    pieces(&data)
                }
                _ => Vec::new(),
            };
            let order = Order::CarryOut(asked, written);
            self.last_number = asked.number;
            self.under_way.insert(asked.number, (asked, request));
            self.quiet = clock::start();
            self.running.tell(&order).map_err(|lost| lost.to_string())?;
        }
        Ok(())
    }

    fn try_step(&mut self) -> Result<Step, String> {
        self.hand_over()?;
        if let Some(completion) = self.completed.pop_front() {
            return Ok(Step::Completed(completion));
        }
        if self.under_way.is_empty() {
            return Ok(Step::Idle);
        }
        for word in self.hear(HANGS)? {
            self.take(word)?;
        }
        Ok(match self.completed.pop_front() {
            Some(completion) => Step::Completed(completion),
            None => Step::Working,
        })
    }

    /// It does nothing any more, of this.
    fn dies(&mut self, why: &str) -> String {
        let console = self.running.console();
        let last: Vec<_> = console.lines().rev().take(LAST_LINES).collect();
        let last: Vec<_> = last.into_iter().rev().collect();
        let kernel = driver::shown(&self.kernel);
        let why = format!(
            "{kernel}: {why}; the last of its console: {}",
            last.join(" | ")
        );
        self.death.insert(why).clone()
    }
}

/// Lines of the console that are told.
const LAST_LINES: usize = 6;

fn what(operation: Operation) -> GuestOperation {
    match operation {
        Operation::Read => GuestOperation::Read,
        Operation::Write { fua: false } => GuestOperation::Write,
        Operation::Write { fua: true } => GuestOperation::WriteWithFua,
        Operation::Flush => GuestOperation::Flush,
        Operation::Discard => GuestOperation::Discard,
        Operation::WriteZeroes => GuestOperation::WriteZeroes,
    }
}

/// What the block layer makes an error of, as far as that can be told from the error.
fn status(errno: i32) -> Status {
    match Errno::from_raw_os_error(errno) {
        Errno::OPNOTSUPP => Status::NotSupported,
        Errno::NOSPC => Status::NoSpace,
        Errno::INVAL => Status::Invalid,
        _ => Status::IoError,
    }
}

/// Puts what a read has brought into its buffers, which become shorter where it has brought less.
fn fill(request: &mut Request, mut brought: &[u8]) {
    for segment in &mut request.segments {
        let (here, rest) = brought.split_at(segment.data.len().min(brought.len()));
        segment.data.clear();
        segment.data.extend(here);
        brought = rest;
    }
}

impl Driver for KernelUbd {
    type File = RealFile;

    fn submit(&mut self, request: Request) -> Result<(), Request> {
        let has_room = self.waiting.len() + self.under_way.len() < self.limits().queue_depth;
        if self.death.is_some() || !has_room {
            return Err(request);
        }
        self.waiting.push_back(request);
        // What keeps it from being handed over is told by the next step.
        if let Err(why) = self.hand_over() {
            self.dies(&why);
        }
        Ok(())
    }

    fn step(&mut self) -> Step {
        if let Some(why) = &self.death {
            return Step::Died(why.clone());
        }
        match self.try_step() {
            Ok(step) => step,
            Err(why) => Step::Died(self.dies(&why)),
        }
    }

    fn begin_on(&mut self, _: &mut dyn Executor<RealFile>) {}

    fn finish(&mut self, _: Finished) {}

    fn next_completion(&mut self) -> Option<Completion> {
        self.completed.pop_front()
    }

    fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.under_way.is_empty() || !self.completed.is_empty()
    }

    fn death(&self) -> Option<String> {
        self.death.clone()
    }

    fn capacity(&self) -> SectorCount {
        self.capacity
    }

    /// A discard is one call in the guest, whose block layer cuts it as the driver needs it.
    fn limits(&self) -> Limits {
        Limits {
            max_discard: Limits::ORDERED.max_discard,
            ..Limits::LINUX_6_12
        }
    }

    fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Nobody has told.
    fn dirty_count(&self) -> SectorCount {
        SectorCount(0)
    }

    fn close(mut self) -> Result<(), String> {
        if let Some(why) = self.death.take() {
            return Err(why);
        }
        let closing = self.running.tell(&Order::Close);
        closing.map_err(|lost| lost.to_string())?;
        self.quiet = clock::start();
        self.hear_until(HANGS, |word| *word == GuestWord::Closed)?;
        self.running.remove().map_err(|lost| lost.to_string())?;
        self.answer()?.map(drop)
    }
}
