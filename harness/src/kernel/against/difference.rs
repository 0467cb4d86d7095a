//! A difference between a kernel and a model of its driver: as a file that needs nothing else, and
//! as a story.

use std::collections::BTreeMap;
use std::fmt;

use driver::host::OperationKind;
use serde::{Deserialize, Serialize};

use crate::figures::counted;
use crate::fuzz::case::{Case, DriverName};
use crate::fuzz::recorded::{GuestRequest, GuestWord, Recording, Witnessed, error_words, requests};
use crate::fuzz::story::{Event, Told, tell_beginning};
use crate::fuzz::world::NotRelived;

use super::asked::Asked;
use super::{Compared, compare};

/// What the file says first.
pub const FORMAT: &str = "ubdlab kernel difference 1";

/// The models that a kernel can be held against.
const MODELS: [DriverName; 1] = [DriverName::Linux612];

/// What was witnessed before a difference, and is told.
const TOLD_BEFORE: usize = 24;

/// The first thing in which a kernel and a model differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The place in what was witnessed.
    pub at: usize,
    /// What the kernel does there.
    pub kernel: String,
    /// What the model does there.
    pub model: String,
}

/// `witnessed[37]: the kernel asks for .., the model ..`
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { at, kernel, model } = self;
        write!(f, "witnessed[{at}]: the kernel {kernel}, the model {model}")
    }
}

/// A difference in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DifferenceFile {
    /// [`FORMAT`].
    pub format: String,
    /// The model.
    pub against: DriverName,
    /// What was found, for a reader.
    pub difference: Difference,
    /// The case.
    pub case: Case,
    /// The recording.
    pub recording: Recording,
}

/// Why there is no model of this name to hold a kernel against, if there is none.
///
/// # Errors
/// In words.
pub fn check_model(against: DriverName) -> Result<(), String> {
    if MODELS.contains(&against) {
        return Ok(());
    }
    let why = match against {
        DriverName::Linux26 => "a model of a kernel that serves one request at a time, a page each",
        _ => "a driver that is no model of a kernel's",
    };
    let expected = MODELS.map(DriverName::name).join(" or ");
    Err(format!(
        "found {}, {why}, expected {expected}",
        against.name()
    ))
}

impl DifferenceFile {
    /// A difference that was found.
    pub fn of(
        against: DriverName,
        case: &Case,
        recording: &Recording,
        difference: &Difference,
    ) -> DifferenceFile {
        DifferenceFile {
            format: FORMAT.to_owned(),
            against,
            difference: difference.clone(),
            case: case.clone(),
            recording: recording.clone(),
        }
    }

    /// Whether somebody who has edited it has left it whole.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!(
                "found format {:?}, expected {FORMAT:?}",
                self.format
            ));
        }
        check_model(self.against).map_err(|error| format!("against: {error}"))?;
        self.case.check()
    }

    /// Compares it again, and tells what happens.
    ///
    /// # Errors
    /// If the recording is not of the case.
    pub fn tell(&self) -> Result<(Compared, Told), NotRelived> {
        let compared = compare(&self.case, &self.recording, self.against)?;
        let mut events = vec![
            Event::Given("kernel", self.recording.kernel.clone()),
            Event::Given("model", self.against.name().to_owned()),
        ];
        tell_beginning(&self.case, &mut events);
        let witnessed = &self.recording.witnessed;
        let end = match &compared.difference {
            Some(difference) => difference.at.min(witnessed.len()),
            None => witnessed.len(),
        };
        let begin = end.saturating_sub(TOLD_BEFORE);
        if begin > 0 {
            events.push(Event::Remark("what comes before this is alike"));
        }
        let life = self.case.lives.first();
        let (sectors, longest) = (self.case.image.sectors, self.recording.longest);
        let requests = life.map(|life| requests(life, sectors, longest));
        let requests = requests.unwrap_or_default();
        let before = witnessed[begin..end].iter();
        events.extend(before.map(|witnessed| told(witnessed, &requests)));
        if compared.misheard > 0 {
            let errors = counted(compared.misheard, "error");
            let what = format!("the kernel has heard {errors} of its host as others, or as none");
            events.push(Event::Arranged(what));
        }
        if let Some(why) = compared.cut_short {
            events.push(Event::Remark("the end of it was not compared, for"));
            events.push(Event::Remark(why));
        }
        events.push(Event::Found(match &compared.difference {
            None => Vec::new(),
            Some(Difference { at, kernel, model }) => vec![
                ("found", "difference".to_owned()),
                ("where", format!("witnessed[{at}]")),
                ("kernel", kernel.clone()),
                ("model", model.clone()),
            ],
        }));
        let told = Told {
            events,
            violation: None,
            strip: None,
        };
        Ok((compared, told))
    }
}

/// What was witnessed, as an event of a story.
fn told(witnessed: &Witnessed, requests: &BTreeMap<u32, GuestRequest>) -> Event {
    match witnessed {
        Witnessed::Guest(word) => Event::Request(said(word, requests)),
        Witnessed::Host(record) => {
            let asked = match Asked::recorded(record) {
                Ok(asked) => asked.to_string(),
                Err(error) => error,
            };
            let came = match record.errno {
                Some(errno) => error_words(errno),
                None => record.done.to_string(),
            };
            Event::Host {
                what: format!("{asked} = {came}"),
                changes: record.kind().is_ok_and(OperationKind::is_change),
            }
        }
    }
}

/// What a guest has said.
fn said(word: &GuestWord, requests: &BTreeMap<u32, GuestRequest>) -> String {
    match word {
        GuestWord::Ready => "the guest is up".to_owned(),
        GuestWord::Opened { sectors } => format!("the device is open, with {sectors} sectors"),
        GuestWord::NotOpened { errno } => {
            format!("the device is not opened: {}", error_words(*errno))
        }
        GuestWord::Submitted { number } => {
            let asked = requests.get(number);
            let asked = asked.map(|it| format!(": a {} of {}", it.operation(), it.range()));
            format!("request {number} is submitted{}", asked.unwrap_or_default())
        }
        GuestWord::Ended { number, errno, .. } => {
            let how = errno.map_or_else(|| "done".to_owned(), error_words);
            format!("request {number} completed: {how}")
        }
        GuestWord::Closed => "the device is closed".to_owned(),
        GuestWord::Broken { why } => why.clone(),
    }
}
