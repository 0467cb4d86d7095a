//! Work that is reported as done, or as undone, and has not left the files as it has to.

use driver::blk::{Operation, Status};
use driver::cow::Version;
use driver::host::{FileRole, HostFile, HostNames};
use driver::ordered::{CowImage, Desk, Ordered, Procedure, Resize, Step};
use driver::units::{Bytes, FileOffset, SECTOR_SIZE, Sector};

use crate::plain_format::{self, CowFile, Extension};
use crate::sim::{Mishearing, SimFile, SimHost};

use super::super::case::ImageTool;
use super::super::paths::{BACKING, BACKING_SECONDS, COW, OTHER_BACKING};
use super::super::tools::CONVERTED;
use super::{BoxedResize, Defective, Double, Driven, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "resize-leaves-the-file-too-long",
        does: "leaves a sector past the end of the data when a resize is done",
        seam: Seam::Resize(|resize, _| Box::new(Leaves(resize, Left::Length))),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "resize-leaves-a-leak",
        does: "leaves data in the place of a clean sector when a resize is done",
        seam: Seam::Resize(|resize, _| Box::new(Leaves(resize, Left::Leak))),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "resize-leaves-a-bit-before-the-data",
        does: "leaves a bit between the bitmap and the data when a resize is done",
        seam: Seam::Resize(|resize, _| Box::new(Leaves(resize, Left::Bit))),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "failed-resize-leaves-its-block",
        does: "leaves something in the place of the extension block when a resize has failed",
        seam: Seam::Resize(|resize, _| Box::new(LeavesItsBlock(resize))),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "resize-changes-the-path",
        does: "leaves another path to the backing file in the header when a resize is done",
        seam: Seam::Resize(|resize, _| Box::new(Changes(resize, other_path))),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "resize-changes-the-time",
        does: "leaves another time of the backing file in the header when a resize is done",
        seam: Seam::Resize(|resize, _| Box::new(Changes(resize, other_time))),
        found_as: &[Kind::Inconsistent, Kind::DoesNotOpen],
        replay: None,
    },
    Double {
        name: "close-leaves-a-file",
        does: "leaves a file beside the image when the device is closed",
        seam: Seam::Closed(|host| drop(host.create_new("/disk/cow.temporary".as_ref()))),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "shrink-drops-a-partial-sector",
        does: "finds nothing in the partial last sector that a shrink takes",
        seam: Seam::Losses(|found, is_partial| found && !is_partial),
        found_as: &[Kind::WrongStatus],
        replay: None,
    },
    Double {
        name: "repair-is-not-durable",
        does: "reports a repair as done whose bitmap was not synced",
        seam: Seam::Tool(|host, tool| {
            if tool == ImageTool::Repair {
                forget_bits_past_end(host);
            }
        }),
        found_as: &[Kind::LostWrite],
        replay: None,
    },
    Double {
        name: "merge-is-not-durable",
        does: "reports a merge as done of which a sector was not synced",
        seam: Seam::Tool(|host, tool| {
            if tool == ImageTool::Merge {
                forget_merged(host);
            }
        }),
        found_as: &[Kind::LostWrite],
        replay: None,
    },
    Double {
        name: "convert-is-not-durable",
        does: "reports a conversion as done of which a sector was not synced",
        seam: Seam::Tool(|host, tool| {
            if matches!(tool, ImageTool::ConvertToRaw | ImageTool::ConvertToCow) {
                forget(host, CONVERTED, 0, SECTOR_SIZE);
            }
        }),
        found_as: &[Kind::LostWrite],
        replay: None,
    },
    Double {
        name: "repair-names-a-copy-of-the-backing-file",
        does: "leaves the path of a copy of the backing file in the header when a repair is done",
        seam: Seam::Tool(|host, tool| {
            if tool == ImageTool::Repair {
                name_the_copy(host);
            }
        }),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "recovery-leaves-a-bit-past-the-end",
        does: "leaves a bit past the last sector's, as a resize that was interrupted can leave it, \
               when a recovery is done",
        seam: Seam::Tool(|host, tool| {
            if tool == ImageTool::Recover {
                set_bit_past_end(host);
            }
        }),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "recovery-leaves-the-file-too-long",
        does: "leaves a sector past the end of the data when a recovery is done",
        seam: Seam::Tool(|host, tool| {
            if tool == ImageTool::Recover {
                lengthen(host);
            }
        }),
        found_as: &[Kind::Inconsistent],
        replay: None,
    },
    Double {
        name: "merge-believes-what-is-there",
        does: "writes no sector that the backing file holds already, and syncs it only if it has",
        seam: Seam::Host(Mishearing {
            takes_for_done: None,
            misses_renames: false,
            takes_for_durable: Some(BACKING),
        }),
        // Until the bits are cleared, the file is neither what it was nor what it is to become.
        found_as: &[
            Kind::LostWrite,
            Kind::StaleRead,
            Kind::Zeros,
            Kind::DoesNotOpen,
        ],
        replay: None,
    },
    Double {
        name: "tool-done-is-not-durable",
        does: "reports a rebase as done whose header was not synced",
        seam: Seam::Tool(forget_last_sync),
        found_as: &[Kind::LostWrite],
        replay: None,
    },
    Double {
        name: "gone-sectors-are-acknowledged",
        does: "acknowledges a write to sectors that a shrink has taken before it began",
        seam: Seam::driver::<AcknowledgesGone>(),
        found_as: &[Kind::WrongStatus],
        replay: None,
    },
];

