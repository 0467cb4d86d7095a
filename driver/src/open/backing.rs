//! Opening, checking and switching the backing file. Its path may come out of the header, and so
//! from anybody: [`super::named`] says how far it is followed, and what is there has to be a
//! regular file or a block device that is not the COW file itself.

use std::path::{Path, PathBuf};

use crate::cow::{Extension, Header};
use crate::device_spec::DeviceSpec;
use crate::host::{Access, HostFile, HostNames, HostResult, LockKind, OperationKind};
use crate::name_backing::{NotNamed, name_backing};
use crate::ordered::{CowImage, Ordered};

use super::expected::{self, ExpectedBacking};
use super::named::{NamedBacking, Trust, Unfollowed, resolve};
use super::{Held, ImageFormat, Instead, OpenError, OpenOptions, Role, failed, host};

const HALF_SWITCHED: &str =
    "switching the backing file, which `ubdlab image recover` has to finish now";

/// Opens the backing file of a COW file, checks it, and switches to another if asked.
pub(super) fn open<N: HostNames>(
    names: &N,
    spec: &DeviceSpec,
    options: OpenOptions,
    cow: &N::File,
    header: &mut Header,
    extension: Option<Extension>,
) -> Result<Held<N::File>, OpenError> {
    let named = NamedBacking::of(&spec.file, header, options.trust);
    let changing = extension.is_some_and(|extension| extension.change.is_some());
    let (access, lock) = match options.writable_backing {
        true => (Access::ReadWrite, LockKind::Exclusive),
        false => (Access::ReadOnly, LockKind::Shared),
    };
    let asked = spec.backing.as_deref();
    if asked.is_none() && changing && options.trust == Trust::Guessed {
        return Err(named.refused(Unfollowed::Unchecked));
    }
    // The command line is the user's own word.
    let path = asked.unwrap_or(named.path()).to_owned();
    let reach = |access| match asked {
        Some(asked) => open_path(names, asked, access),
        None => named.open(names, access),
    };
    let file = reach(access)?;
    // Before the lock, which the COW file's own would refuse.
    if is_same(names, &path, &file, cow)? {
        return Err(OpenError::BacksItself {
            path: spec.file.clone(),
            backing: path,
        });
    }
    let lock = (!spec.shared).then_some(lock);
    let backing = Held::take_reached(names, &path, file, lock, Role::Backing, reach)?;
    let same = || {
        let found = named.reach(|place| place.open(names, Access::ReadOnly));
        found.is_ok_and(|found| is_file(names, found, backing.file()))
    };
    let switched = path != named.path() && !same();
    let instead = options.instead.filter(|_| asked.is_some());
    if switched && !options.switch_backing && instead.is_none() {
        return Err(OpenError::OtherBacking {
            path: spec.file.clone(),
            found: header.backing_path().to_owned(),
            asked: path,
        });
    }
    let any_time = instead.map_or(switched, |instead| instead == Instead::AnyTime);
    let expected = ExpectedBacking::of(header, extension.as_ref(), any_time);
    expected::check(&expected, &spec.file, &path, &backing)?;
    if switched && !options.backing_is_raw {
        refuse_image(&path, backing.file())?;
    }
    if switched && instead.is_none() {
        let named = name_for_header(names, &spec.file, &path, backing.file())?;
        switch(cow, spec, header, &named, backing.mtime())?;
    }
    Ok(backing)
}

/// Opens and locks the backing file of a COW file that is open without it, for reading, and checks
/// that it is the one.
///
/// # Errors
/// As of [`super::open`].
pub fn examine_backing<N: HostNames>(
    names: &N,
    spec: &DeviceSpec,
    options: OpenOptions,
    cow: &N::File,
    image: &CowImage,
) -> Result<Held<N::File>, OpenError> {
    let options = OpenOptions {
        switch_backing: false,
        writable_backing: false,
        ..options
    };
    open(
        names,
        spec,
        options,
        cow,
        &mut image.header.clone(),
        image.extension,
    )
}

