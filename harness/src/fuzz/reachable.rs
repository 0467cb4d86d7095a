//! What cannot come up in a campaign with these options: that it never came is no blind spot.

use super::case::{DriverName, Resizer};
use super::subject::Subject;

/// Names of [`super::coverage`] that begin like this are of resizes, or of what only the ordered
/// driver does.
const OF_RESIZES: [&str; 8] = [
    "strategy_",
    "resize_",
    "crash_in_resize",
    "crash_in_recovery",
    "recover",
    "two_resizes",
    "grow",
    "requests_queued_when_a_resize",
];

/// Those of [`super::rarities`], which only `ordered` with userhelper's resizes has.
const OF_RARITIES: [&str; 28] = [
    "partial_last_sector",
    "grown_over_a_partial",
    "rebuilt_with_a_partial",
    "raw_disk",
    "synchronous_device",
    "operations_side_by_side",
    "six_operations_under_way",
    "crash_with_operations_under_way",
    "requests_completed_out_of_order",
    "flush_among_writes_under_way",
    "flushes_under_way_together",
    "fua_beside_a_flush",
    "overlap_under_way",
    "window_moved_with_requests_around",
    "fault_in_one_of_many",
    "crash_with_shared_extents",
    "long_zeros_on_a_host",
    "bitmap_of_three_pages",
    "crash_in_image_tool",
    "image_tool_",
    "image_tools_asked",
    "merge_into_what",
    "interrupted_reflow_read",
    "case_in_every_order",
    "orders_that_a_case",
    "file_looked_at",
    "closed_under_a_resize",
    "losses_of",
];

/// Those of moving data under requests.
const OF_MOVES: [&str; 3] = [
    "flush_between_steps_of_a_move",
    "write_into_the_window",
    "reflow_ended",
];

/// Those of a host that fails.
const OF_FAULTS: [&str; 5] = [
    "fault_",
    "resize_failed",
    "opening_failed_by_fault",
    "recovery_failed_by_fault",
    "failed_request",
];

/// Whether `name` cannot come up in cases of `subject`.
pub(crate) fn cannot_come(name: &str, subject: &Subject) -> bool {
    let is_of = |beginnings: &[&str]| beginnings.iter().any(|of| name.starts_with(of));
    if name == "fault_lying_sync" {
        return !subject.lying_syncs;
    }
    if !subject.faults && is_of(&OF_FAULTS) {
        return true;
    }
    if subject.driver != DriverName::Ordered {
        return is_of(&OF_RESIZES) || is_of(&OF_MOVES) || is_of(&OF_RARITIES);
    }
    let by_model = subject.resizer.model(&subject.defects).is_some();
    if by_model && is_of(&OF_RARITIES) {
        return true;
    }
    match (name, by_model) {
        ("strategy_spillner_2003", _) => subject.resizer != Resizer::Spillner2003,
        ("strategy_procedure_2003", by_model) => {
            !by_model || subject.resizer == Resizer::Spillner2003
        }
        ("strategy_headroom" | "strategy_rebuild" | "strategy_reflow", by_model) => by_model,
        _ => false,
    }
}
