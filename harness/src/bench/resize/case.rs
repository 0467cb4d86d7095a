//! A device to be measured: its layout, its files, and the names of its rows.

use driver::units::Bytes;

use super::Settings;
use super::image::{Layout, Names};

const GIB: u64 = 1 << 30;

pub(super) const SIZES: [Bytes; 3] = [Bytes(GIB), Bytes(16 * GIB), Bytes(256 * GIB)];

/// How much the devices grow. Stock UML's layout has no room for it.
pub(in crate::bench) const MORE: Bytes = Bytes(64 << 20);

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
