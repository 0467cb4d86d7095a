//! A device as a strip of cells, each of which stands for an equal share of its sectors: how much
//! of the device is dirty, how much of that has been moved, and where a sector is wrong. The strip
//! is drawn for the terminal here, and for pages in [`crate::report`].

use std::fmt::Write;

use driver::cow::SectorMap;
use driver::units::{Sector, SectorCount, SectorRange};
use serde::Serialize;

/// The device at a moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Strip {
    /// The sectors of the device.
    pub sectors: u64,
    /// How many of them are dirty.
    pub dirty_sectors: u64,
    /// While a reflow is under way: sectors from this one on have been moved.
    pub frontier_sector: Option<u64>,
    /// The dirty share of each cell, from 0 to 1.
    pub cells: Vec<f32>,
    /// A sector whose content is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrong_sector: Option<u64>,
}

/// Which characters a terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Characters {
    /// Block elements.
    Unicode,
    /// Nothing but ASCII.
    Ascii,
}

/// The cell of a wrong sector.
const WRONG: char = '!';

/// Shades from clean to dirty, and the frontier.
struct Palette {
    clean: char,
    shades: [char; 3],
    dirty: char,
    frontier: char,
}

impl Characters {
    fn palette(self) -> Palette {
        match self {
            Characters::Unicode => Palette {
                clean: '·',
                shades: ['░', '▒', '▓'],
                dirty: '█',
                frontier: '│',
            },
            Characters::Ascii => Palette {
                clean: '.',
                shades: [':', '+', '*'],
                dirty: '#',
                frontier: '|',
            },
        }
    }

    /// What the characters of a strip mean, in a line.
    pub fn legend(self) -> String {
        let Palette {
            clean,
            shades: [few, half, most],
            dirty,
            frontier,
        } = self.palette();
        format!(
            "{clean} clean   {few}{half}{most} partly dirty   {dirty} dirty   {frontier} frontier, moved past it"
        )
    }
}

impl Strip {
    /// The device of `map`, in at most `cells` cells.
    pub fn of(map: &SectorMap, frontier: Option<Sector>, cells: usize) -> Strip {
        let dirty = |range| map.dirty_runs(range).map(|run| run.count.0).sum();
        Strip {
            dirty_sectors: map.dirty_count().0,
            frontier_sector: frontier.map(|frontier| frontier.0),
            ..Strip::counted(map.sectors().0, cells, dirty)
        }
    }

    /// A device of `sectors`, of which those in `dirty`, ascending, are dirty, in at most `cells`
    /// cells.
    pub fn of_sectors(sectors: u64, dirty: &[u64], cells: usize) -> Strip {
        let before = |sector: Sector| dirty.partition_point(|&it| it < sector.0) as u64;
        let count = |range: SectorRange| before(range.end()) - before(range.start);
        Strip {
            dirty_sectors: dirty.len() as u64,
            ..Strip::counted(sectors, cells, count)
        }
    }

    /// The cells, where `dirty` counts the dirty sectors of a range.
    fn counted(sectors: u64, cells: usize, dirty: impl Fn(SectorRange) -> u64) -> Strip {
        let cells = (cells.max(1) as u64).min(sectors.max(1));
        let edge = |cell: u64| (u128::from(sectors) * u128::from(cell) / u128::from(cells)) as u64;
        let share = |cell: u64| {
            let range = SectorRange::between(Sector(edge(cell))..Sector(edge(cell + 1)));
            dirty(range) as f32 / range.count.0.max(1) as f32
        };
        Strip {
            sectors,
            dirty_sectors: 0,
            frontier_sector: None,
            cells: (0..cells).map(share).collect(),
            wrong_sector: None,
        }
    }

    /// The strip in at most `cells` cells.
    pub fn narrowed(&self, cells: usize) -> Strip {
        let (old, new) = (self.cells.len(), cells.clamp(1, self.cells.len().max(1)));
        let share = |cell: usize| {
            let part = &self.cells[cell * old / new..(cell + 1) * old / new];
            part.iter().sum::<f32>() / part.len().max(1) as f32
        };
        Strip {
            cells: (0..new).map(share).collect(),
            ..self.clone()
        }
    }

    /// The size of the device.
    pub fn size(&self) -> driver::units::Bytes {
        SectorCount(self.sectors).bytes()
    }

    /// The cell that the frontier lies before; one past the last if nothing has been moved.
    pub fn frontier_cell(&self) -> Option<usize> {
        let frontier = u128::from(self.frontier_sector?);
        let cells = self.cells.len() as u128;
        Some((frontier * cells / u128::from(self.sectors.max(1))) as usize)
    }

    /// The cell that the wrong sector lies in; `None` if it is not on the device.
    pub fn wrong_cell(&self) -> Option<usize> {
        let wrong = self.wrong_sector.filter(|&wrong| wrong < self.sectors)?;
        // The first edge past it ends its cell.
        let (cells, sectors) = (self.cells.len() as u128, u128::from(self.sectors));
        Some((((u128::from(wrong) + 1) * cells).div_ceil(sectors) - 1) as usize)
    }

