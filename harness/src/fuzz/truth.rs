//! What has to be true of a device between its lives, and after a crash: who runs a life makes it
//! out, and who looks at an image holds it against that.

use std::collections::BTreeMap;

use crate::plain_format::Header;
use crate::sim::{FileContent, SimHost};

use super::budget::Budget;
use super::device::Opening;
use super::history::History;
use super::paths::COW;
use super::under_tool::UnderTool;

/// What has to be true of whatever is found after a crash.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Of the sectors.
    pub history: History,
    /// The sizes in sectors that the device may have once recovered.
    pub sizes: Vec<u64>,
    /// What each backing file holds.
    pub backing: BTreeMap<&'static str, FileContent>,
    /// The image tool that is at work, or that a crash has cut off.
    pub tool: Option<UnderTool>,
    /// The image tool that has said that it is done, until the device comes up.
    pub done: Option<UnderTool>,
    /// How the device is opened, and whether it may be.
    pub opening: Opening,
    /// What a life, or a recovery, may take.
    pub budget: Budget,
}

/// Whether the backing files still hold what they should, without a fault or a count. The one that
/// a merge is under way in need not.
pub fn backing_is_unchanged(host: &SimHost, truth: &Truth) -> bool {
    let merging = truth.tool.as_ref().and_then(|under| under.merges_into);
    let mut all = truth.backing.iter();
    all.all(|(&path, content)| {
        merging == Some(path) || host.content(path).as_ref() == Some(content)
    })
}

/// Whether the COW file's header says that a reflow is under way.
pub(super) fn is_marked(host: &SimHost) -> bool {
    let header = host.content(COW).map(|cow| Header::read(&cow));
    header.is_some_and(|header| header.is_ok_and(|header| header.marked))
}
