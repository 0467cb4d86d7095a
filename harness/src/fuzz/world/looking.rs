//! What a life looks at in the files themselves, and not through the device: whether work that has
//! ended, well or not, has left them as it has to.

use std::path::PathBuf;

use driver::exact_count;
use driver::host::OperationKind;
use driver::resize::ResizeError;
use driver::units::{FileOffset, Sector, SectorCount, SectorRange};

use crate::plain_format::{CowFile, JOURNAL_END, Wrong};
use crate::sim::{Fault, FileContent, Injected, SimHost};

use super::super::case::DriverName;
use super::super::check::read_all;
use super::super::excuses::one_names;
use super::super::paths::COW;
use super::super::put_in;
use super::super::resizer::{Asked, finds_losses};
use super::super::signature::Act;
use super::super::tidy::{self, Untidy};
use super::super::violation::{Kind, Violation};
use super::living::Living;
use super::{Stop, World, is_marked};

/// Sectors that have their bits in one word of the bitmap.
const SECTORS_PER_WORD: u64 = 64;

/// The sectors of a device whose data the planner reads while requests wait, all of it.
const READ_WHILE_REQUESTS_WAIT: u64 = 32_768;

/// What the host had when a device had come up.
#[derive(Clone, Debug, Default)]
pub(super) struct CameUp {
    untidy: Untidy,
    past_bitmap: Untidy,
    paths: Vec<PathBuf>,
    /// Operations that the host had carried out by then.
    operations: u64,
}

impl CameUp {
    pub(super) fn of(host: &SimHost) -> CameUp {
        let file = host.content(COW);
        let untidy = file
            .as_ref()
            .map(|file| Untidy::of(file).unwrap_or_default());
        let past_bitmap = file.as_ref().map(Untidy::past_bitmap);
        CameUp {
            untidy: untidy.unwrap_or_default(),
            past_bitmap: past_bitmap.unwrap_or_default(),
            paths: host.paths(),
            operations: host.operations(),
        }
    }
}

/// The COW file when a resize begins.
pub(super) struct BeforeResize {
    file: FileContent,
    /// What it has to become; of a raw disk, and with a model of a resize, nothing is known.
    known: Option<(tidy::Before, tidy::Resized)>,
    untidy: Untidy,
}

