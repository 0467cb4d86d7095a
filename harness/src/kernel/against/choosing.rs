//! Which of the requests in flight the driver has got next. A recording does not say it: it is the
//! one whose operations the recording has next.

use driver::blk::{Completion, Operation, Status, Tag};
use driver::host::{Action, Finished};
use driver::units::SectorCount;

use crate::fuzz::recorded::{GuestWord, Piece, Witnessed, content};

use super::asked::Asked;
use super::block_layer::{InFlight, Part, merged};
use super::comparing::{Comparing, NOTHING, Stop, asks_for};

/// The most requests that are named where none of them fits.
const NAMED: usize = 3;

/// Parts of requests in flight that the driver gets as one: the number of each, and its place among
/// those that wait.
pub(super) type Chain = Vec<(u32, usize)>;

/// How well a request fits what a recording has next.
#[derive(Clone, Copy, Debug, Default)]
struct Fit {
    /// Operations that are alike.
    alike: usize,
    /// Those are all.
    is_alike: bool,
    /// And it ends as the guest will hear.
    is_whole: bool,
    /// Its requests for which nothing is asked after that. A request that was merged with one that
    /// fails asks for nothing by itself.
    ask_no_more: usize,
}

impl Comparing<'_> {
    /// What the driver has got next of the requests in flight: rules 2 and 3. Nothing if none of
    /// them asks for what the recording has next.
    pub(super) fn choose(&self) -> Result<Chain, Stop> {
        let (mut best, mut best_rank) = ((0, 0, Chain::new()), (false, 0, 0));
        let all = self.in_flight.iter().flat_map(|(&number, in_flight)| {
            let places = 0..in_flight.waiting.len();
            places.map(move |index| (number, index))
        });
        let all: Chain = all.collect();
        let mut chains: Vec<Chain> = all.iter().map(|&one| vec![one]).collect();
        while let Some(chain) = chains.pop() {
            let fit = self.fit(&chain)?;
            let rank = (fit.is_whole, fit.alike, fit.ask_no_more);
            // Of those that are alike the shortest, and of these the one that ends first.
            let order = (chain.len(), self.last_end(&chain), chain.clone());
            let is_better = rank > best_rank || rank == best_rank && order < best;
            if fit.alike > 0 && is_better {
                (best, best_rank) = (order, rank);
            }
            if fit.is_alike {
                let follows = |next: &&(u32, usize)| self.follows(&chain, **next);
                let longer = all.iter().filter(follows).map(|next| {
                    let mut longer = chain.clone();
                    longer.push(*next);
                    longer
                });
                chains.extend(longer);
            }
        }
        Ok(best.2)
    }

    /// Where in the recording the guest hears of the end of the last of these requests.
    fn last_end(&self, chain: &[(u32, usize)]) -> usize {
        let rest = self.recording.witnessed.get(self.at..).unwrap_or_default();
        let is_end = |witnessed: &Witnessed| match witnessed {
            Witnessed::Guest(GuestWord::Ended { number, .. }) => {
                chain.iter().any(|(it, _)| it == number)
            }
            _ => false,
        };
        rest.iter().rposition(is_end).unwrap_or(usize::MAX)
    }

    /// A part that waits.
    fn part(&self, (number, index): (u32, usize)) -> Option<(&InFlight, Part)> {
        let in_flight = self.in_flight.get(&number)?;
        Some((in_flight, *in_flight.waiting.get(index)?))
    }

    /// Whether the block layer may add a part to those of a request.
    fn follows(&self, chain: &[(u32, usize)], next: (u32, usize)) -> bool {
        let parts = || chain.iter().filter_map(|&it| self.part(it));
        let (Some((_, next)), Some((_, last)), Some(device)) =
            (self.part(next), parts().next_back(), &self.device)
        else {
            return false;
        };
        let before = parts().fold(SectorCount(0), |all, (_, part)| all + part.sectors());
        next.follows(&last, before + next.sectors(), device.limits())
    }

    /// How much of what the recording has next is what the model would ask for, if it got these
    /// parts as one request.
    fn fit(&self, chain: &[(u32, usize)]) -> Result<Fit, Stop> {
        let mut fit = Fit::default();
        let parts = chain.iter().filter_map(|&it| self.part(it));
        let requests = parts.map(|(in_flight, part)| in_flight.request(part, Tag(0)));
        let (Some(request), Some(device)) = (merged(requests.collect()), &self.device) else {
            return Ok(fit);
        };
        let mut forecast = device.forecast();
        if forecast.submit(request).is_err() {
            return Ok(fit);
        }
        let witnessed = &self.recording.witnessed;
        let mut rest = self.at..;
        while let Some(mut operation) = forecast.next_operation() {
            let (at, record) = loop {
                let at = rest.start;
                rest = at + 1..;
                match witnessed.get(at) {
                    Some(Witnessed::Host(record)) => break (at, record),
                    Some(Witnessed::Guest(GuestWord::Ended { number, .. }))
                        if self.ends_later(chain, *number) =>
                    {
                        return Ok(fit);
                    }
                    Some(Witnessed::Guest(_)) => {}
                    None => return Ok(fit),
                }
            };
            let recorded = Asked::recorded(record).map_err(Stop::Wrong)?;
            let given = Asked::given(&operation, self.backing());
            if recorded.differs(&given, self.bitmap.end).is_some() {
                return Ok(fit);
            }
            fit.alike += 1;
            let result = self.answer(at, &mut operation.action, record);
            if let Action::ReadOnce { at, buffer, count } = &mut operation.action
                && let Some(file) = self.host.content(&record.path)
            {
                let begin = buffer.part.start;
                file.read_at(&mut buffer.data[begin..begin + *count], *at);
            }
            forecast.finish(Finished { operation, result });
        }
        let Some(ended) = forecast.next_completion() else {
            return Ok(fit);
        };
        fit.is_alike = fit.alike > 0;
        fit.is_whole = fit.is_alike && self.ends_so(chain, &ended)?;
        let rest = witnessed.get(rest).unwrap_or_default();
        for &one in chain {
            fit.ask_no_more += usize::from(self.asks_no_more(one, rest)?);
        }
        Ok(fit)
    }

    /// Whether a request cannot end while the driver is at these parts: it is one of theirs, or it
    /// has others, which the driver serves after them.
    fn ends_later(&self, chain: &[(u32, usize)], number: u32) -> bool {
        let is_of_chain = chain.iter().any(|&(it, _)| it == number);
        let waits = |it: &InFlight| !it.waiting.is_empty();
        is_of_chain || self.in_flight.get(&number).is_some_and(waits)
    }

    /// Whether what a part asks for first is not in the rest of a recording, up to where the guest
    /// hears of its end.
    fn asks_no_more(&self, one: (u32, usize), rest: &[Witnessed]) -> Result<bool, Stop> {
        let (Some((in_flight, part)), Some(device)) = (self.part(one), &self.device) else {
            return Ok(true);
        };
        let mut forecast = device.forecast();
        let taken = forecast.submit(in_flight.request(part, Tag(0)));
        let Some(first) = taken.ok().and_then(|()| forecast.next_operation()) else {
            return Ok(true);
        };
        let first = Asked::given(&first, self.backing());
        for witnessed in rest {
            match witnessed {
                Witnessed::Guest(GuestWord::Ended { number, .. }) if *number == one.0 => break,
                Witnessed::Guest(_) => {}
                Witnessed::Host(record) => {
                    let recorded = Asked::recorded(record).map_err(Stop::Wrong)?;
                    if recorded.differs(&first, self.bitmap.end).is_none() {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Whether what the guest will hear of these requests is that they end so, and what they have
    /// brought. Of a request of several parts this is not known.
    fn ends_so(&self, chain: &[(u32, usize)], ended: &Completion) -> Result<bool, Stop> {
        let is_good = ended.status == Status::Ok;
        for (index, &(number, place)) in chain.iter().enumerate() {
            let part = self.part((number, place));
            let is_whole = part.is_some_and(|(it, part)| it.asked.count == part.sectors().0);
            let Some((errno, brought)) = self.end_of(number).filter(|_| is_whole) else {
                continue;
            };
            if errno.is_none() != is_good {
                return Ok(false);
            }
            let segment = ended.request.segments.get(index);
            let is_read = ended.request.operation == Operation::Read && is_good;
            if let Some(segment) = segment.filter(|_| is_read)
                && content(brought).map_err(Stop::Wrong)? != segment.data
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What the guest will hear of the end of a request, if it hears of it.
    fn end_of(&self, number: u32) -> Option<(Option<i32>, &[Piece])> {
        let rest = self.recording.witnessed.get(self.at..).unwrap_or_default();
        rest.iter().find_map(|witnessed| match witnessed {
            Witnessed::Guest(GuestWord::Ended {
                number: ended,
                errno,
                brought,
            }) if *ended == number => Some((*errno, &brought[..])),
            _ => None,
        })
    }

    /// What the model would ask for, where it is none of what the kernel asks for.
    pub(super) fn waiting(&self) -> String {
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

    /// A part of a request in flight that asks nothing of the host, and its place there.
    pub(super) fn silent(&self) -> Option<(u32, usize)> {
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

    /// Whether the model dies of what the kernel has before it.
    pub(super) fn model_dies(&self) -> bool {
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
