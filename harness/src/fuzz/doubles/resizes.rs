//! Resizes that say what is not so, or do not leave the device as they should.

use driver::cow::{Geometry, Version};
use driver::host::HostFile;
use driver::ordered::{CowImage, Hold, Ordered, Placement};
use driver::resize::{Resize, ResizeError, ResizeStep, Resized, Strategy};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, SectorCount};

use crate::sim::SimFile;

use super::{BoxedResize, Double, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "failed-resize-commits",
        does: "commits the new header where a failed resize should have left the old one",
        seam: Seam::Resize(|resize, target| Box::new(Commits { resize, target })),
        found_as: &[
            Kind::WrongSize,
            Kind::LostWrite,
            Kind::Zeros,
            Kind::Misplaced,
            Kind::Inconsistent,
            Kind::DoesNotOpen,
            // Reading past the end of the backing file.
            Kind::WrongStatus,
        ],
        replay: None,
    },
    Double {
        name: "failed-resize-shows-the-new-size",
        does: "offers the new size when a resize to a larger one has failed",
        seam: Seam::Resize(|resize, target| Box::new(Shows { resize, target })),
        found_as: &[
            Kind::WrongSize,
            Kind::WrongStatus,
            Kind::LostWrite,
            Kind::Zeros,
            Kind::Foreign,
        ],
        replay: None,
    },
    Double {
        name: "resize-done-too-early",
        does: "reports a resize as done after its second step",
        seam: Seam::Resize(|resize, target| {
            Box::new(Early {
                resize,
                target,
                steps: 0,
            })
        }),
        found_as: &[Kind::WrongSize],
        replay: None,
    },
    Double {
        name: "resize-sets-a-bit-past-the-end",
        does: "leaves a bit past the last sector's in the bitmap when it is done",
        seam: Seam::Resize(|resize, _| Box::new(SetsABit(resize))),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "failed-resize-leaves-a-longer-file",
        does: "leaves the COW file or raw disk a sector longer when it has failed",
        seam: Seam::Resize(|resize, _| Box::new(LeavesLonger(resize))),
        found_as: &[Kind::Inconsistent, Kind::WrongSize],
        replay: None,
    },
    Double {
        name: "resize-leaves-the-hold",
        does: "goes on keeping requests out when the resize has ended",
        seam: Seam::Resize(|resize, _| Box::new(Holds(resize))),
        found_as: &[Kind::WrongCompletion],
        replay: None,
    },
];

/// What the file says of itself, unless a part of it has been moved.
fn unmoved(device: &Ordered<SimFile>) -> Option<CowImage> {
    let image = device.image()?;
    (!image.header.relocating).then(|| image.clone())
}

struct Commits {
    resize: BoxedResize,
    target: u64,
}

impl Resize<SimFile> for Commits {
    fn step(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        let step = self.resize.step(device);
        if let (Err(_), Some(image)) = (&step, unmoved(device)) {
            let mut header = image.header;
            header.size = SectorCount(self.target).bytes();
            // Nobody asks what comes of it.
            let _ = device.put_header(&header);
        }
        step
    }
}

struct Shows {
    resize: BoxedResize,
    target: u64,
}

impl Resize<SimFile> for Shows {
    fn step(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        let step = self.resize.step(device);
        if let (Err(_), Some(mut image)) = (&step, unmoved(device))
            && image.header.version == Version::V3
            && self.target > device.capacity().0
        {
            let size = SectorCount(self.target).bytes();
            if let Ok(geometry) = Geometry::new(Version::V3, size, image.header.alignment)
                && device.map_mut().grow(SectorCount(self.target)).is_ok()
            {
                image.geometry = geometry;
                device.commit(image, Placement::settled(&geometry));
            }
        }
        step
    }
}

struct Early {
    resize: BoxedResize,
    target: u64,
    steps: u64,
}

impl Resize<SimFile> for Early {
    fn step(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        self.steps += 1;
        let old_size = device.capacity().bytes();
        match self.resize.step(device)? {
            ResizeStep::Working if self.steps >= 2 => Ok(ResizeStep::Done(Resized {
                strategy: Strategy::Headroom,
                old_size,
                new_size: SectorCount(self.target).bytes(),
                moved: Bytes(0),
            })),
            step => Ok(step),
        }
    }
}

struct Holds(BoxedResize);

impl Resize<SimFile> for Holds {
    fn step(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        let step = self.0.step(device);
        if let Ok(ResizeStep::Done(_)) | Err(_) = step {
            device.set_hold(Hold::Everything);
        }
        step
    }
}

struct SetsABit(BoxedResize);

impl Resize<SimFile> for SetsABit {
    fn step(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        let step = self.0.step(device)?;
        if let (ResizeStep::Done(_), Some(geometry)) = (&step, device.geometry()) {
            let (whole, used) = (geometry.mapped().0 / 8, geometry.mapped().0 % 8);
            let at = geometry.bitmap_offset + Bytes(whole);
            let mut byte = [0];
            if used > 0 && device.cow().read_exact_at(&mut byte, at).is_ok() {
                byte[0] |= 1 << 7;
                device.write_for_relocation("setting a bit", &byte, at)?;
            }
        }
        Ok(step)
    }
}

struct LeavesLonger(BoxedResize);

impl Resize<SimFile> for LeavesLonger {
    fn step(&mut self, device: &mut Ordered<SimFile>) -> Result<ResizeStep, ResizeError> {
        let result = self.0.step(device);
        if let (Err(_), Ok(len)) = (&result, device.cow().len()) {
            device.set_cow_len(FileOffset(len.0 + SECTOR_SIZE))?;
        }
        result
    }
}
