//! What a driver must not do when a fault has kept a device from coming up.

use driver::host::{Access, HostFile, HostNames, OperationKind};
use driver::ordered::Ordered;
use driver::units::Bytes;

use crate::sim::{Injected, SimFile, SimHost};

use super::super::paths::COW;
use super::{Double, Kind, Seam};

pub(super) const DOUBLES: &[Double] = &[
    Double {
        name: "failed-opening-empties",
        does: "cuts the COW file to nothing when a sync has failed at opening",
        seam: Seam::FailedOpening(empty),
        found_as: &[Kind::DoesNotOpen],
        replay: None,
    },
    Double {
        name: "failed-recovery-unmarks",
        does: "takes the mark of the reflow out of the header when its recovery has failed",
        seam: Seam::FailedRecovery(unmark),
        found_as: &[
            Kind::DoesNotOpen,
            Kind::WrongSize,
            Kind::LostWrite,
            Kind::StaleRead,
            Kind::Zeros,
            Kind::Foreign,
            Kind::Misplaced,
        ],
        replay: None,
    },
];

fn empty(host: &SimHost) {
    let is_sync = |injected: &Injected| injected.call.kind == OperationKind::SyncData;
    if host.injected().iter().any(is_sync)
        && let Ok(cow) = host.open(COW.as_ref(), Access::ReadWrite)
    {
        // Nobody asks what comes of it.
        let _ = cow.set_len(Bytes(0));
    }
}

fn unmark(device: &mut Ordered<SimFile>) {
    if let Some(image) = device.image() {
        let mut header = image.header.clone();
        header.relocating = false;
        // Nobody asks what comes of it.
        let _ = device.relocate(|desk| async move { desk.put_header(&header).await });
    }
}