    /// The strip in characters, one a cell, with the frontier between two.
    pub fn draw(&self, characters: Characters) -> String {
        let palette = characters.palette();
        let frontier = self.frontier_cell();
        let mut text = String::new();
        for (number, &share) in self.cells.iter().enumerate() {
            if frontier == Some(number) {
                text.push(palette.frontier);
            }
            text.push(match share {
                _ if self.wrong_cell() == Some(number) => WRONG,
                s if s <= 0.0 => palette.clean,
                s if s >= 1.0 => palette.dirty,
                s => palette.shades[((s * 3.0) as usize).min(2)],
            });
        }
        if frontier == Some(self.cells.len()) {
            text.push(palette.frontier);
        }
        text
    }

    /// What the strip shows, in words.
    pub fn words(&self) -> String {
        let mut text = String::new();
        let dirty = SectorCount(self.dirty_sectors).bytes();
        let _ = write!(
            text,
            "{}, {} of it dirty ({:.1} %)",
            self.size(),
            crate::figures::size(dirty.0),
            100.0 * self.dirty_sectors as f64 / self.sectors.max(1) as f64
        );
        if let Some(frontier) = self.frontier_sector {
            let _ = write!(
                text,
                ", moved from sector {} on ({:.0} % of the device)",
                crate::figures::grouped(frontier),
                100.0 * (self.sectors - frontier.min(self.sectors)) as f64
                    / self.sectors.max(1) as f64
            );
        }
        if let Some(wrong) = self.wrong_sector {
            let _ = write!(text, ", sector {} is wrong", crate::figures::grouped(wrong));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(sectors: u64, dirty: &[(u64, u64)]) -> SectorMap {
        let mut map = SectorMap::new(SectorCount(sectors)).unwrap();
        for &(start, count) in dirty {
            map.mark_dirty(SectorRange::new(Sector(start), SectorCount(count)));
        }
        map
    }

    #[test]
    fn each_cell_shows_the_share_of_its_sectors_that_is_dirty() {
        let map = map(80, &[(0, 10), (10, 1), (35, 5), (79, 1)]);
        let strip = Strip::of(&map, None, 8);
        assert_eq!(strip.cells, [1.0, 0.1, 0.0, 0.5, 0.0, 0.0, 0.0, 0.1]);
        assert_eq!(strip.draw(Characters::Ascii), "#:.+...:");
        assert_eq!(strip.draw(Characters::Unicode), "█░·▒···░");
    }

    #[test]
    fn the_frontier_stands_before_what_has_been_moved() {
        let map = map(80, &[(40, 40)]);
        let draw = |frontier| Strip::of(&map, Some(Sector(frontier)), 8).draw(Characters::Ascii);
        assert_eq!(draw(80), "....####|");
        assert_eq!(draw(60), "....##|##");
        assert_eq!(draw(0), "|....####");
        let words = Strip::of(&map, Some(Sector(60)), 8).words();
        assert_eq!(
            words,
            "40 KiB, 20 KiB of it dirty (50.0 %), moved from sector 60 on (25 % of the device)"
        );
    }

    #[test]
    fn the_wrong_sector_is_marked_in_its_cell() {
        for (sectors, cells) in [(80, 8), (3, 80), (1000, 7), (65, 64)] {
            let strip = Strip::of_sectors(sectors, &[1], cells);
            let edge = |cell: usize| sectors * cell as u64 / strip.cells.len() as u64;
            for wrong in 0..sectors {
                let marked = Strip {
                    wrong_sector: Some(wrong),
                    ..strip.clone()
                };
                let cell = marked.wrong_cell().unwrap();
                assert!((edge(cell)..edge(cell + 1)).contains(&wrong), "{wrong}");
            }
        }
        let strip = Strip {
            wrong_sector: Some(35),
            ..Strip::of_sectors(80, &[0, 1, 2, 40], 8)
        };
        assert_eq!(strip.draw(Characters::Ascii), ":..!:...");
        assert_eq!(
            strip.words(),
            "40 KiB, 2 KiB of it dirty (5.0 %), sector 35 is wrong"
        );
        let outside = Strip {
            wrong_sector: Some(80),
            ..strip
        };
        assert_eq!(outside.wrong_cell(), None);
    }

    #[test]
    fn sectors_and_a_map_of_them_make_one_strip() {
        let sectors: Vec<u64> = (0..11).chain(35..40).chain([79]).collect();
        let of_map = Strip::of(&map(80, &[(0, 11), (35, 5), (79, 1)]), None, 8);
        assert_eq!(Strip::of_sectors(80, &sectors, 8), of_map);
    }

    #[test]
    fn a_narrower_strip_shows_the_mean_of_its_cells() {
        let strip = Strip::of(&map(80, &[(0, 10), (30, 50)]), None, 8).narrowed(3);
        assert_eq!(strip.cells, [0.5, 0.6666667, 1.0]);
    }

    #[test]
    fn a_device_of_fewer_sectors_than_cells_has_a_cell_a_sector() {
        let strip = Strip::of(&map(3, &[(1, 1)]), None, 80);
        assert_eq!(strip.draw(Characters::Ascii), ".#.");
    }

    /// Cells of a huge device must not overflow.
    #[test]
    fn the_largest_device_has_a_strip() {
        let sectors = driver::cow::MAX_SECTORS.0;
        let strip = Strip::of(
            &map(sectors, &[(sectors - 1, 1)]),
            Some(Sector(sectors)),
            64,
        );
        assert_eq!(strip.cells.len(), 64);
        assert!(strip.draw(Characters::Ascii).ends_with(":|"));
    }
}
