//! A life of a kernel and one of the model, word by word and operation by operation.

use std::collections::BTreeMap;
use std::ops::Range;

use driver::blk::{Completion, Request, Tag};
use driver::host::Operation;
use driver::linux::LinuxUbd;
use driver::units::{Sector, SectorRange};

use crate::fuzz::case::{BackingFile, Case, Life};
use crate::fuzz::device::Opening;
use crate::fuzz::paths::{BACKING, OTHER_BACKING};
use crate::fuzz::recorded::{Ending, GuestRequest, HostRecord, Recording, Witnessed, requests};
use crate::fuzz::world::{NotRelived, World};
use crate::sim::{SimFile, SimHost};

use super::asked::Asked;
use super::block_layer::{InFlight, Part, merged};
use super::misheard::Misheard;
use super::opening::HEADER_OF_MEMORY;
use super::{Compared, Difference};

/// The words for a model that asks for nothing.
pub(super) const NOTHING: &str = "asks for nothing";

/// Why a comparison does not go on.
pub(super) enum Stop {
    /// What the kernel does, and what the model does.
    Differs(String, String),
    /// The rest cannot be compared.
    CutShort(&'static str),
    /// The recording is not of the case.
    Wrong(String),
}

/// For whom the driver works: these parts of requests of the guest, by their numbers. If there are
/// none, it is the kernel itself.
pub(super) type Whose = Vec<(u32, Part)>;

/// What the model asks of its host next.
pub(super) struct Working {
    pub(super) whose: Whose,
    pub(super) operation: Operation,
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
    pub(super) misheard: &'a Misheard,
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
    /// The bitmap in the COW file, as the kernel has read it.
    pub(super) bitmap: Range<u64>,
    /// A header was written over that bitmap before it was read: see rule 4 of `opening`.
    pub(super) is_clobbered: bool,
    /// The header could not be read when the device was opened: see rule 6 of `opening`.
    pub(super) is_header_unread: bool,
    /// What the kernel's memory holds of a header after the latest opening, where that is known.
    pub(super) remembered: Option<Vec<u8>>,
    /// Files of the model's host, open to do to them what was done to the kernel's.
    pub(super) files: BTreeMap<String, SimFile>,
    /// What the guest was to do, by number.
    pub(super) asked: BTreeMap<u32, GuestRequest>,
    pub(super) in_flight: BTreeMap<u32, InFlight>,
    /// What the model is at.
    pub(super) working: Option<Working>,
    /// The tag of the latest request.
    tags: u64,
}

impl<'a> Comparing<'a> {
    /// Before the first life of a case.
    pub(super) fn new(
        case: &'a Case,
        recording: &'a Recording,
        misheard: &'a Misheard,
    ) -> Comparing<'a> {
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
            misheard,
            at: 0,
            compared: Compared::default(),
            host,
            opening: opening.unwrap_or_default(),
            phase: Phase::Opening,
            device: None,
            refused: None,
            is_opened_anew: false,
            bitmap: 0..0,
            is_clobbered: false,
            is_header_unread: false,
            remembered: None,
            files: BTreeMap::new(),
            asked: asked.unwrap_or_default(),
            in_flight: BTreeMap::new(),
            working: None,
            tags: 0,
        }
    }

    /// Compares up to the first difference, and how far that is in the recording.
    ///
    /// # Errors
    /// If the recording is not of the case.
    pub(super) fn compare(mut self) -> Result<(Compared, usize), NotRelived> {
        match self.all() {
            Ok(()) => {}
            Err(Stop::CutShort(why)) => self.compared.cut_short = Some(why),
            Err(Stop::Differs(..)) if self.is_header_unread && self.phase == Phase::Opening => {
                self.compared.cut_short = Some(HEADER_OF_MEMORY);
            }
            Err(Stop::Differs(..)) if self.has_refused_place() => {
                self.compared.cut_short = Some(REFUSED);
            }
            Err(Stop::Differs(kernel, model)) => {
                self.compared.difference = Some(Difference {
                    at: self.at,
                    kernel,
                    model,
                });
            }
            Err(Stop::Wrong(why)) => return Err(NotRelived { at: self.at, why }),
        }
        Ok((self.compared, self.at))
    }

    /// Whether the driver has a sector at a place that no file has. The kernel's host refuses it
    /// before the mount hears of it.
    fn has_refused_place(&self) -> bool {
        let Some(device) = &self.device else {
            return false;
        };
        let end = Sector(0) + device.capacity();
        let mut rest = SectorRange::between(Sector(0)..end);
        while !rest.is_empty() {
            let place = device.read_place(rest);
            if place.file.is_none() {
                return true;
            }
            rest = SectorRange::between(place.sectors.end()..end);
        }
        false
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
                Phase::Opening if self.is_clobbered => {
                    self.at += 1;
                    return Ok(());
                }
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
        if let Some((kernel, model)) = recorded.differs(&given, self.bitmap.end) {
            let ends = whose.iter().map(|(_, part)| part.end().0);
            if ends.max().is_some_and(|end| end > self.sectors_with_bits()) {
                return Err(Stop::CutShort(NO_BIT));
            }
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
        let Some(completion) = device.next_completion() else {
            let model = match device.death() {
                Some(death) => format!("dies: {death}"),
                None => NOTHING.to_owned(),
            };
            return Err(Stop::Differs("goes on".to_owned(), model));
        };
        let Completion {
            request, status, ..
        } = completion;
        for (index, (number, part)) in whose.into_iter().enumerate() {
            if let Some(in_flight) = self.in_flight.get_mut(&number) {
                let segment = request.segments.get(index).map(std::slice::from_ref);
                in_flight.ended(part, status, segment.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Begins the request in flight whose operations are those that the recording has next.
    fn begin(&mut self, record: &HostRecord) -> Result<(), Stop> {
        let chain = self.choose()?;
        if !chain.is_empty() {
            return self.submit(&chain);
        }
        let limits = self.in_flight.values().flat_map(|it| &it.waiting);
        let ends = limits.map(|part| part.end().0);
        if ends.max().is_some_and(|end| end > self.sectors_with_bits()) {
            return Err(Stop::CutShort(NO_BIT));
        }
        let recorded = Asked::recorded(record).map_err(Stop::Wrong)?;
        Err(differs(asks_for(&recorded), self.waiting()))
    }

    /// How many sectors have a bit in the file.
    fn sectors_with_bits(&self) -> u64 {
        (self.bitmap.end - self.bitmap.start).saturating_mul(BITS)
    }

    /// Gives the model what asks nothing of its host: rule 4.
    pub(super) fn pass_silent(&mut self) -> Result<(), Stop> {
        while self.working.is_none()
            && let Some((number, index)) = self.silent()
        {
            self.submit(&[(number, index)])?;
        }
        Ok(())
    }

    /// Gives the model parts of requests, as one.
    fn submit(&mut self, chain: &[(u32, usize)]) -> Result<(), Stop> {
        self.tags += 1;
        let tag = Tag(self.tags);
        let (mut whose, mut requests) = (Whose::new(), Vec::new());
        for &(number, index) in chain {
            let Some(in_flight) = self.in_flight.get_mut(&number) else {
                continue;
            };
            if let Some(part) = in_flight.take(index) {
                requests.push(in_flight.request(part, tag));
                whose.push((number, part));
            }
        }
        let numbers = numbers(&whose);
        let (Some(request), Some(device)) = (merged(requests), &mut self.device) else {
            return Ok(());
        };
        if device.submit(request).is_err() {
            let model = match device.death() {
                Some(death) => format!("dies: {death}"),
                None => format!("has no room for {numbers}"),
            };
            return Err(Stop::Differs(format!("takes {numbers}"), model));
        }
        self.advance(whose)
    }

    /// Gives the model a read of the kernel's own.
    pub(super) fn submit_own(&mut self, request: Request) -> Result<(), Stop> {
        let submitted = self.device.as_mut().map(|device| device.submit(request));
        match submitted {
            Some(Ok(())) => self.advance(Whose::new()),
            _ => Ok(()),
        }
    }

    /// The path of the device's backing file.
    pub(super) fn backing(&self) -> &'static str {
        match self.opening.switched {
            true => OTHER_BACKING,
            false => BACKING,
        }
    }

    /// The recording is over.
    fn ended(&mut self, ending: &Ending) -> Result<(), Stop> {
        let kernel = match ending {
            Ending::Whole => return Ok(()),
            Ending::Killed => return Err(Stop::CutShort(KILLED)),
            Ending::Died(_) => "dies".to_owned(),
            Ending::Hung(_) => "does nothing any more".to_owned(),
            Ending::Endless(_) => "asks its host for more than the life can need".to_owned(),
            Ending::Astray { why, .. } => format!("has a guest that has gone astray: {why}"),
        };
        let is_dying = matches!(ending, Ending::Died(_)) && self.model_dies();
        if is_dying {
            return Ok(());
        }
        if matches!(ending, Ending::Hung(_)) {
            let is_writing = |it: &InFlight| it.asked.operation().is_change();
            let has_one_word = self.bitmap.end - self.bitmap.start <= WORD;
            if has_one_word && self.in_flight.values().any(is_writing) {
                return Err(Stop::CutShort(ONE_WORD));
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
        Err(Stop::Differs(kernel, model))
    }
}

/// A case that is compared has one life, which nobody ends.
const KILLED: &str = "the kernel was killed";

/// The error of such an operation can be misheard too (see `misheard`), and the recording does not
/// have it.
const REFUSED: &str = "the kernel has misheard, it seems, that it may not read or write before the \
                       beginning of a file";

/// Bytes of a word of the bitmap.
const WORD: u64 = 8;

/// Bits of a byte.
const BITS: u64 = 8;

/// The bitmap of V1 and V2 may lack a byte for the last sectors: see
/// [`Defect::V1V2ShortBitmap`](driver::linux::Defect::V1V2ShortBitmap).
const NO_BIT: &str = "a sector has no bit in the file, and what the kernel's memory held decides";

/// The kernel hangs when it reads the word before its bitmap in memory. The model has zeros there.
const ONE_WORD: &str = "the kernel hung at a write where the bitmap has one word";

/// The requests whose parts these are, in words.
fn numbers(whose: &[(u32, Part)]) -> String {
    let numbers = whose.iter().map(|(number, _)| format!("request {number}"));
    numbers.collect::<Vec<_>>().join(" and ")
}

pub(super) fn asks_for(asked: impl std::fmt::Display) -> String {
    format!("asks for {asked}")
}

pub(super) fn differs(kernel: String, model: String) -> Stop {
    Stop::Differs(kernel, model)
}
