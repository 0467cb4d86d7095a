//! How a replay comes by the driver of a running kernel.

use std::path::Path;

use driver::device_spec::DeviceSpec;
use driver::exact_count;
use driver::open::{OpenOptions, open};
use driver::ordered::Ordered;
use userhelper::real_files::{RealFile, RealHost};

use crate::replay::{BringsUp, Reopened, SessionError, left_to_a_kernel};

use super::CannotFuzz;
use super::case::is_one_word;
use super::laboratory::Programs;
use super::running::Kit;
use super::ubd::{KernelUbd, NotUp};

/// A kernel to be booted, once for each time that the device is opened.
#[derive(Debug)]
pub struct RealKernel {
    kit: Kit,
}

impl RealKernel {
    /// What it takes, put together in `directory`.
    ///
    /// # Errors
    /// What is missing.
    pub fn made_in(directory: &Path, programs: &Programs) -> Result<RealKernel, CannotFuzz> {
        let Programs {
            kernel,
            ubdlab,
            blkdiscard,
        } = programs;
        let kit = Kit::make(directory, kernel, ubdlab, blkdiscard)?;
        Ok(RealKernel { kit })
    }

    fn boot(
        &self,
        spec: &DeviceSpec,
        device: Ordered<RealFile>,
    ) -> Result<Result<KernelUbd, String>, SessionError> {
        // A raw disk has no bitmap, and is refused below.
        let geometry = device.geometry();
        if geometry.is_some_and(|geometry| is_one_word(geometry.bitmap_len.0)) {
            return Err(SessionError::Kernel(format!(
                "{}: found a device of {} whose bitmap is one word, expected a larger one: the \
                 first write to it hangs the kernel (defect one-word-underflow)",
                driver::shown(&spec.file),
                exact_count(device.capacity().0, "sector")
            )));
        }
        let backing = left_to_a_kernel(spec, device)?;
        match KernelUbd::boot(&self.kit, &spec.file, backing.as_deref()) {
            Ok(ubd) => Ok(Ok(ubd)),
            Err(NotUp::Refused(why)) => Ok(Err(why)),
            Err(NotUp::Cannot(error)) => Err(SessionError::Kernel(error.to_string())),
        }
    }
}

impl BringsUp<RealHost> for RealKernel {
    type Driver = KernelUbd;

    fn take_over(
        &self,
        _: &RealHost,
        spec: &DeviceSpec,
        device: Ordered<RealFile>,
    ) -> Result<KernelUbd, SessionError> {
        self.boot(spec, device)?.map_err(SessionError::Kernel)
    }

    fn reopen(
        &self,
        host: &RealHost,
        spec: &DeviceSpec,
        options: OpenOptions,
    ) -> Result<Result<Reopened<KernelUbd>, String>, SessionError> {
        // Whether the header is still one, and whose, is asked of the right driver.
        let device = match open(host, spec, options) {
            Ok(opened) => opened.device,
            Err(error) if error.is_about_content() => return Ok(Err(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let booted = self.boot(spec, device)?;
        Ok(booted.map(|driver| Reopened {
            driver,
            interrupted: false,
        }))
    }
}
