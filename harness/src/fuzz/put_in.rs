//! Puts the doubles that a case has among its defects where they belong.

use driver::ordered::Ordered;

use crate::sim::{SimFile, SimHost};

use super::case::ImageTool;
use super::defect::CaseDefect;
use super::doubles::{BoxedResize, Defective, Meddler, Seam};

/// Where the doubles among these defects are put in.
fn seams(defects: &[CaseDefect]) -> impl Iterator<Item = Seam> {
    defects.iter().filter_map(|defect| match defect {
        CaseDefect::Double(double) => Some(double.seam),
        CaseDefect::Kernel(_) | CaseDefect::Resize(_) => None,
    })
}

/// The double of the driver that these defects name, if one does.
pub(super) fn of_driver(defects: &[CaseDefect]) -> Option<Box<dyn Defective<SimFile>>> {
    seams(defects).find_map(|seam| match seam {
        Seam::Driver { simulated, .. } => Some(simulated()),
        _ => None,
    })
}

/// What these defects put between the device and whoever carries its operations out.
pub(super) fn of_executor(defects: &[CaseDefect]) -> Option<Box<dyn Meddler>> {
    seams(defects).find_map(|seam| match seam {
        Seam::Executor(meddler) => Some(meddler()),
        _ => None,
    })
}

/// `resize`, to `target` sectors, or the double of it that these defects name.
pub(super) fn of_resize(defects: &[CaseDefect], resize: BoxedResize, target: u64) -> BoxedResize {
    seams(defects).fold(resize, |resize, seam| match seam {
        Seam::Resize(put_in) => put_in(resize, target),
        _ => resize,
    })
}

/// Lets the doubles among these defects come between the host and whoever uses it.
pub(super) fn put_on_host(defects: &[CaseDefect], host: &SimHost) {
    for seam in seams(defects) {
        if let Seam::Host(mishearing) = seam {
            host.mishear(mishearing);
        }
    }
}

/// What the doubles among these defects do with a device that has been opened.
pub(super) fn when_opened(defects: &[CaseDefect], device: &mut Ordered<SimFile>) {
    for seam in seams(defects) {
        if let Seam::Opened(act) = seam {
            act(device);
        }
    }
}

/// What the doubles among these defects do when an image tool was successful.
pub(super) fn after_tool(defects: &[CaseDefect], host: &SimHost, tool: ImageTool) {
    for seam in seams(defects) {
        if let Seam::Tool(act) = seam {
            act(host, tool);
        }
    }
}

/// What the doubles among these defects do when a device was closed.
pub(super) fn after_closing(defects: &[CaseDefect], host: &SimHost) {
    for seam in seams(defects) {
        if let Seam::Closed(act) = seam {
            act(host);
        }
    }
}

/// What the doubles among these defects make of what the planner has found past the end of a
/// shrink.
pub(super) fn of_losses(defects: &[CaseDefect], found: bool, is_partial: bool) -> bool {
    seams(defects).fold(found, |found, seam| match seam {
        Seam::Losses(say) => say(found, is_partial),
        _ => found,
    })
}

/// What the doubles among these defects do when a fault has ended an opening.
pub(super) fn after_failed_opening(defects: &[CaseDefect], host: &SimHost) {
    for seam in seams(defects) {
        if let Seam::FailedOpening(act) = seam {
            act(host);
        }
    }
}

/// What the doubles among these defects do when a fault has ended a recovery.
pub(super) fn after_failed_recovery(defects: &[CaseDefect], device: &mut Ordered<SimFile>) {
    for seam in seams(defects) {
        if let Seam::FailedRecovery(act) = seam {
            act(device);
        }
    }
}