const LEAVING: &str = "leaving something";

/// What a resize leaves that is done.
#[derive(Clone, Copy)]
enum Left {
    Length,
    Leak,
    Bit,
}

struct Leaves(BoxedResize, Left);

impl Resize<SimFile> for Leaves {
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move {
            let Leaves(resize, left) = *self;
            let resized = resize.begin(desk.clone()).await?;
            let seen = desk.follow(|here| {
                let device = here.device();
                (device.geometry(), first_clean_block(device))
            });
            let (Some(geometry), clean) = seen.await? else {
                return Ok(resized);
            };
            match left {
                Left::Length => {
                    let end = geometry.data_end() + Bytes(SECTOR_SIZE);
                    desk.set_cow_len(end).await?;
                }
                Left::Leak => {
                    if let Some(sector) = clean {
                        let data = vec![7; SECTOR_SIZE as usize];
                        let at = geometry.place_of(sector);
                        desk.write(FileRole::Cow, LEAVING, at, data).await?;
                    }
                }
                Left::Bit => {
                    let at = geometry.bitmap().end();
                    if at < geometry.data_offset {
                        desk.write(FileRole::Cow, LEAVING, at, vec![1]).await?;
                    }
                }
            }
            Ok(resized)
        })
    }
}

/// The first sector of which no other in two blocks around it is dirty.
fn first_clean_block(device: &Ordered<SimFile>) -> Option<Sector> {
    const AROUND: u64 = 8;
    let capacity = device.capacity().0;
    let mut sectors = (AROUND..capacity.saturating_sub(AROUND)).map(Sector);
    sectors.find(|sector| {
        let (from, to) = (Sector(sector.0 - AROUND), Sector(sector.0 + AROUND));
        device.map().next_dirty(from, to).is_none()
    })
}

struct LeavesItsBlock(BoxedResize);

impl Resize<SimFile> for LeavesItsBlock {
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move {
            let outcome = self.0.begin(desk.clone()).await;
            let image = desk.follow(|here| here.device().image().cloned()).await?;
            let is_bare = image.is_some_and(|image| {
                let header = &image.header;
                image.extension.is_none() && !header.relocating && header.version == Version::V3
            });
            if outcome.is_err() && is_bare {
                let at = FileOffset(Extension::AT + 470);
                let _ = desk.write(FileRole::Cow, LEAVING, at, vec![1]).await;
            }
            outcome
        })
    }
}

/// Names the other file with the same content, as if it had been there before.
fn name_the_copy(host: &SimHost) {
    let Some(Ok(cow)) = host.content(COW).map(CowFile::open) else {
        return;
    };
    let mut header = cow.header;
    if header.path == BACKING.as_bytes() {
        header.path = OTHER_BACKING.into();
        host.write_unsynced(COW, &header.bytes(), FileOffset(0));
        host.settle_file(COW);
    }
}

