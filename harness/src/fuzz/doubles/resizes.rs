//! Resizes that say what is not so, or do not leave the device as they should.

use std::future::poll_fn;
use std::task::Poll;

use driver::cow::{Geometry, Version};
use driver::host::{FileRole, HostFile};
use driver::ordered::{CowImage, Desk, Ordered, Placement, Procedure, Relocation, Resize, Step};
use driver::resize::{Resized, Strategy};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, SectorCount};

use crate::sim::SimFile;

use super::{BoxedResize, Defective, Double, Driven, Kind, Seam};

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
        does: "reports a resize as done that has just begun",
        seam: Seam::Resize(|resize, target| Box::new(Early { resize, target })),
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
        seam: Seam::driver::<Holds>(),
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
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move {
            let outcome = self.resize.begin(desk.clone()).await;
            let image = desk.follow(|here| unmoved(here.device())).await?;
            if let (Err(_), Some(CowImage { mut header, .. })) = (&outcome, image) {
                header.size = SectorCount(self.target).bytes();
                // Nobody asks what comes of it.
                let _ = desk.put_header(&header).await;
            }
            outcome
        })
    }
}

struct Shows {
    resize: BoxedResize,
    target: u64,
}

impl Resize<SimFile> for Shows {
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move {
            let target = SectorCount(self.target);
            let outcome = self.resize.begin(desk.clone()).await;
            if outcome.is_err() {
                desk.turn().await?;
                desk.follow(move |here| show(here, target)).await?;
            }
            outcome
        })
    }
}

fn show(here: &mut Relocation<'_, SimFile>, target: SectorCount) {
    if let Some(mut image) = unmoved(here.device())
        && image.header.version == Version::V3
        && target > here.device().capacity()
        && let Ok(geometry) = Geometry::new(Version::V3, target.bytes(), image.header.alignment)
        && here.grow_map(target).is_ok()
    {
        image.geometry = geometry;
        here.commit(image, Placement::settled(&geometry));
    }
}

/// Things that an early one lets the resize ask for.
const ASKED: u32 = 3;

struct Early {
    resize: BoxedResize,
    target: u64,
}

impl Resize<SimFile> for Early {
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move {
            let old_size = desk.look(|here| here.device().capacity().bytes()).await?;
            let mut resize = self.resize.begin(desk);
            let mut asked = 0;
            let early = Ok(Resized {
                strategy: Strategy::Headroom,
                old_size,
                new_size: SectorCount(self.target).bytes(),
                moved: Bytes(0),
            });
            poll_fn(move |context| match resize.as_mut().poll(context) {
                Poll::Pending if asked < ASKED => {
                    asked += 1;
                    Poll::Pending
                }
                Poll::Pending => Poll::Ready(early.clone()),
                ready => ready,
            })
            .await
        })
    }
}

struct SetsABit(BoxedResize);

impl Resize<SimFile> for SetsABit {
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move {
            let resized = self.0.begin(desk.clone()).await?;
            let geometry = desk.follow(|here| here.device().geometry()).await?;
            if let Some(geometry) = geometry {
                let (whole, used) = (geometry.mapped().0 / 8, geometry.mapped().0 % 8);
                let at = geometry.bitmap_offset + Bytes(whole);
                let byte = desk.read(FileRole::Cow, SETTING, at, vec![0]).await;
                if let (1.., Ok(mut byte)) = (used, byte) {
                    byte[0] |= 1 << 7;
                    desk.write(FileRole::Cow, SETTING, at, byte).await?;
                }
            }
            Ok(resized)
        })
    }
}

const SETTING: &str = "setting a bit";

struct LeavesLonger(BoxedResize);

impl Resize<SimFile> for LeavesLonger {
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move {
            let outcome = self.0.begin(desk.clone()).await;
            if outcome.is_err()
                && let Ok(len) = desk.len(FileRole::Cow, "examining the COW file").await
            {
                desk.set_cow_len(FileOffset(len.0 + SECTOR_SIZE)).await?;
            }
            outcome
        })
    }
}

/// Whether a resize has been under way, and whether it has ended.
#[derive(Default)]
struct Holds {
    resizing: bool,
    ended: bool,
}

impl<F: HostFile> Defective<F> for Holds {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        self.ended |= self.resizing && !device.is_resizing();
        self.resizing |= device.is_resizing();
        match self.ended && device.is_busy() {
            true => Step::Blocked,
            false => device.step(),
        }
    }
}
