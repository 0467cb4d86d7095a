//! What the guest of the kernel has heard, held against what a guest of the model would.

use driver::blk::Tag;
use driver::exact_count;
use driver::units::SECTOR_SIZE;

use crate::fuzz::recorded::{GuestWord, content, error_words};

use super::asked::Asked;
use super::block_layer::InFlight;
use super::comparing::{Comparing, Phase, Stop, Working};

impl Comparing<'_> {
    /// The guest has said this.
    pub(super) fn word(&mut self, word: &GuestWord) -> Result<(), Stop> {
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
        if let Some(Working { whose, operation }) = &self.working
            && whose.iter().any(|(working, _)| *working == number)
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
