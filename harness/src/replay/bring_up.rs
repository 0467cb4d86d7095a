//! How a replay comes by its driver. Whichever it is, `ordered` opens the device first: what is
//! dirty already is read through it, so that the model of the contents does not learn from a
//! driver that may be wrong.

use std::path::{Path, PathBuf};

use driver::device_spec::DeviceSpec;
use driver::driver::Driver;
use driver::host::{HostFile, HostNames};
use driver::linux::{Defect, Defects, Kernel, LinuxOpenError, LinuxUbd, OpenSpec, bring_up};
use driver::open::{OpenOptions, backing_path, open};
use driver::ordered::Ordered;

use super::session_error::SessionError;

/// The driver that serves the requests of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplayDriver {
    /// The correct one.
    #[default]
    Ordered,
    /// The model of a kernel's, with these defects.
    Linux(Kernel, Defects, Pipe),
    /// That of a running kernel.
    RealKernel,
}

/// The pipe from the block layer to the I/O thread of a kernel's driver. A request that does not
/// fit is submitted again, which is when [`Defect::RequeueLosesBitmap`] shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pipe {
    /// As the real one. One device has at most 64 requests in flight, and never fills it.
    #[default]
    Real,
    /// One that fills.
    Small,
}

impl Pipe {
    /// Requests that fit into the real one. It is a pair of Unix stream sockets, and a request is a
    /// pointer of 8 bytes in it: with Linux's usual socket buffer of 212,992 bytes, 278 such writes
    /// fill it.
    pub const REAL_REQUESTS: usize = 278;

    /// Requests that fit into the small one: fewer than there may be in flight.
    pub const SMALL_REQUESTS: usize = 4;

    /// Requests that fit.
    pub const fn requests(self) -> usize {
        match self {
            Pipe::Real => Pipe::REAL_REQUESTS,
            Pipe::Small => Pipe::SMALL_REQUESTS,
        }
    }

    /// The pipe in which each of these defects can show that were named one by one.
    pub fn for_named(defects: Defects) -> Pipe {
        match defects.contains(Defect::RequeueLosesBitmap) {
            true => Pipe::Small,
            false => Pipe::Real,
        }
    }
}

impl ReplayDriver {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            ReplayDriver::Ordered => "ordered",
            ReplayDriver::Linux(Kernel::Linux6_12, ..) => "linux-6.12",
            ReplayDriver::Linux(Kernel::Linux2_6, ..) => "linux-2.6",
            ReplayDriver::RealKernel => "kernel",
        }
    }

    /// Its defects, by their names.
    pub fn defects(self) -> Vec<String> {
        match self {
            ReplayDriver::Ordered | ReplayDriver::RealKernel => Vec::new(),
            ReplayDriver::Linux(_, defects, _) => {
                let names = defects.iter().map(|defect| defect.name().to_owned());
                names.collect()
            }
        }
    }

    /// The requests that fit into its pipe, if that is not the real one's.
    pub(super) fn small_pipe(self) -> Option<usize> {
        match self {
            ReplayDriver::Linux(_, _, Pipe::Small) => Some(Pipe::SMALL_REQUESTS),
            ReplayDriver::Linux(_, _, Pipe::Real)
            | ReplayDriver::Ordered
            | ReplayDriver::RealKernel => None,
        }
    }

    /// Whether it knows discards and writes of zeros.
    pub fn discards(self) -> bool {
        !matches!(self, ReplayDriver::Linux(Kernel::Linux2_6, ..))
    }
}

/// A driver that was brought up once more.
pub struct Reopened<D> {
    /// The driver.
    pub driver: D,
    /// Whether a resize was found half done.
    pub interrupted: bool,
}

/// Brings up the driver of a replay.
pub trait BringsUp<H: HostNames> {
    /// The driver.
    type Driver: Driver<File = H::File>;

    /// Takes a device over that `ordered` has opened, and on which nothing is under way.
    ///
    /// # Errors
    /// See [`SessionError`].
    fn take_over(
        &self,
        host: &H,
        spec: &DeviceSpec,
        device: Ordered<H::File>,
    ) -> Result<Self::Driver, SessionError>;

    /// Opens the device once more. `Ok(Err(why))` if a driver that may be wrong has left files from
    /// which it does not come up: what they hold is to blame, not the host.
    ///
    /// # Errors
    /// See [`SessionError`].
    fn reopen(
        &self,
        host: &H,
        spec: &DeviceSpec,
        options: OpenOptions,
    ) -> Result<Result<Reopened<Self::Driver>, String>, SessionError> {
        let opened = open(host, spec, options)?;
        let interrupted = opened.interrupted.is_some();
        let driver = self.take_over(host, spec, opened.device)?;
        Ok(Ok(Reopened {
            driver,
            interrupted,
        }))
    }
}

/// `ordered`, or what `wrap` makes of it.
pub struct OrderedBut<W>(pub W);

impl<H, D, W> BringsUp<H> for OrderedBut<W>
where
    H: HostNames,
    D: Driver<File = H::File>,
    W: Fn(Ordered<H::File>) -> D,
{
    type Driver = D;

    fn take_over(
        &self,
        _: &H,
        _: &DeviceSpec,
        device: Ordered<H::File>,
    ) -> Result<D, SessionError> {
        Ok((self.0)(device))
    }
}

