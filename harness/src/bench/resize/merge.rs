//! Merging a COW file and its backing file into a new raw disk, beside `uml_moo`.

use std::path::Path;

use super::case::{SIZES, row_name};
use super::image::{Layout, Names, Shape, remove};
use super::{BenchError, Settings, turns};
use crate::bench::programs::{missing, run, settle, sync};
use crate::bench::{Row, Unit};

const WHAT: &str = "merge";

const TURNS: usize = 3;

/// How many times as fast it is to be.
const TIMES: f64 = 5.0;

/// Only on the smallest device: `uml_moo` writes every byte of it.
pub(super) fn measure(
    settings: Settings<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), BenchError> {
    for shape in Shape::BOTH {
        let layout = Layout::new(SIZES[0], settings.dirty, shape);
        let name = row_name(WHAT, &layout);
        if settings.wanted(&name) {
            each(vec![merge(settings, &layout, name)?]);
        }
    }
    Ok(())
}

fn merge(settings: Settings<'_>, layout: &Layout, name: String) -> Result<Row, BenchError> {
    let names = Names::within(settings.directory);
    names.clear()?;
    layout.make(settings, &names.kept, &names.backing)?;
    let peer = missing(&["uml_moo"]);
    let [ours, theirs] = turns(settings, TURNS, || {
        let (kept, other) = (names.kept.as_os_str(), names.other.as_os_str());
        remove(&names.other)?;
        settle(settings, &names.kept);
        let arguments = ["image".as_ref(), "merge".as_ref(), kept, other];
        let ours = run(settings, settings.program, &arguments)?;
        if peer.is_some() {
            return Ok([ours, ours]);
        }
        remove(&names.other)?;
        settle(settings, &names.kept);
        let merged = run(settings, Path::new("uml_moo"), &[kept, other])?;
        Ok([ours, merged + sync(&names.other)?])
    })?;
    names.clear()?;
    let row = Row::new(name, ours * 1e3, Unit::Milliseconds);
    Ok(match peer {
        None => row.against("uml_moo, fsync", theirs * 1e3).target(TIMES),
        Some(needs) => Row {
            baseline: Some(format!("uml_moo: skipped, needs {needs}")),
            ..row
        },
    })
}
