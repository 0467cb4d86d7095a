//! How often everything that should come up came up. A zero is a blind spot of the fuzzer.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::shard::merge::add_up;

/// What is counted; all of it appears in the result, also at zero.
const NAMES: &[&str] = &[
    "strategy_headroom",
    "strategy_rebuild",
    "strategy_reflow",
    "strategy_procedure_2003",
    "strategy_spillner_2003",
    "resize_grow",
    "resize_shrink",
    "resize_refused",
    "resize_failed",
    "resize_failed_and_was_undone",
    "resize_failed_then_flushed",
    "resize_failed_half_way_then_flushed",
    "resize_given_up",
    "resize_given_up_and_undone",
    "resize_given_up_then_closed",
    "crash_while_idle",
    "crash_in_request",
    "crash_in_publication",
    "crash_in_resize",
    "crash_in_recovery",
    "crash_kill",
    "crash_kill_in_a_write",
    "crash_power_cut",
    "crash_torn",
    "crash_point_each_tear",
    "crash_point_each_subset",
    "crash_point_drawn",
    "crash_point_that_can_tear",
    "crash_point_torn",
    "crash_point_too_dear",
    "life_lived_again_to_die",
    "fault_io",
    "fault_no_space",
    "fault_short_read",
    "fault_short_write",
    "fault_failed_sync",
    "fault_failed_sync_for_space",
    "fault_lying_sync",
    "fault_unsupported",
    "fault_in_part",
    "fault_after_its_effect",
    "fault_after_the_effect_of_a_write",
    "requests_queued_when_a_resize_begins",
    "flush_between_steps_of_a_move",
    "write_into_the_window_being_moved",
    "zeros_into_the_window_being_moved",
    "two_resizes_in_a_row",
    "resize_begun_again_after_a_crash",
    "grow_then_shrink_then_grow",
    "full_queue",
    "request_of_three_segments",
    "zeros_over_the_whole_device",
    "recovered_reflow",
    "refused_to_open",
    "opening_failed_by_fault",
    "recovery_failed_by_fault",
    "created_by_opening",
    "file_shorter_than_its_data_area",
    "backing_file_switched",
    "second_opener",
    "second_opener_of_the_backing_file",
    "losses_of_a_shrink_compared",
    "losses_of_a_partial_last_sector_compared",
    "file_looked_at_after_a_resize",
    "file_looked_at_after_closing",
    "failed_request_retried",
    "resize_of_a_short_file",
    "partial_last_sector",
    "grown_over_a_partial_last_sector",
    "rebuilt_with_a_partial_last_sector",
    "partial_last_sector_cut_off",
    "resize_to_a_part_of_a_sector_refused",
    "raw_disk",
    "raw_disk_resized",
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
    "request_for_what_a_shrink_takes",
    "request_outlived_its_sectors",
    "run_moved_in_pieces",
    "run_rebuilt_in_pieces",
    "fault_in_one_of_many",
    "crash_with_shared_extents",
    "long_zeros_on_a_host_without_zero_range",
    "bitmap_of_three_pages",
    "file_cut_within_its_data",
    "publication_begun_by_itself",
    "reflow_ended_with_first_writes_and_flushes",
    "crash_in_image_tool",
    "image_tool_recover",
    "image_tool_repair",
    "image_tool_rebase",
    "image_tool_rebase_far",
    "image_tool_merge",
    "image_tool_convert",
    "image_tool_refused",
    "image_tools_asked_about_the_image",
    "merge_into_what_is_not_durable",
    "interrupted_reflow_read_by_image_tools",
    "case_in_every_order",
    "orders_that_a_case_was_run_in",
    "closed_under_a_resize",
    "resize_given_up_with_requests_under_way",
];

/// Counters by name. One that was read may have names that another version counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage(BTreeMap<Cow<'static, str>, u64>);

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage(NAMES.iter().map(|&name| (name.into(), 0)).collect())
    }
}

impl Coverage {
    /// `name` came up.
    pub fn hit(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// `name` came up `times` times.
    pub fn add(&mut self, name: &'static str, times: u64) {
        match self.0.get_mut(name) {
            Some(count) => *count += times,
            None => panic!("{name} is not listed"),
        }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Coverage) {
        for (name, &times) in &other.0 {
            match self.0.get_mut(name) {
                Some(count) => add_up(count, times),
                None => drop(self.0.insert(name.clone(), times)),
            }
        }
    }

    /// What never came up.
    pub fn blind_spots(&self) -> impl Iterator<Item = &str> {
        let never = self.0.iter().filter(|(_, times)| **times == 0);
        never.map(|(name, _)| &**name)
    }

    /// How often `name` came up.
    pub fn count(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }
}