/// Sets the first bit after the bitmap of a V3 file, where there is room for it.
fn set_bit_past_end(host: &SimHost) {
    let Some(Ok(cow)) = host.content(COW).map(CowFile::open) else {
        return;
    };
    let past = cow.layout.bitmap + cow.layout.bitmap_len;
    if cow.header.version == plain_format::Version::V3 && past < cow.layout.data {
        host.write_unsynced(COW, &[1], FileOffset(past));
        host.settle_file(COW);
    }
}

/// Makes a V3 file longer than its data area.
fn lengthen(host: &SimHost) {
    let Some(Ok(cow)) = host.content(COW).map(CowFile::open) else {
        return;
    };
    if cow.header.version == plain_format::Version::V3 {
        let end = FileOffset(cow.layout.end);
        host.write_unsynced(COW, &[0; SECTOR_SIZE as usize], end);
        host.settle_file(COW);
    }
}

/// What is durable of the header is that of the former backing file, which is as good as the new
/// one until the rebase is done.
fn forget_last_sync(host: &SimHost, tool: ImageTool) {
    let (ImageTool::Rebase, Some(Ok(cow))) = (tool, host.content(COW).map(CowFile::open)) else {
        return;
    };
    let right = cow.header.bytes();
    let mut former = cow.header;
    (former.path, former.time) = (BACKING.into(), BACKING_SECONDS as u32);
    take_back(host, (COW, 0), &former.bytes(), &right);
}

/// What a file holds here is not durable any more, and something else is.
fn forget(host: &SimHost, path: &str, at: u64, len: u64) {
    let Some(content) = host.content(path) else {
        return;
    };
    let len = len.min(content.length().0.saturating_sub(at));
    let mut right = vec![0; len as usize];
    content.read_at(&mut right, FileOffset(at));
    let former: Vec<u8> = right.iter().map(|byte| !byte).collect();
    take_back(host, (path, at), &former, &right);
}

/// What is durable at a place is what was there `before`, though the file holds what is `right`.
fn take_back(host: &SimHost, (path, at): (&str, u64), before: &[u8], right: &[u8]) {
    host.write_unsynced(path, before, FileOffset(at));
    host.settle_file(path);
    host.write_unsynced(path, right, FileOffset(at));
}

/// What is durable after the bitmap, where there is room before the data, are bits.
fn forget_bits_past_end(host: &SimHost) {
    let Some(Ok(cow)) = host.content(COW).map(CowFile::open) else {
        return;
    };
    let layout = cow.layout;
    let past = layout.bitmap + layout.bitmap_len;
    if past < layout.data {
        forget(host, COW, past, 1);
    }
}

/// The first sector of the backing file that the header names.
fn forget_merged(host: &SimHost) {
    let Some(Ok(cow)) = host.content(COW).map(CowFile::open) else {
        return;
    };
    if let Ok(path) = std::str::from_utf8(&cow.header.path) {
        forget(host, path, 0, SECTOR_SIZE);
    }
}

/// A resize, and what it leaves in the header that was another before.
struct Changes(BoxedResize, fn(&mut CowImage));

impl Resize<SimFile> for Changes {
    fn begin(self: Box<Self>, desk: Desk<SimFile>) -> Procedure {
        Box::pin(async move {
            let Changes(resize, change) = *self;
            let resized = resize.begin(desk.clone()).await?;
            let image = desk.follow(|here| here.device().image().cloned()).await?;
            if let Some(mut image) = image {
                let right = image.header.clone();
                change(&mut image);
                if image.header != right {
                    desk.put_header(&image.header).await?;
                }
            }
            Ok(resized)
        })
    }
}

/// It leads to the same file.
fn other_path(image: &mut CowImage) {
    image.header.backing_path.splice(0..0, *b"/.");
}

fn other_time(image: &mut CowImage) {
    image.header.backing_mtime = image.header.backing_mtime.wrapping_add(1);
}

#[derive(Default)]
struct AcknowledgesGone;

impl<F: HostFile> Defective<F> for AcknowledgesGone {
    fn step(&mut self, device: &mut Driven<'_, F>) -> Step {
        let mut step = device.step();
        if let Step::Completed(completion) = &mut step
            && matches!(completion.request.operation, Operation::Write { .. })
            && completion.status == Status::IoError
            && completion.failure.is_none()
            && completion.request.range().end().0 > device.capacity().0
        {
            completion.status = Status::Ok;
        }
        step
    }

    fn tells_ends(&self) -> bool {
        true
    }
}
