//! The rebuild on file systems that share extents between files: nothing is copied there.

use super::case::{MORE, SIZES, row_name};
use super::image::{Layout, Names, Shape, remove};
use super::mount::{KINDS, Kind, Mount};
use super::rebuild::rebuild;
use super::{BenchError, Settings, turns};
use crate::bench::programs::{cp, cp_shared, settle};
use crate::bench::{Row, Unit};

const TURNS: usize = 3;

/// How many times a copy's throughput it is to have.
const TIMES: f64 = 20.0;

pub(super) fn measure(
    settings: Settings<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), BenchError> {
    for kind in KINDS {
        let layouts = Shape::BOTH.map(|shape| Layout::new(SIZES[1], settings.dirty, shape));
        let wanted = |layout: &Layout| settings.wanted(&name(kind, layout));
        let layouts: Vec<_> = layouts.into_iter().filter(wanted).collect();
        if layouts.is_empty() {
            continue;
        }
        match Mount::new(kind, settings.directory)? {
            Err(needs) => each(
                layouts
                    .iter()
                    .map(|layout| {
                        Row::skipped(name(kind, layout), Unit::GigabytesPerSecond, &needs)
                    })
                    .collect(),
            ),
            Ok(mount) => {
                for layout in &layouts {
                    let directory = &mount.at;
                    let there = Settings {
                        directory,
                        ..settings
                    };
                    each(case(there, kind, layout)?);
                }
            }
        }
    }
    Ok(())
}

fn name(kind: Kind, layout: &Layout) -> String {
    row_name(&format!("rebuild shared on {}", kind.name), layout)
}

fn case(settings: Settings<'_>, kind: Kind, layout: &Layout) -> Result<Vec<Row>, BenchError> {
    let names = Names::within(settings.directory);
    layout.make(settings, &names.kept, &names.backing)?;
    let new_size = layout.size + MORE;
    let [ours, theirs, shared] = turns(settings, TURNS, || {
        let ours = rebuild(settings, &names, new_size)?;
        remove(&names.other)?;
        settle(settings, &names.device);
        let [_, theirs] = cp(settings, &names.kept, &names.other)?;
        remove(&names.other)?;
        settle(settings, &names.device);
        let shared = cp_shared(settings, &names.kept, &names.other)?;
        remove(&names.other)?;
        Ok([ours, theirs, shared])
    })?;
    names.clear()?;
    let rate = |seconds: f64| layout.dirty.0 as f64 / seconds / 1e9;
    let row = Row::new(name(kind, layout), rate(ours), Unit::GigabytesPerSecond);
    Ok(vec![
        row.clone()
            .against("cp --sparse=always, fsync", rate(theirs))
            .target(TIMES),
        // All that the file system itself takes for as many extents.
        row.against("cp --reflink=always, fsync", rate(shared)),
    ])
}
