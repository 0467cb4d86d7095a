//! The name of the device's own file while it is replayed on. Whoever may change the directory can
//! take it away or give it to another file; that other one says nothing of the driver.

use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::host::{Access, FileIdentity, FileRole, HostError, HostNames};
use driver::open::{OpenError, OpenOptions};

use super::bring_up::{BringsUp, Reopened};
use super::session_error::SessionError;

/// The COW file or raw disk of a replay, by its name.
pub(super) struct OwnFile<'a, H> {
    pub(super) host: &'a H,
    /// The device.
    pub(super) spec: &'a DeviceSpec,
    /// How it was opened at first.
    pub(super) options: OpenOptions,
}

impl<H: HostNames> OwnFile<'_, H> {
    /// Which file the device has, if its driver tells: the one of this name.
    pub(super) fn still_named(
        &self,
        driver: &impl Driver<File = H::File>,
    ) -> Result<Option<FileIdentity>, SessionError> {
        let Some(file) = driver.own_file() else {
            return Ok(None);
        };
        let examined = self.host.metadata(file);
        let had = examined.map_err(self.examining())?.identity;
        match self.host.open(&self.spec.file, Access::ReadOnly) {
            Err(HostError::NotFound) => Err(self.removed()),
            named => {
                let named = named.and_then(|named| self.host.metadata(&named));
                let named = named.map_err(self.examining())?.identity;
                self.same(had, named).map(Some)
            }
        }
    }

    /// Brings the device up again. No file is made for it, and it has to be the one that it had.
    pub(super) fn reopen<B: BringsUp<H>>(
        &self,
        brings: &B,
        had: Option<FileIdentity>,
    ) -> Result<Result<Reopened<B::Driver>, String>, SessionError> {
        let options = OpenOptions {
            create: false,
            ..self.options
        };
        let reopened = brings.reopen(self.host, self.spec, options);
        let reopened = reopened.map_err(|error| match error {
            SessionError::Open(OpenError::Host {
                path,
                error: HostError::NotFound,
                ..
            }) if path == self.spec.file => self.removed(),
            error => error,
        })?;
        let file = reopened.as_ref().ok();
        if let Some(file) = file.and_then(|reopened| reopened.driver.own_file())
            && let Some(had) = had
        {
            let has = self.host.metadata(file).map_err(self.examining())?;
            self.same(had, has.identity)?;
        }
        Ok(reopened)
    }

    fn same(&self, had: FileIdentity, has: FileIdentity) -> Result<FileIdentity, SessionError> {
        match had == has {
            true => Ok(had),
            false => Err(SessionError::Exchanged {
                path: self.spec.file.clone(),
                file: self.role(),
            }),
        }
    }

    fn removed(&self) -> SessionError {
        SessionError::Removed {
            path: self.spec.file.clone(),
            file: self.role(),
        }
    }

    fn role(&self) -> FileRole {
        match self.spec.data {
            true => FileRole::RawDisk,
            false => FileRole::Cow,
        }
    }

    fn examining(&self) -> impl FnOnce(HostError) -> SessionError + '_ {
        SessionError::host(&self.spec.file, "examining")
    }
}