/// A model of a kernel's driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    pub(crate) kernel: Kernel,
    pub(crate) defects: Defects,
    pub(crate) pipe: Pipe,
}

impl Model {
    /// Opens the device; `backing` is the backing file where the command line names one.
    fn open<H: HostNames>(
        self,
        host: &H,
        cow: &Path,
        backing: Option<&Path>,
    ) -> Result<LinuxUbd<H::File>, LinuxOpenError> {
        let spec = OpenSpec {
            kernel: self.kernel,
            pipe_capacity: self.pipe.requests(),
            ..OpenSpec::default()
        };
        bring_up(host, cow, backing, &spec, self.defects)
    }
}

/// Closes a device that a kernel is to open. If its specification names the backing file, its
/// name: that of the file that `ordered` has found to be the right one, as the header has it. A
/// kernel that is given another name writes it there.
///
/// # Errors
/// That it is a raw disk, or why it cannot be closed.
pub(crate) fn left_to_a_kernel<F: HostFile>(
    spec: &DeviceSpec,
    device: Ordered<F>,
) -> Result<Option<PathBuf>, SessionError> {
    let path = &spec.file;
    let Some(image) = device.image() else {
        return Err(SessionError::ModelOfRawDisk { path: path.clone() });
    };
    let named = spec.backing.as_ref();
    let named = named.map(|_| backing_path(path, &image.header));
    // Its lock has to go first.
    device.close().map_err(|error| SessionError::Close {
        path: path.clone(),
        error: error.to_string(),
    })?;
    Ok(named)
}

impl<H: HostNames> BringsUp<H> for Model {
    type Driver = LinuxUbd<H::File>;

    fn take_over(
        &self,
        host: &H,
        spec: &DeviceSpec,
        device: Ordered<H::File>,
    ) -> Result<LinuxUbd<H::File>, SessionError> {
        let path = &spec.file;
        let named = left_to_a_kernel(spec, device)?;
        let opened = self.open(host, path, named.as_deref());
        opened.map_err(|error| SessionError::Model {
            path: path.clone(),
            error,
        })
    }

    fn reopen(
        &self,
        host: &H,
        spec: &DeviceSpec,
        options: OpenOptions,
    ) -> Result<Result<Reopened<LinuxUbd<H::File>>, String>, SessionError> {
        // Whether the header is still one, and whose, is asked of the right driver.
        let device = match open(host, spec, options) {
            Ok(opened) => opened.device,
            Err(error) if error.is_about_content() => return Ok(Err(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        match self.take_over(host, spec, device) {
            Ok(driver) => Ok(Ok(Reopened {
                driver,
                interrupted: false,
            })),
            Err(SessionError::Model { path, error }) if error.is_about_content() => {
                Ok(Err(SessionError::Model { path, error }.to_string()))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use driver::host::{Access, HostFile, Replace};
    use driver::memory::{MemoryFile, MemoryHost};
    use driver::open::{OpenError, create};
    use driver::units::FileOffset;

    use super::*;

    fn reopened(
        host: &MemoryHost,
    ) -> Result<Result<Reopened<LinuxUbd<MemoryFile>>, String>, SessionError> {
        let model = Model {
            kernel: Kernel::Linux6_12,
            defects: Defects::none(),
            pipe: Pipe::Real,
        };
        model.reopen(host, &DeviceSpec::of("cow"), OpenOptions::default())
    }

    #[test]
    fn the_real_pipe_takes_all_requests_that_may_be_in_flight_and_the_small_one_does_not() {
        let in_flight = driver::blk::Limits::LINUX_6_12.queue_depth;
        assert!(Pipe::Real.requests() >= in_flight);
        assert!(Pipe::Small.requests() < in_flight);
        assert_eq!(Pipe::for_named(Defects::none()), Pipe::Real);
    }

    #[test]
    fn what_the_host_or_others_do_is_not_held_against_a_model_when_it_is_reopened() {
        let host = MemoryHost::new();
        host.file("disk", &[1; 4096]);
        drop(create(&host, Path::new("cow"), Path::new("disk"), Some(4096)).unwrap());
        assert!(matches!(reopened(&host), Ok(Ok(_))));
        // Somebody else has it.
        let opened = open(&host, &DeviceSpec::of("cow"), OpenOptions::default()).unwrap();
        let error = reopened(&host).err();
        assert!(
            matches!(error, Some(SessionError::Open(OpenError::Locked { .. }))),
            "{error:?}"
        );
        drop(opened);
        // It has gone.
        let [disk, elsewhere] = ["disk", "elsewhere"].map(Path::new);
        host.rename(disk, elsewhere, Replace::Nothing).unwrap();
        let error = reopened(&host).err();
        assert!(
            matches!(error, Some(SessionError::Open(OpenError::Host { .. }))),
            "{error:?}"
        );
        host.rename(elsewhere, disk, Replace::Nothing).unwrap();
        // What the file holds is the model's own.
        let cow = host.open(Path::new("cow"), Access::ReadWrite).unwrap();
        cow.write_all_at(&[0; 8], FileOffset(0)).unwrap();
        drop(cow);
        assert!(matches!(reopened(&host), Ok(Err(_))));
    }
}
