//! The disks that are served, with content, and the servers of a turn.

use std::ops::Deref;

use crate::bench::{BenchError, Settings};

use super::contender::{Contender, Disk, Protocol};
use super::files::{Files, SIZE};
use super::fio::{Target, Work, fio};
use super::server::Server;

/// How the device is written before it is measured. A cluster of qcow2 has 64 KiB by default: what
/// is written of it is written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    /// Every second 64 KiB, so that half of it is in the backing file.
    Half,
    /// All of it.
    All,
}

impl Content {
    fn work(self) -> Work {
        let (pattern, bytes) = match self {
            // The pattern skips as much after each request.
            Content::Half => ("write:64k", SIZE.0 / 2),
            Content::All => ("write", SIZE.0),
        };
        Work {
            pattern,
            block: 64 << 10,
            depth: 8,
            bytes,
            size: SIZE.0,
        }
    }
}

/// Reads all, so that the page cache has it.
const READ_ALL: Work = Work {
    pattern: "read",
    block: 256 << 10,
    depth: 4,
    bytes: SIZE.0,
    size: SIZE.0,
};

/// The disks.
pub(super) struct Lab<'a> {
    pub(super) settings: Settings<'a>,
    pub(super) files: Files,
    /// What is written through the filter is gone with its process, and so it stays.
    filter: Option<Server>,
    /// What has been written.
    content: Option<Content>,
}

/// The server of a turn.
pub(super) enum Serving<'a> {
    OfThisTurn(Server),
    Kept(&'a Server),
}

impl Deref for Serving<'_> {
    type Target = Server;

    fn deref(&self) -> &Server {
        match self {
            Serving::OfThisTurn(server) => server,
            Serving::Kept(server) => server,
        }
    }
}

impl<'a> Lab<'a> {
    /// Makes the files; nothing has been written.
    pub(super) fn make(settings: Settings<'a>) -> Result<Lab<'a>, BenchError> {
        Ok(Lab {
            settings,
            files: Files::all(settings)?,
            filter: None,
            content: None,
        })
    }

    /// Writes what is missing of this content to each disk whose programs are there.
    pub(super) fn fill(&mut self, content: Content) -> Result<(), BenchError> {
        if self.content >= Some(content) {
            return Ok(());
        }
        let contenders = Contender::all(Protocol::Nbd, self.settings.io);
        for disk in [Disk::Ours, Disk::Qcow2, Disk::CowFilter] {
            let serves = |&contender: &Contender| {
                contender.disk() == Some(disk) && contender.missing().is_none()
            };
            let Some(contender) = contenders.iter().copied().find(serves) else {
                continue;
            };
            if disk == Disk::CowFilter && self.filter.is_none() {
                let started = contender.start(self.settings, &self.files, Protocol::Nbd);
                // One that does not start has no turns either.
                self.filter = started.ok();
            }
            let Ok(serving) = self.serve(contender, Protocol::Nbd) else {
                continue;
            };
            let place = contender.place(&self.files, Protocol::Nbd);
            fio(self.settings, Target::Nbd(&place), content.work())?;
            serving.write_back()?;
        }
        self.content = Some(content);
        Ok(())
    }

    /// Starts the server of a turn, or takes the one that is kept for it.
    pub(super) fn serve(
        &self,
        contender: Contender,
        protocol: Protocol,
    ) -> Result<Serving<'_>, BenchError> {
        match (&self.filter, contender) {
            (Some(kept), Contender::CowFilter) => Ok(Serving::Kept(kept)),
            _ => {
                let started = contender.start(self.settings, &self.files, protocol);
                started.map(Serving::OfThisTurn)
            }
        }
    }

    /// Reads all that a client sees, so that the page cache has it.
    pub(super) fn make_warm(&self, target: Target<'_>) -> Result<(), BenchError> {
        fio(self.settings, target, READ_ALL).map(drop)
    }
}
