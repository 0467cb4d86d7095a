//! One device after another, with each shape of what is dirty on it, through all that is
//! done to it: the files are made once for all of it.

use driver::units::Bytes;

use super::image::{Layout, Names, Shape};
use super::{BenchError, Settings, headroom, live, rebuild, reflow};
use crate::bench::Row;

const GIB: u64 = 1 << 30;

pub(super) const SIZES: [Bytes; 3] = [Bytes(GIB), Bytes(16 * GIB), Bytes(256 * GIB)];

/// By so much the devices grow, which stock UML's layout has no room for.
pub(super) const MORE: Bytes = Bytes(64 << 20);

/// A device.
pub(super) struct Case<'a> {
    pub(super) settings: Settings<'a>,
    pub(super) names: Names,
    pub(super) layout: Layout,
}

impl Case<'_> {
    /// The name of a row about this device.
    pub(super) fn name(&self, what: &str) -> String {
        row_name(what, &self.layout)
    }

    pub(super) fn new_size(&self) -> Bytes {
        self.layout.size + MORE
    }

    /// Bytes a second as a row counts them, of all that is dirty.
    pub(super) fn rate(&self, seconds: f64) -> f64 {
        self.layout.dirty.0 as f64 / seconds / 1e9
    }
}

pub(super) fn row_name(what: &str, layout: &Layout) -> String {
    format!("resize/{what}/{}/{}", layout.size, layout.shape.name())
}

pub(super) fn measure(
    settings: Settings<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), BenchError> {
    for size in SIZES {
        for shape in Shape::BOTH {
            let layout = Layout::new(size, settings.dirty, shape);
            let wanted = |what: &str| settings.wanted(&row_name(what, &layout));
            let all = [headroom::WHAT, rebuild::WHAT, reflow::WHAT, live::WHAT];
            if !all.into_iter().any(wanted) {
                continue;
            }
            let case = Case {
                settings,
                names: Names::within(settings.directory),
                layout,
            };
            case.names.clear()?;
            layout.make(&case.names.kept, &case.names.backing)?;
            if wanted(rebuild::WHAT) {
                each(rebuild::measure(&case)?);
            }
            if wanted(headroom::WHAT) {
                each(headroom::measure(&case)?);
            }
            if wanted(reflow::WHAT) {
                each(reflow::measure(&case)?);
            }
            if wanted(live::WHAT) {
                each(live::measure(&case)?);
            }
            case.names.clear()?;
        }
    }
    Ok(())
}
