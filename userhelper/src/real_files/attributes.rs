//! Extended attributes, which belong to a file as its owner and mode do: labels that say who may
//! open it, and what its user noted.

use std::collections::BTreeMap;
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

    pub(super) fn value(self, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Source::Path(path) => rustix::fs::getxattr(path, name, value),
            Source::File(file) => rustix::fs::fgetxattr(file, name, value),
        }
    }
}

/// An attribute of an inode, and the letter that `chattr` has for it.
pub(super) type Flag = (IFlags, char);

/// What rustix has no name for: `FS_NOCOMP_FL`, `FS_DAX_FL`.
const NOT_COMPRESSED: IFlags = IFlags::from_bits_retain(0x400);
const DIRECT_ACCESS: IFlags = IFlags::from_bits_retain(0x0200_0000);

/// What says how the data is stored. btrfs takes C of an empty file only, and shares extents
/// only between two files that both have it or both lack it. c and m hold for what is written
/// later.
pub(super) const OF_STORAGE: [Flag; 4] = [
    (IFlags::NOCOW, 'C'),
    (IFlags::COMPRESSED, 'c'),
    (NOT_COMPRESSED, 'm'),
    (DIRECT_ACCESS, 'x'),
];

/// What a file with content takes too. S and j would only make writing the content slow.
pub(super) const OF_USE: [Flag; 6] = [
    (IFlags::NOATIME, 'A'),
    (IFlags::NODUMP, 'd'),
    (IFlags::JOURNALING, 'j'),
    (IFlags::SYNC, 'S'),
    (IFlags::SECURE_REMOVAL, 's'),
    (IFlags::UNRM, 'u'),
];

/// Gives `to` those inode's attributes of `from`, as far as the file system and this user's rights
/// allow; what `to` has from its directory and `from` has not goes. None of them says who may open
/// the file.
pub(super) fn copy_inode_flags(from: &File, to: &File, flags: &[Flag]) {
    let (Ok(wanted), Ok(mut has)) = (ioctl_getflags(from), ioctl_getflags(to)) else {
        return;
    };
    // One by one: what cannot be set keeps none of the others from it.
    for &(flag, _) in flags {
        let changed = has.difference(flag) | wanted.intersection(flag);
        if changed != has && ioctl_setflags(to, changed).is_ok() {
            has = changed;
        }
    }
}

/// Gives `to` the extended attributes of `from`, but for the access control list.
///
/// # Errors
/// The host's, for an attribute that the user has given. What only the system or a privileged
/// user sets goes along as far as this user's rights allow.
pub(super) fn copy_attributes(from: Source<'_>, to: &File) -> HostResult<()> {
    let mut value = vec![0; LONGEST];
    for name in names(from).map_err(host_error)? {
        let flags = XattrFlags::empty();
        let copied = from
            .value(&name, &mut value)
            .and_then(|len| rustix::fs::fsetxattr(to, &*name, &value[..len], flags));
        match copied {
            // Taken away meanwhile.
            Ok(()) | Err(Errno::NODATA) => {}
            Err(errno) if name.to_bytes().starts_with(b"user.") => return Err(host_error(errno)),
            Err(_) => {}
        }
    }
    Ok(())
}

/// The extended attributes that can be read, with their values, but for the access control list
/// and what the kernel computes.
pub(super) fn all(of: Source<'_>) -> BTreeMap<CString, Vec<u8>> {
    let mut value = vec![0; LONGEST];
    let names = names(of).unwrap_or_default().into_iter();
    let with_values = names.filter_map(|name| {
        let len = of.value(&name, &mut value).ok()?;
        Some((name, value[..len].to_vec()))
    });
    with_values.collect()
}

fn names(of: Source<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = vec![0; LONGEST];
    let len = match of.names(&mut names) {
        Ok(len) => len,
        // The file system has none.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(errno) => return Err(errno),
    };
    let names = names[..len].split(|&byte| byte == 0);
    let copied = names.filter(|&name| {
        !name.is_empty() && !COMPUTED.contains(&name) && name != ACCESS_LIST.to_bytes()
    });
    Ok(copied.filter_map(|name| CString::new(name).ok()).collect())
}