impl Living<'_, '_, '_> {
    /// No more words of the bitmap wait for a publication than the device was told, unless a fault
    /// has hit a publication.
    pub(super) fn check_pending(&mut self, most: u64) -> Result<(), Violation> {
        let case = self.world.case;
        // Beside a publication that is under way, other writes end.
        let is_exact = !self.device.is_side_by_side();
        if case.image.raw || self.resize.is_some() || !is_exact {
            return Ok(());
        }
        let (Some(durable), Some(device)) = (
            self.world.host.durable_content(COW),
            self.device.resizable(),
        ) else {
            return Ok(());
        };
        // What is wrong with the file itself shows at the crash points.
        let Ok(published) = CowFile::open(&durable) else {
            return Ok(());
        };
        let mut failures = self.world.host.failures_since(0).into_iter();
        if failures.any(|failed| keeps_words_waiting(&failed, &published)) {
            return Ok(());
        }
        let whole = SectorRange::new(Sector(0), device.capacity());
        let dirty = (device.map().dirty_runs(whole)).flat_map(|run| run.start.0..run.end().0);
        let mut words: Vec<u64> = dirty
            .filter(|&sector| !published.is_dirty(sector))
            .map(|sector| sector / SECTORS_PER_WORD)
            .collect();
        words.dedup();
        let found = words.len() as u64;
        if found <= most {
            return Ok(());
        }
        let what = format!(
            "found {} of the bitmap waiting, expected at most {most}",
            exact_count(found, "word")
        );
        let violation = Violation::new(Kind::WrongCompletion, "on completion", what);
        Err(violation
            .by(Act::Write)
            .with_error("too many words of the bitmap wait"))
    }

    /// What has to be known of the COW file when a resize begins.
    pub(super) fn note_before(&mut self, asked: Asked, stays: bool, moves: bool) {
        let Some(file) = self.world.host.content(COW) else {
            return;
        };
        let is_planned = self.world.case.resize_model().is_none() && !self.world.case.image.raw;
        let before = is_planned.then(|| tidy::Before::of(&file)).flatten();
        let is_asked_for = asked.alignment != 0 && moves;
        self.before_resize = Some(BeforeResize {
            known: before.map(|before| {
                let resized = tidy::Resized {
                    size: asked.bytes.0,
                    stays,
                    alignment: is_asked_for.then_some(asked.alignment),
                };
                (before, resized)
            }),
            untidy: Untidy::of(&file).unwrap_or_default(),
            file,
        });
    }

    /// A resize that is done, and since whose beginning the host has not failed, leaves the file as
    /// long as the format says, with the header of the new size, and nothing past its ends that was
    /// not there before.
    pub(super) fn check_resized(&mut self) -> Result<(), Violation> {
        let world = &mut *self.world;
        let has_failed = !world.excuses.of_this_resize(&world.host).is_empty();
        let (Some(before), false) = (&self.before_resize, has_failed) else {
            return Ok(());
        };
        let (Some((known, resized)), Some(file)) = (&before.known, world.host.content(COW)) else {
            return Ok(());
        };
        world.coverage.hit("file_looked_at_after_a_resize");
        // Writes that are under way have their bits later.
        let untidy = Untidy::but_leaks(&file).unwrap_or_default();
        let checked =
            (known.check(&file, *resized)).and_then(|()| untidy.no_more_than(before.untidy));
        checked.map_err(inconsistent("after a resize", Act::Resize))
    }

    /// On a host that has not failed since a device came up, whoever closes it leaves the file as
    /// tidy as it was then. A file beside it is left only where a fault has hit that file. Of a
    /// kernel's driver no more is demanded than that nothing is past the bitmap that was not there
    /// before.
    pub(super) fn check_closed(world: &mut World<'_>, came_up: &CameUp) -> Result<(), Violation> {
        let failures = world.host.failures_since(came_up.operations);
        if world.case.driver != DriverName::Ordered {
            return match failures.is_empty() {
                true => world.check_past_bitmap(came_up),
                false => Ok(()),
            };
        }
        let is_planned = world.case.resize_model().is_none() && !world.case.image.raw;
        let Some(file) = world.host.content(COW).filter(|_| is_planned) else {
            return Ok(());
        };
        if is_marked(&world.host) {
            return Ok(());
        }
        world.coverage.hit("file_looked_at_after_closing");
        if failures.is_empty() {
            let untidy = Untidy::of(&file).and_then(|untidy| untidy.no_more_than(came_up.untidy));
            untidy.map_err(inconsistent("after closing", Act::Close))?;
        }
        let mut paths = world.host.paths().into_iter();
        let is_left = |path: &PathBuf| !came_up.paths.contains(path) && !one_names(&failures, path);
        let Some(left) = paths.find(is_left) else {
            return Ok(());
        };
        let what = format!("{} is left", left.display());
        let violation = Violation::new(Kind::Inconsistent, "after closing", what);
        Err(violation.by(Act::Close).with_error("a file is left"))
    }

    /// A resize that a fault has ended, or that was given up, and that no other fault has kept from
    /// putting back what was there, leaves the file as long as it was, or as long as what was
    /// written past its end meanwhile.
    pub(super) fn check_undone(
        &mut self,
        error: &ResizeError,
        given_up: bool,
    ) -> Result<(), Violation> {
        let world = &mut *self.world;
        let is_undone = world.case.driver == DriverName::Ordered
            && world.case.resize_model().is_none()
            && world.excuses.must_be_undone(&world.host, error)
            && !is_marked(&world.host);
        let (true, Some(cow)) = (is_undone, world.host.content(COW)) else {
            return Ok(());
        };
        world.coverage.hit(match given_up {
            true => "resize_given_up_and_undone",
            false => "resize_failed_and_was_undone",
        });
        let data_end = match world.case.image.raw {
            true => 0,
            false => CowFile::open(&cow).map_or(0, |cow| cow.layout.end),
        };
        let Some(before) = &self.before_resize else {
            return Ok(());
        };
        let when = "after a resize that failed";
        let (len, len_before) = (cow.length().0, before.file.length().0);
        if !(len_before..=len_before.max(data_end)).contains(&len) {
            let what =
                format!("the COW file has {len} bytes, before the resize it had {len_before}");
            let violation = Violation::new(Kind::Inconsistent, when, what);
            return Err(violation.by(Act::Resize).with_error("length"));
        }
        if before.known.is_none() {
            return Ok(());
        }
        let untidy = Untidy::but_leaks(&cow).unwrap_or_default();
        let checked =
            same_front(&before.file, &cow).and_then(|()| untidy.no_more_than(before.untidy));
        checked.map_err(inconsistent(when, Act::Resize))
    }

    /// What a raw disk has after its whole sectors.
    fn rest_of_raw_disk(&self, capacity: u64) -> Vec<u8> {
        let (file, end) = (
            self.world.host.content(COW),
            SectorCount(capacity).bytes().0,
        );
        let file = file.unwrap_or_default();
        let mut rest = vec![0; file.length().0.saturating_sub(end) as usize];
        file.read_at(&mut rest, FileOffset(end));
        rest
    }

    /// Before a shrink the planner says whether anything lies past the new end that is not zeros.
    pub(super) fn compare_losses(&mut self, asked: Asked) -> Result<(), Stop> {
        let capacity = self.device.capacity();
        let is_partial = self.world.truth.history.partial() == Some(capacity);
        let is_whole = asked.bytes == SectorCount(asked.sectors).bytes();
        let is_shrink = asked.sectors < capacity || is_partial && asked.sectors == capacity;
        let is_comparable = is_shrink
            && is_whole
            && capacity <= READ_WHILE_REQUESTS_WAIT
            && self.flying.is_empty()
            && self.world.case.resize_model().is_none()
            && (self.world.host.failures_since(self.came_up.operations)).is_empty();
        let found = match self.device.resizable() {
            Some(device) if is_comparable => finds_losses(device, asked),
            _ => return Ok(()),
        };
        let mut content = Vec::new();
        let (Some(found), Ok(())) = (found, read_all(&mut self.device, &mut content)) else {
            return Ok(());
        };
        if is_partial {
            content.extend(match self.world.case.image.raw {
                true => self.rest_of_raw_disk(capacity),
                false => self.world.partial_sector(),
            });
        }
        self.world.coverage.hit(match is_partial {
            true => "losses_of_a_partial_last_sector_compared",
            false => "losses_of_a_shrink_compared",
        });
        let found = put_in::of_losses(&self.world.case.defects, found, is_partial);
        let past = &content[SectorCount(asked.sectors).bytes().0 as usize..];
        if found == past.iter().any(|&byte| byte != 0) {
            return Ok(());
        }
        let what = match found {
            true => "the planner finds data past the new end, where there are zeros",
            false => "the planner finds nothing past the new end, where there is data",
        };
        let violation = Violation::new(Kind::WrongStatus, "planning a shrink", what);
        Err(violation.by(Act::Resize).with_error(what).into())
    }
}

