//! Which layout a device of the new size gets.

use driver::cow::{Geometry, Version};
use driver::host::HostFile;
use driver::units::{Bytes, FileOffset};

use super::PlanError;
use super::choice::Planner;

/// The least alignment that a reflow asks for. A window is at most as long as the distance moved,
/// which is about twice the alignment, and costs two syncs: with this a device is moved in some
/// ten windows and one more for each window's worth of data. More than 512 MiB would take the
/// data out of stock Linux's reach.
fn reflow_alignment(size: Bytes) -> u32 {
    let wanted = (size.0 / 16).clamp(4 << 20, 512 << 20);
    wanted.next_power_of_two() as u32
}

impl<F: HostFile> Planner<'_, F> {
    /// A layout whose bitmap and data lie past those of `old`, if there is one. A distance that
    /// makes for few windows is wanted, and that stock Linux reaches the data is wanted more.
    pub(super) fn geometry_after(&self, old: &Geometry) -> Result<Option<Geometry>, PlanError> {
        let least = reflow_alignment(self.wish.new_size);
        let far = self.roomy_geometry(|new| new.alignment >= least && new.lies_after(old))?;
        if far.is_some_and(|far| far.fits_stock_linux()) {
            return Ok(far);
        }
        let near = self.roomy_geometry(|new| new.lies_after(old))?;
        Ok(near.filter(Geometry::fits_stock_linux).or(far))
    }

    /// Why there is no layout past `old`, and what there is in its place.
    pub(super) fn no_layout_after(&self, old: &Geometry) -> String {
        let instead = match self.headroom_does() {
            true => format!(
                "headroom has room for a device of {}, and moves nothing; ",
                old.headroom()
            ),
            false => String::new(),
        };
        format!(
            "each one at least doubles the alignment, which is {} bytes already, and a header \
             holds at most {}; {instead}`ubdlab image convert COW NEW --to v3` makes \
             a copy with its data near the beginning",
            old.alignment,
            u32::MAX
        )
    }

    /// The layout with the roomiest alignment that stock Linux can still reach and that
    /// `fits`; if there is none, the smallest that fits, if any does.
    pub(super) fn roomy_geometry(
        &self,
        fits: impl Fn(&Geometry) -> bool,
    ) -> Result<Option<Geometry>, PlanError> {
        let roomy = Geometry::roomy_alignment(self.wish.new_size);
        let larger = std::iter::successors(Some(roomy), |a| a.checked_mul(2));
        let smaller = std::iter::successors(Some(roomy / 2), |a| Some(a / 2));
        let mut beyond_stock = None;
        for alignment in larger.chain(smaller.take_while(|&a| a >= 4096)) {
            let geometry = self.geometry(alignment)?;
            if !fits(&geometry) {
                continue;
            }
            if geometry.fits_stock_linux() {
                return Ok(Some(geometry));
            }
            beyond_stock.get_or_insert(geometry);
        }
        Ok(beyond_stock)
    }

    /// The layout with this alignment.
    pub(super) fn geometry(&self, alignment: u32) -> Result<Geometry, PlanError> {
        let found = self.wish.new_size.0;
        Geometry::new(Version::V3, self.wish.new_size, alignment)
            .map_err(|_| PlanError::TooLarge { found })
    }
}

/// What a layout means whose data stock Linux cannot reach.
pub(super) fn out_of_reach(layout: &Geometry) -> String {
    format!(
        "the data starts at {}, past the 2 GiB that stock Linux can reach: only ubdlab will be \
         able to use the file",
        layout.data_offset - FileOffset(0)
    )
}
