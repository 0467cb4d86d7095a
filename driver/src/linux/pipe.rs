//! The pipe between the halves: a request is planned when it is submitted, and goes down it whole,
//! in parts, or not at all.

use crate::blk::Request;
use crate::host::HostFile;

use super::LinuxUbd;
use super::defects::Defect;
use super::kernel_half::{Plan, PlannedSegment};

impl<F: HostFile> LinuxUbd<F> {
    /// Submits a request: plans it against the bitmap as it is now, and puts it into the
    /// pipe. One that the device cannot have completes with an error, in its turn.
    ///
    /// # Errors
    /// The request itself: too many are in flight, or the pipe is full; step, and submit it
    /// again. (The tag tells that it is the same.) Or the kernel is dead.
    pub fn submit(&mut self, request: Request) -> Result<(), Request> {
        if self.death.is_some() || !self.has_room() {
            return Err(request);
        }
        if let Err(status) = self.kernel_half.check(&request) {
            self.pipe.push_back(Plan {
                request,
                segments: Vec::new(),
                refused: Some(status),
                orphan: false,
            });
            return Ok(());
        }
        let segments = match self.kernel_half.plan(&request) {
            Ok(segments) => segments,
            Err(death) => {
                self.death = Some(death);
                return Err(request);
            }
        };
        let plan = Plan {
            request,
            segments,
            refused: None,
            orphan: false,
        };
        if self.partly() {
            return self.hand_over_in_parts(plan);
        }
        if self.pipe.len() >= self.pipe_capacity {
            return Err(self.requeue(plan));
        }
        self.pipe.push_back(plan);
        Ok(())
    }

    fn partly(&self) -> bool {
        let defects = self.kernel_half.defects;
        defects.contains(Defect::PartialRequeueDuplicates)
    }

    /// The pipe had no room: the block layer will submit the request again.
    fn requeue(&mut self, mut plan: Plan) -> Request {
        let defects = self.kernel_half.defects;
        if !defects.contains(Defect::RequeueLosesBitmap) {
            self.kernel_half.take_back(&mut plan.segments);
        }
        plan.request
    }

    /// Each segment goes down the pipe by itself, as far as there is room.
    fn hand_over_in_parts(&mut self, mut plan: Plan) -> Result<(), Request> {
        let taken: usize = self
            .pipe
            .iter()
            .map(|plan| plan.segments.len().max(1))
            .sum();
        let room = self.pipe_capacity.saturating_sub(taken);
        let needed = plan.segments.len().max(1);
        let early = self
            .handed_over
            .get(&plan.request.tag)
            .copied()
            .unwrap_or(0);
        if room < needed && early < needed {
            let behind = plan.segments.split_off(room.min(plan.segments.len()));
            let (tag, parts) = (plan.request.tag, plan.segments.len());
            if parts > 0 {
                *self.handed_over.entry(tag).or_insert(0) += parts;
                let front = std::mem::replace(&mut plan.segments, behind);
                let request = plan.request.clone();
                self.pipe.push_back(orphan(request, front));
            } else {
                plan.segments = behind;
            }
            return Err(self.requeue(plan));
        }
        self.handed_over.remove(&plan.request.tag);
        // The parts that were handed over before count as if this submission had made them. The
        // request completes with up to `early` segments still to be done; the thread does those
        // afterwards.
        let awaited = plan.segments.len() - early.min(plan.segments.len());
        let late = plan.segments.split_off(awaited);
        let rest = (!late.is_empty()).then(|| orphan(plan.request.clone(), late));
        self.pipe.push_back(plan);
        self.pipe.extend(rest);
        Ok(())
    }
}

fn orphan(request: Request, segments: Vec<PlannedSegment>) -> Plan {
    Plan {
        request,
        segments,
        refused: None,
        orphan: true,
    }
}
