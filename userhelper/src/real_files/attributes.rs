//! Extended attributes, which belong to a file as its owner and mode do: labels that say who may
//! open it, and what its user noted.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::path::Path;

use driver::host::HostResult;
use rustix::fs::{IFlags, XattrFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

use super::errors::host_error;

/// Linux keeps no longer list of names, and no longer value.
const LONGEST: usize = 64 << 10;

/// The access control list. It says more about group and others than the mode does, and goes with
/// the mode.
pub(super) const ACCESS_LIST: &CStr = c"system.posix_acl_access";

/// What the kernel computes from the content or the inode: a copy of it would be wrong.
const COMPUTED: [&[u8]; 2] = [b"security.ima", b"security.evm"];

/// Where attributes come from: a file that need not be readable, or an open one.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    Path(&'a Path),
    File(&'a File),
}

impl Source<'_> {
    fn names(self, list: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Source::Path(path) => rustix::fs::listxattr(path, list),
            Source::File(file) => rustix::fs::flistxattr(file, list),
        }
    }

    fn value(self, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Source::Path(path) => rustix::fs::getxattr(path, name, value),
            Source::File(file) => rustix::fs::fgetxattr(file, name, value),
        }
    }
}

/// Attributes of an inode (`chattr`) that its owner may set, of a file with content too.
const SETTABLE: [IFlags; 5] = [
    IFlags::NOATIME,
    IFlags::NODUMP,
    IFlags::SYNC,
    IFlags::COMPRESSED,
    IFlags::JOURNALING,
];

/// Gives `to` the inode's attributes of `from`, as far as the file system and this user's rights
/// allow. None of them says who may open the file.
pub(super) fn copy_inode_flags(from: &File, to: &File) {
    let (Ok(wanted), Ok(mut has)) = (ioctl_getflags(from), ioctl_getflags(to)) else {
        return;
    };
    // One by one: what cannot be set keeps none of the others from it.
    for flag in SETTABLE {
        if wanted.contains(flag) && !has.contains(flag) && ioctl_setflags(to, has | flag).is_ok() {
            has |= flag;
        }
    }
}

/// Gives `to` the extended attributes of `from`, but for the access control list.
///
/// # Errors
/// The host's, for an attribute that the user has given. What only the system or a privileged
/// user sets goes along as far as this user's rights allow.
pub(super) fn copy_attributes(from: Source<'_>, to: &File) -> HostResult<()> {
    let mut names = vec![0; LONGEST];
    let len = match from.names(&mut names) {
        Ok(len) => len,
        // The file system has none.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
        Err(errno) => return Err(host_error(errno)),
    };
    names.truncate(len);
    let mut value = vec![0; LONGEST];
    let names = names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty());
    for name in names {
        if COMPUTED.contains(&name) || name == ACCESS_LIST.to_bytes() {
            continue;
        }
        let Ok(c_name) = CString::new(name) else {
            continue;
        };
        let flags = XattrFlags::empty();
        let copied = from
            .value(&c_name, &mut value)
            .and_then(|len| rustix::fs::fsetxattr(to, &*c_name, &value[..len], flags));
        match copied {
            // Taken away meanwhile.
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) if name.starts_with(b"user.") => return Err(host_error(errno)),
            Err(_) => {}
        }
    }
    Ok(())
}