/// Opens the backing file of an open device once more, for reading, with a lock of its own; `None`
/// where it has none open. Whatever has been done to its name since, it is the file that the
/// device has, and that file was checked.
///
/// # Errors
/// As when the device was opened; [`OpenError::Replaced`] if the name is another file's now.
pub fn reopen_backing<N: HostNames>(
    names: &N,
    spec: &DeviceSpec,
    trust: Trust,
    device: &Ordered<N::File>,
) -> Result<Option<Held<N::File>>, OpenError> {
    let Some((image, opened)) = device.image().zip(device.backing()) else {
        return Ok(None);
    };
    let named = NamedBacking::of(&spec.file, &image.header, trust);
    let asked = spec.backing.as_deref();
    let path = asked.unwrap_or(named.path()).to_owned();
    let reach = |access| match asked {
        Some(asked) => open_path(names, asked, access),
        None => named.open(names, access),
    };
    let again = reach(Access::ReadOnly)?;
    let lock = (!spec.shared).then_some(LockKind::Shared);
    let again = Held::take_reached(names, &path, again, lock, Role::Backing, reach)?;
    match is_same(names, &path, opened, again.file())? {
        true => Ok(Some(again)),
        false => Err(OpenError::Replaced { path }),
    }
}

/// Opens a path that the user has named.
pub(super) fn open_path<N: HostNames>(
    names: &N,
    path: &Path,
    access: Access,
) -> Result<N::File, OpenError> {
    names
        .open(path, access)
        .map_err(host(path, OperationKind::Open, "opening the backing file"))
}

/// Refuses a backing file that begins like an image, and that nobody says is a raw disk.
pub(super) fn refuse_image<F: HostFile>(path: &Path, file: &F) -> Result<(), OpenError> {
    let format = ImageFormat::of(file).map_err(failed(path, "reading the backing file"))?;
    match format {
        None => Ok(()),
        Some(format) => Err(OpenError::BackingIsImage {
            path: path.to_owned(),
            format,
        }),
    }
}

fn is_same<N: HostNames>(
    names: &N,
    path: &Path,
    one: &N::File,
    other: &N::File,
) -> Result<bool, OpenError> {
    let same = names.is_same_file(one, other);
    same.map_err(host(
        path,
        OperationKind::Metadata,
        "examining the backing file",
    ))
}

/// What to write into the header so that [`resolve`] finds `backing`, a path as the process
/// has it and by which `file` was opened: absolute as it is, relative from the COW file's
/// directory. Checked by looking.
///
/// # Errors
/// If there is no such path without asking the host where the process is.
pub(super) fn name_for_header<N: HostNames>(
    names: &N,
    cow: &Path,
    backing: &Path,
    file: &N::File,
) -> Result<PathBuf, OpenError> {
    let directory = cow.parent().unwrap_or(Path::new(""));
    let name = match backing.strip_prefix(directory) {
        _ if backing.is_absolute() => backing.to_owned(),
        Ok(below) => below.to_owned(),
        Err(_) => {
            let up = directory.components().map(|_| "..");
            up.collect::<PathBuf>().join(backing)
        }
    };
    // The path is the user's own, not a header's yet.
    let found = names.open(&resolve(cow, &name), Access::ReadOnly);
    if is_file(names, found, file) {
        return Ok(name);
    }
    Err(OpenError::NotFromThere {
        path: cow.to_owned(),
        backing: backing.to_owned(),
    })
}

fn is_file<N: HostNames>(names: &N, found: HostResult<N::File>, file: &N::File) -> bool {
    found.is_ok_and(|found| names.is_same_file(&found, file).unwrap_or(false))
}

/// Writes another backing file's name and time into the header. If the power goes in the middle,
/// asking for a switch again completes it, and so does a recovery.
fn switch<F: HostFile>(
    cow: &F,
    spec: &DeviceSpec,
    header: &mut Header,
    path: &Path,
    mtime: u32,
) -> Result<(), OpenError> {
    let named = header.with_backing(path, mtime);
    *header = named.map_err(|error| not_named(&spec.file, NotNamed::Header(error)))?;
    name_backing(cow, path, mtime).map_err(|error| not_named(&spec.file, error))
}

/// What to say of the COW file at `cow` whose header was not changed.
pub(super) fn not_named(cow: &Path, not_named: NotNamed) -> OpenError {
    match not_named {
        NotNamed::Header(error) => OpenError::Header {
            path: cow.to_owned(),
            error,
        },
        NotNamed::Host { failed: why, .. } => failed(cow, "switching the backing file")(why),
        NotNamed::HalfDone { failed: why, .. } => failed(cow, HALF_SWITCHED)(why),
    }
}
