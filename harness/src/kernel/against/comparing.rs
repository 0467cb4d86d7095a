//! A life of a kernel and one of the model, word by word and operation by operation.

use std::collections::BTreeMap;

use driver::blk::{Completion, Tag};
use driver::exact_count;
use driver::host::{
    Access, Action, Finished, HostError, HostFile, HostNames, HostResult, Operation,
};
use driver::linux::LinuxUbd;
use driver::units::SECTOR_SIZE;

use crate::fuzz::case::{BackingFile, Case, Life};
use crate::fuzz::device::Opening;
use crate::fuzz::paths::{BACKING, OTHER_BACKING};
use crate::fuzz::recorded::{
    Ending, GuestRequest, GuestWord, HostRecord, Recording, Witnessed, content, error_words,
    requests,
};
use crate::fuzz::world::{NotRelived, World};
use crate::sim::{SimFile, SimHost};

use super::asked::{Asked, path_of};
use super::block_layer::{InFlight, Part};
use super::{Compared, Difference};

/// The words for a model that asks for nothing.
const NOTHING: &str = "asks for nothing";

/// The most requests that are named where none of them fits.
const NAMED: usize = 3;

/// Why a comparison does not go on.
pub(super) enum Stop {
    /// What the kernel does, and what the model does.
    Differs(String, String),
    /// The rest cannot be compared.
    CutShort(&'static str),
    /// The recording is not of the case.
    Wrong(String),
}

/// For whom the driver works.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whose {
    /// The kernel itself.
    Own,
    /// The guest, who calls its request by this number.
    Guest(u32, Part),
}

/// What the model asks of its host next.
struct Working {
    whose: Whose,
    operation: Operation,
}

/// How far a life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The guest does not have the device yet.
    Opening,
    /// It has.
    Serving,
    /// It has closed it, or cannot have it.
    Over,
}

/// A comparison under way.
pub(super) struct Comparing<'a> {
    pub(super) case: &'a Case,
    pub(super) recording: &'a Recording,
    /// What is next in it.
    pub(super) at: usize,
    pub(super) compared: Compared,
    pub(super) host: SimHost,
    pub(super) opening: Opening,
    pub(super) phase: Phase,
    pub(super) device: Option<LinuxUbd<SimFile>>,
    /// Why the model has not opened the device.
    pub(super) refused: Option<String>,
    /// The kernel has opened the device since this was last set to false.
    pub(super) is_opened_anew: bool,
    /// The bitmap that the kernel has read has one word.
    pub(super) has_one_word: bool,
    /// Files of the model's host, open to do to them what was done to the kernel's.
    pub(super) files: BTreeMap<String, SimFile>,
    asked: BTreeMap<u32, GuestRequest>,
    in_flight: BTreeMap<u32, InFlight>,
    working: Option<Working>,
    tags: u64,
}