impl World<'_> {
    /// Whether whoever closes the device leaves nothing past the bitmap that was not there when it
    /// came up: a longer bitmap would have its bits there.
    pub(super) fn check_past_bitmap(&self, came_up: &CameUp) -> Result<(), Violation> {
        let Some(file) = self.host.content(COW) else {
            return Ok(());
        };
        let past_bitmap = Untidy::past_bitmap(&file);
        let checked = past_bitmap.no_more_than(came_up.past_bitmap);
        checked.map_err(inconsistent("after closing", Act::Close))
    }
}

/// Whether a fault may keep words of the bitmap from being published: it has hit a sync, or a
/// change of what is before the data. Where no host is started anew after a failed sync, that of a
/// life before counts too.
fn keeps_words_waiting(failed: &Injected, published: &CowFile<&FileContent>) -> bool {
    let is_sync = matches!(
        failed.call.kind,
        OperationKind::SyncData | OperationKind::SyncDirectory
    );
    let is_before_data = failed.call.range.start.0 < published.layout.data;
    is_sync || failed.fault == Fault::LyingSync || failed.call.kind.is_change() && is_before_data
}

fn inconsistent(when: &str, by: Act) -> impl FnOnce(Wrong) -> Violation {
    Violation::of_file(Kind::Inconsistent, when, by)
}

/// Whether what is before the bitmap is byte for byte what it was.
fn same_front(before: &FileContent, after: &FileContent) -> Result<(), Wrong> {
    let end = CowFile::open(before)?.layout.bitmap;
    // What is kept there ends with the journal.
    let len = end.min(JOURNAL_END) as usize;
    let (mut expected, mut found) = (vec![0; len], vec![0; len]);
    before.read_at(&mut expected, FileOffset(0));
    after.read_at(&mut found, FileOffset(0));
    let mut both = expected.iter().zip(&found);
    match both.position(|(expected, found)| expected != found) {
        None => Ok(()),
        Some(at) => Err(Wrong {
            at: at as u64,
            what: "header or slack",
            found: "it is not what it was".into(),
        }),
    }
}
