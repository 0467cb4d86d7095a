//! A device on the command line, as on UML's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use driver::device_spec::{DeviceSpec, DeviceSpecError};
use driver::open::Trust;

/// A specification with paths of any bytes.
pub(super) fn device_spec(text: &OsStr) -> Result<DeviceSpec, String> {
    // What is no text becomes a character of its own: the separators stay, and errors can be shown.
    let parsed = text.to_string_lossy().parse();
    let mut spec: DeviceSpec = parsed.map_err(|error: DeviceSpecError| error.to_string())?;
    let mut parts = text.as_bytes().splitn(2, |&byte| byte == b'=').skip(1);
    let files = parts.next().unwrap_or_default();
    let mut files = files.split(|byte| b",:".contains(byte));
    let mut next = || {
        files
            .next()
            .map(|path| PathBuf::from(OsStr::from_bytes(path)))
    };
    if let Some(file) = next() {
        spec.file = file;
    }
    if spec.backing.is_some() {
        spec.backing = next();
    }
    Ok(spec)
}

/// A specification, or the path of a COW file whose header names the rest. What begins as a
/// specification does, `ubda=` say, is one.
pub(super) fn device_or_path(text: &OsStr) -> Result<DeviceSpec, String> {
    let bytes = text.as_bytes();
    let equals = bytes.iter().position(|&byte| byte == b'=');
    let name = &bytes[..equals.unwrap_or(0)];
    let is_spec = name.starts_with(b"ubd") && name.iter().all(u8::is_ascii_alphanumeric);
    match (is_spec, bytes) {
        (true, _) => device_spec(text),
        (false, b"") => Err("found nothing, expected ubda=COW[,BACKING[,SIZE]] or a path".into()),
        (false, _) => Ok(DeviceSpec::of(PathBuf::from(text))),
    }
}

/// How far the path in a header is followed, as `--confine-backing` says.
pub(super) fn followed(confine_backing: bool) -> Trust {
    match confine_backing {
        true => Trust::Confine,
        false => Trust::Follow,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_device_and_what_begins_as_a_specification_is_one() {
        let device = |text: &str| device_or_path(OsStr::new(text));
        assert_eq!(device("root.cow"), Ok(DeviceSpec::of("root.cow")));
        assert_eq!(device("/a=b/root.cow"), Ok(DeviceSpec::of("/a=b/root.cow")));
        assert!(device("ubdar=root.cow").unwrap().read_only);
        assert!(device("ubdz=root.cow").is_err());
        assert!(device("").is_err());
    }
}