impl<'a> Comparing<'a> {
    /// Before the first life of a case.
    pub(super) fn new(case: &'a Case, recording: &'a Recording) -> Comparing<'a> {
        let life = case.lives.first();
        let mut world = World::new(case);
        if let Some(&Life {
            backing: BackingFile::Modified { seconds },
            ..
        }) = life
            && !case.image.missing
        {
            world.modify_backing(seconds);
        }
        let asked = life.map(|life| requests(life, case.image.sectors, recording.longest));
        let opening = life.map(|life| Opening::of(case, life, Opening::default()));
        let host = world.host.clone();
        host.record();
        Comparing {
            case,
            recording,
            at: 0,
            compared: Compared::default(),
            host,
            opening: opening.unwrap_or_default(),
            phase: Phase::Opening,
            device: None,
            refused: None,
            is_opened_anew: false,
            has_one_word: false,
            files: BTreeMap::new(),
            asked: asked.unwrap_or_default(),
            in_flight: BTreeMap::new(),
            working: None,
            tags: 0,
        }
    }

    /// Compares up to the first difference.
    ///
    /// # Errors
    /// If the recording is not of the case.
    pub(super) fn compare(mut self) -> Result<Compared, NotRelived> {
        match self.all() {
            Ok(()) => {}
            Err(Stop::CutShort(why)) => self.compared.cut_short = Some(why),
            Err(Stop::Differs(kernel, model)) => {
                self.compared.difference = Some(Difference {
                    at: self.at,
                    kernel,
                    model,
                });
            }
            Err(Stop::Wrong(why)) => return Err(NotRelived { at: self.at, why }),
        }
        Ok(self.compared)
    }

    fn all(&mut self) -> Result<(), Stop> {
        let recording = self.recording;
        while let Some(witnessed) = recording.witnessed.get(self.at) {
            match witnessed {
                Witnessed::Host(record) => self.host(record)?,
                Witnessed::Guest(word) => {
                    self.word(word)?;
                    self.at += 1;
                }
            }
        }
        self.ended(&recording.ending)
    }

    /// The kernel has asked for this.
    fn host(&mut self, record: &HostRecord) -> Result<(), Stop> {
        if self.working.is_none() {
            match self.phase {
                Phase::Opening if self.begins_opening(record) => return self.open(),
                Phase::Opening => self.read_by_itself(record)?,
                Phase::Serving => self.begin(record)?,
                Phase::Over => {}
            }
        }
        self.go_on(record)?;
        self.at += 1;
        Ok(())
    }

    /// The model asks for the next thing, which has to be this.
    fn go_on(&mut self, record: &HostRecord) -> Result<(), Stop> {
        let recorded = Asked::recorded(record).map_err(Stop::Wrong)?;
        let Some(Working { whose, operation }) = self.working.take() else {
            return Err(differs(asks_for(&recorded), NOTHING.to_owned()));
        };
        let given = Asked::given(&operation, self.backing());
        if let Some((kernel, model)) = recorded.differs(&given) {
            return Err(Stop::Differs(asks_for(&kernel), asks_for(&model)));
        }
        let finished = self.carry_out(operation, record)?;
        self.compared.host_operations += 1;
        if let Some(device) = &mut self.device {
            device.finish(finished);
        }
        self.advance(whose)?;
        self.pass_silent()
    }

    /// Lets the model go on until it asks its host for something, or has nothing to do.
    fn advance(&mut self, whose: Whose) -> Result<(), Stop> {
        let Some(device) = &mut self.device else {
            return Ok(());
        };
        if let Some(operation) = device.next_operation() {
            self.working = Some(Working { whose, operation });
            return Ok(());
        }
        let completed = device.next_completion();
        let death = device.death();
        match (completed, whose) {
            (Some(completion), Whose::Guest(number, part)) => {
                let Completion {
                    request, status, ..
                } = completion;
                if let Some(in_flight) = self.in_flight.get_mut(&number) {
                    in_flight.ended(part, status, &request);
                }
                Ok(())
            }
            (Some(_), Whose::Own) => Ok(()),
            (None, _) => {
                let model = match death {
                    Some(death) => format!("dies: {death}"),
                    None => NOTHING.to_owned(),
                };
                Err(Stop::Differs("goes on".to_owned(), model))
            }
        }
    }

    /// Begins the request in flight whose operations are those that the recording has next.
    fn begin(&mut self, record: &HostRecord) -> Result<(), Stop> {
        let Some((number, index)) = self.choose()? else {
            let recorded = Asked::recorded(record).map_err(Stop::Wrong)?;
            return Err(differs(asks_for(&recorded), self.waiting()));
        };
        self.submit(number, index)
    }

    /// Gives the model what asks nothing of its host: rule 3.
    fn pass_silent(&mut self) -> Result<(), Stop> {
        while self.working.is_none()
            && let Some((number, index)) = self.silent()
        {
            self.submit(number, index)?;
        }
        Ok(())
    }

    /// A part of a request in flight that asks nothing of the host, and its place there.
    fn silent(&self) -> Option<(u32, usize)> {
        let device = self.device.as_ref()?;
        self.in_flight.iter().find_map(|(&number, in_flight)| {
            let mut waiting = in_flight.waiting.iter();
            let index = waiting.position(|&part| {
                let mut forecast = device.forecast();
                let is_taken = forecast.submit(in_flight.request(part, Tag(0))).is_ok();
                is_taken && forecast.next_operation().is_none()
            });
            Some((number, index?))
        })
    }

    /// Gives the model a part of a request.
    fn submit(&mut self, number: u32, index: usize) -> Result<(), Stop> {
        self.tags += 1;
        let tag = Tag(self.tags);
        let taken = self.in_flight.get_mut(&number).and_then(|in_flight| {
            let part = in_flight.take(index)?;
            Some((part, in_flight.request(part, tag)))
        });
        let (Some((part, request)), Some(device)) = (taken, &mut self.device) else {
            return Ok(());
        };
        if device.submit(request).is_err() {
            let model = match device.death() {
                Some(death) => format!("dies: {death}"),
                None => format!("has no room for request {number}"),
            };
            return Err(Stop::Differs(format!("takes request {number}"), model));
        }
        self.advance(Whose::Guest(number, part))
    }

    /// Gives the model a read of the kernel's own.
    pub(super) fn submit_own(&mut self, request: driver::blk::Request) -> Result<(), Stop> {
        let submitted = self.device.as_mut().map(|device| device.submit(request));
        match submitted {
            Some(Ok(())) => self.advance(Whose::Own),
            _ => Ok(()),
        }
    }

    /// The request in flight, and its part, that the driver has got next: rule 2.
    fn choose(&self) -> Result<Option<(u32, usize)>, Stop> {
        let Some(device) = &self.device else {
            return Ok(None);
        };
        let mut best = None;
        for (&number, in_flight) in &self.in_flight {
            let parts = in_flight.waiting.len();
            for (index, &part) in in_flight.waiting.iter().enumerate() {
                let mut forecast = device.forecast();
                let request = in_flight.request(part, Tag(0));
                if forecast.submit(request).is_err() {
                    continue;
                }
                let mut fits = self.fit(&mut forecast)?;
                if fits.alike == 0 {
                    continue;
                }
                // How it ends is known of a request of one part.
                if let (Some(is_good), 1) = (fits.ends_well, parts) {
                    fits.is_whole &= self.ends_well(number).is_none_or(|it| it == is_good);
                }
                let rank = (fits.is_whole, fits.alike);
                if best.is_none_or(|(found, _)| rank > found) {
                    best = Some((rank, (number, index)));
                }
            }
        }
        Ok(best.map(|(_, found)| found))
    }

    /// How much of what the recording has next is what this copy of the device asks for.
    fn fit(&self, forecast: &mut LinuxUbd<SimFile>) -> Result<Fit, Stop> {
        let mut fit = Fit::default();
        let rest = self.recording.witnessed.get(self.at..).unwrap_or_default();
        let mut records = rest.iter().filter_map(|witnessed| match witnessed {
            Witnessed::Host(record) => Some(record),
            Witnessed::Guest(_) => None,
        });
        loop {
            let Some(mut operation) = forecast.next_operation() else {
                let ended = forecast.next_completion();
                fit.ends_well = ended.map(|it| it.status == driver::blk::Status::Ok);
                fit.is_whole = fit.ends_well.is_some();
                return Ok(fit);
            };
            let Some(record) = records.next() else {
                return Ok(fit);
            };
            let recorded = Asked::recorded(record).map_err(Stop::Wrong)?;
            let given = Asked::given(&operation, self.backing());
            if recorded.differs(&given).is_some() {
                return Ok(fit);
            }
            fit.alike += 1;
            count_done(&mut operation.action, record);
            forecast.finish(Finished {
                operation,
                result: result_of(record),
            });
        }
    }

    /// Whether the guest will hear that a request has ended well, if it hears of its end.
    fn ends_well(&self, number: u32) -> Option<bool> {
        let rest = self.recording.witnessed.get(self.at..).unwrap_or_default();
        rest.iter().find_map(|witnessed| match witnessed {
            Witnessed::Guest(GuestWord::Ended {
                number: ended,
                errno,
                ..
            }) if *ended == number => Some(errno.is_none()),
            _ => None,
        })
    }

    /// What the model would ask for, where it is none of what the kernel asks for.
    fn waiting(&self) -> String {
        let Some(device) = &self.device else {
            return NOTHING.to_owned();
        };
        let mut first = Vec::new();
        for in_flight in self.in_flight.values() {
            for &part in &in_flight.waiting {
                let mut forecast = device.forecast();
                if forecast.submit(in_flight.request(part, Tag(0))).is_ok()
                    && let Some(operation) = forecast.next_operation()
                {
                    first.push(Asked::given(&operation, self.backing()).to_string());
                }
            }
        }
        if first.is_empty() {
            return NOTHING.to_owned();
        }
        let more = first.len().saturating_sub(NAMED);
        first.truncate(NAMED);
        let first = first.join(" or ");
        match more {
            0 => asks_for(first),
            more => asks_for(format!("{first} or {more} more")),
        }
    }

    /// Does to a file of the model's host what was done to the kernel's.
    fn carry_out(
        &mut self,
        mut operation: Operation,
        record: &HostRecord,
    ) -> Result<Finished, Stop> {
        count_done(&mut operation.action, record);
        let path = path_of(operation.file, self.backing()).to_owned();
        let done = record.done as usize;
        let file = self.file(&path)?;
        let carried: HostResult<bool> = match &mut operation.action {
            Action::ReadOnce { at, buffer, .. } => {
                let begin = buffer.part.start;
                let part = &mut buffer.data[begin..begin + done];
                file.read_at(part, *at).map(|count| count == done)
            }
            Action::WriteOnce { at, buffer, .. } => {
                let begin = buffer.part.start;
                let part = &buffer.data[begin..begin + done];
                file.write_all_at(part, *at).map(|()| true)
            }
            Action::PunchHole(range) | Action::ZeroRange(range) => {
                let mut range = *range;
                range.len.0 = record.done;
                match record.done {
                    0 => Ok(true),
                    _ => file.punch_hole(range).map(|()| true),
                }
            }
            Action::SyncData if record.errno.is_none() => file.sync_data().map(|()| true),
            _ => Ok(true),
        };
        match carried {
            Ok(true) => Ok(Finished {
                operation,
                result: result_of(record),
            }),
            Ok(false) => Err(Stop::Wrong(format!(
                "{} of {path}: found {done} bytes read, and the file has fewer there",
                record.kind
            ))),
            Err(error) => Err(Stop::Wrong(format!("{} of {path}: {error}", record.kind))),
        }
    }

    fn file(&mut self, path: &str) -> Result<&SimFile, Stop> {
        let wrong = |why: String| Stop::Wrong(format!("{path}: {why}"));
        if !self.files.contains_key(path) {
            let file = self.host.open(path.as_ref(), Access::ReadWrite);
            let file = file.map_err(|error| wrong(error.to_string()))?;
            self.files.insert(path.to_owned(), file);
        }
        let file = self.files.get(path);
        file.ok_or_else(|| wrong("not open".to_owned()))
    }

    /// The path of the device's backing file.
    pub(super) fn backing(&self) -> &'static str {
        match self.opening.switched {
            true => OTHER_BACKING,
            false => BACKING,
        }
    }

    /// The guest has said this.
    fn word(&mut self, word: &GuestWord) -> Result<(), Stop> {
        match word {
            GuestWord::Ready => Ok(()),
            GuestWord::Opened { sectors } => self.opened(*sectors),
            GuestWord::NotOpened { errno } => self.not_opened(*errno),
            GuestWord::Submitted { number } => {
                let asked = self.asked.get(number).copied();
                let asked = asked.ok_or_else(|| {
                    Stop::Wrong(format!(
                        "found request {number}, expected one of the case's"
                    ))
                })?;
                let Some(device) = &self.device else {
                    return Err(Stop::Wrong(
                        "found a request, expected an open device".into(),
                    ));
                };
                let in_flight = InFlight::new(asked, device.limits());
                self.in_flight.insert(*number, in_flight);
                self.pass_silent()
            }
            GuestWord::Ended {
                number,
                errno,
                brought,
            } => {
                let brought = content(brought).map_err(Stop::Wrong)?;
                self.request_ended(*number, *errno, &brought)
            }
            GuestWord::Closed => self.closed(),
            GuestWord::Broken { why } => Err(Stop::Wrong(format!("the guest: {why}"))),
        }
    }

    /// The guest has heard of the end of a request.
    fn request_ended(
        &mut self,
        number: u32,
        errno: Option<i32>,
        brought: &[u8],
    ) -> Result<(), Stop> {
        let ends = |how: String| format!("ends request {number} {how}");
        if let Some(Working {
            whose: Whose::Guest(working, _),
            operation,
        }) = &self.working
            && *working == number
        {
            let asked = Asked::given(operation, self.backing());
            return Err(Stop::Differs(
                ends(told(errno)),
                format!("asks for {asked} before that"),
            ));
        }
        let Some(in_flight) = self.in_flight.remove(&number) else {
            return Err(Stop::Wrong(format!(
                "found the end of request {number}, which is not in flight"
            )));
        };
        if let Some(&part) = in_flight.waiting.front()
            && let Some(device) = &self.device
        {
            let mut forecast = device.forecast();
            let request = in_flight.request(part, Tag(0));
            let next = forecast
                .submit(request)
                .ok()
                .and_then(|()| forecast.next_operation());
            let asked = next.map(|it| Asked::given(&it, self.backing()).to_string());
            let asked = asked.unwrap_or_else(|| "what is under way".to_owned());
            let model = format!("asks for {asked} before that");
            return Err(Stop::Differs(ends(told(errno)), model));
        }
        let errors = in_flight.errors();
        let is_alike = match errno {
            None => errors.is_empty(),
            Some(errno) => errors.contains(&errno),
        };
        if !is_alike {
            let model = match errors.is_empty() {
                true => told(None),
                false => {
                    let told: Vec<String> = errors.iter().map(|it| told(Some(*it))).collect();
                    told.join(" or ")
                }
            };
            return Err(Stop::Differs(ends(told(errno)), ends(model)));
        }
        if errno.is_none() {
            compare_content(&in_flight, brought)?;
            self.compared.sectors_read += brought.len() as u64 / SECTOR_SIZE;
        }
        self.compared.requests += 1;
        Ok(())
    }

    fn closed(&mut self) -> Result<(), Stop> {
        if let Some(number) = self.in_flight.keys().next() {
            return Err(Stop::Wrong(format!(
                "found the device closed, and request {number} is in flight"
            )));
        }
        self.phase = Phase::Over;
        self.device = None;
        Ok(())
    }

    /// The recording is over.
    fn ended(&mut self, ending: &Ending) -> Result<(), Stop> {
        let kernel = match ending {
            Ending::Whole => return Ok(()),
            Ending::Died(_) => "dies",
            Ending::Hung(_) => "does nothing any more",
        };
        let is_dying = matches!(ending, Ending::Died(_)) && self.model_dies();
        if is_dying {
            return Ok(());
        }
        if matches!(ending, Ending::Hung(_)) {
            let is_writing = |it: &InFlight| it.asked.operation().is_change();
            if self.has_one_word && self.in_flight.values().any(is_writing) {
                return Err(Stop::CutShort(ONE_WORD));
            }
            if self.phase == Phase::Opening {
                return Err(Stop::CutShort(HUNG_BEFORE));
            }
        }
        let model = match (&self.working, self.in_flight.is_empty()) {
            (Some(working), _) => {
                let asked = Asked::given(&working.operation, self.backing());
                asks_for(&asked)
            }
            (None, true) => "goes on".to_owned(),
            (None, false) => self.waiting(),
        };
        Err(Stop::Differs(kernel.to_owned(), model))
    }

    /// Whether the model dies of what the kernel has before it.
    fn model_dies(&self) -> bool {
        let Some(device) = &self.device else {
            return self.refused.as_ref().is_some_and(|it| it.contains("died"));
        };
        self.in_flight.values().any(|in_flight| {
            in_flight.waiting.iter().any(|&part| {
                let mut forecast = device.forecast();
                forecast.submit(in_flight.request(part, Tag(0))).is_err()
            })
        })
    }
}

