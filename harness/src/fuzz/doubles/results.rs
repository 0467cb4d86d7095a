//! What has come of one request, and is taken for what has come of another under way beside it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use driver::blk::{Operation, Request, Status};
use driver::host::{Action, Finished, HostFile};
use driver::ordered::{Desk, Ordered, Step};
use driver::resize::ResizeError;
use driver::units::SectorRange;

use crate::sim::Happened;

use super::meddler::{Beneath, Meddler};
use super::{Defective, Double, Driven, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "results-exchanged",
        does: "gives two reads of the same length that were under way together each other's data",
        seam: Seam::Executor(|| Box::<Exchanged>::default()),
        found_as: &[
            Kind::Misplaced,
            Kind::StaleRead,
            Kind::Zeros,
            Kind::Foreign,
            Kind::LostWrite,
        ],
        replay: None,
    },
    Double {
        name: "bit-set-by-a-neighbour",
        does: "sets the bits of a failed write when one completes that was under way beside it",
        seam: Seam::driver::<Neighbour>(),
        found_as: &[
            Kind::Zeros,
            Kind::LostWrite,
            Kind::StaleRead,
            Kind::Foreign,
            // Reading past the end of a short file.
            Kind::WrongStatus,
        ],
        replay: None,
    },
];

/// A read that has ended, and what the device is to be told of.
#[derive(Debug, Default)]
struct Exchanged {
    kept: Option<Finished>,
    to_tell: VecDeque<Finished>,
}

/// The bytes that a read has brought.
fn brought(finished: &mut Finished) -> Option<&mut [u8]> {
    match (&finished.result, &mut finished.operation.action) {
        (Ok(()), Action::Read { buffer, .. }) => Some(&mut buffer.data[buffer.part.clone()]),
        _ => None,
    }
}

impl Exchanged {
    /// What the device is told of when this has ended.
    fn ended(&mut self, mut finished: Finished) -> Option<Finished> {
        let Some(bytes) = brought(&mut finished) else {
            return Some(finished);
        };
        let Some(mut kept) = self.kept.take() else {
            self.kept = Some(finished);
            return None;
        };
        match brought(&mut kept) {
            Some(other) if other.len() == bytes.len() => bytes.swap_with_slice(other),
            _ => {}
        }
        self.to_tell.push_back(finished);
        Some(kept)
    }
}

impl Meddler for Exchanged {
    fn has_news(&self) -> bool {
        !self.to_tell.is_empty()
    }

    fn happen(&mut self, beneath: Beneath<'_>) -> Happened {
        if let Some(told) = self.to_tell.pop_front() {
            return Happened::End(told);
        }
        match beneath.under_way.happen() {
            Happened::End(finished) => self.ended(finished).map_or(Happened::Effect, Happened::End),
            // There is no other.
            Happened::Nothing => self.kept.take().map_or(Happened::Nothing, Happened::End),
            Happened::Effect => Happened::Effect,
        }
    }
}

/// The writes under way by their tags, and those that failed, each with the tags of those that
/// were under way beside it.
#[derive(Default)]
struct Neighbour {
    writing: BTreeMap<u64, SectorRange>,
    failed: Vec<(SectorRange, BTreeSet<u64>)>,
}

impl<F: HostFile> Defective<F> for Neighbour {
    fn submit(&mut self, device: &mut Ordered<F>, request: Request) -> Result<(), Request> {
        let (tag, range) = (request.tag.0, request.range());
        let sets_bits = matches!(
            request.operation,
            Operation::Write { .. } | Operation::WriteZeroes
        );
        device.submit(request)?;
        if sets_bits {
            self.writing.insert(tag, range);
        }
        Ok(())
    }

    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let step = device.step();
        if let Step::Completed(completion) = &step
            && let tag = completion.request.tag.0
            && let Some(range) = self.writing.remove(&tag)
        {
            if completion.status != Status::Ok {
                let beside = self.writing.keys().copied().collect();
                self.failed.push((range, beside));
                return step;
            }
            let end = device.map().sectors();
            self.failed.retain(|(failed, beside)| {
                let (is_set, failed) = (beside.contains(&tag) && failed.end().0 <= end.0, *failed);
                !is_set
                    || device
                        .relocate(move |desk| mark_dirty(desk, failed))
                        .is_err()
            });
        }
        step
    }
}

async fn mark_dirty<F: HostFile>(desk: Desk<F>, sectors: SectorRange) -> Result<(), ResizeError> {
    desk.look(move |relocation| relocation.map_mut().mark_dirty(sectors))
        .await
}