/// A kernel that is given a device while it runs hangs now and then while it looks for partitions,
/// after all that it has asked for was answered. Why is not known.
const HUNG_BEFORE: &str = "the kernel hung before its guest had the device";

/// The kernel hangs when it reads the word before its bitmap in memory. The model has zeros there.
const ONE_WORD: &str = "the kernel hung at a write where the bitmap has one word";

/// How well a request fits what a recording has next.
#[derive(Clone, Copy, Debug, Default)]
struct Fit {
    /// Operations that are alike.
    alike: usize,
    /// Those are all.
    is_whole: bool,
    /// Whether it ends well then.
    ends_well: Option<bool>,
}

/// Notes how much of an operation was done.
fn count_done(action: &mut Action, record: &HostRecord) {
    if let Action::ReadOnce { count, .. } | Action::WriteOnce { count, .. } = action {
        *count = record.done as usize;
    }
}

/// What the host has said.
fn result_of(record: &HostRecord) -> HostResult<()> {
    match record.errno {
        None => Ok(()),
        Some(5) => Err(HostError::Io),
        Some(28) => Err(HostError::NoSpace),
        Some(95) => Err(HostError::Unsupported),
        Some(other) => Err(HostError::Os(other)),
    }
}

fn compare_content(in_flight: &InFlight, brought: &[u8]) -> Result<(), Stop> {
    let expected = &in_flight.content;
    let number = in_flight.asked.number;
    if brought.len() != expected.len() {
        let reads = |len: usize| {
            let len = exact_count(len as u64, "byte");
            format!("reads {len} for request {number}")
        };
        return Err(Stop::Differs(reads(brought.len()), reads(expected.len())));
    }
    let mut sectors = brought
        .chunks(SECTOR_SIZE as usize)
        .zip(expected.chunks(SECTOR_SIZE as usize));
    let Some(index) = sectors.position(|(here, there)| here != there) else {
        return Ok(());
    };
    let sector = in_flight.asked.start + index as u64;
    let begin = index * SECTOR_SIZE as usize;
    let shows = |content: &[u8]| {
        let found = crate::stamp::Content::of(&content[begin..begin + SECTOR_SIZE as usize]);
        format!("reads {found} in sector {sector} for request {number}")
    };
    Err(Stop::Differs(shows(brought), shows(expected)))
}

/// How a request ends, in words.
fn told(errno: Option<i32>) -> String {
    match errno {
        None => "well".to_owned(),
        Some(errno) => format!("with \"{}\"", error_words(errno)),
    }
}

pub(super) fn asks_for(asked: impl std::fmt::Display) -> String {
    format!("asks for {asked}")
}

pub(super) fn differs(kernel: String, model: String) -> Stop {
    Stop::Differs(kernel, model)
}
