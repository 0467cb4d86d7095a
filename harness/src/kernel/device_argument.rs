//! The names of a device's files, as User-Mode Linux is told them. It splits them at commas and
//! colons, and there is no way to quote these: so a name that has one cannot be told.

use std::path::Path;

use super::CannotFuzz;

/// The device, as the management console calls it. The first one is there from the start, as the
/// root, whether it has a file or not.
pub(super) const NAME: &str = "ubdb";

/// Where User-Mode Linux ends the name of a file.
const ENDS_A_NAME: [char; 2] = [',', ':'];

/// What ends a word of the kernel's command line, or quotes a part of it.
const ENDS_A_WORD: [char; 5] = [' ', '\t', '\n', '\r', '"'];

/// The longest text of a question to the management console, in bytes.
pub(super) const LONGEST: usize = 511;

/// What the management console is asked to make a device of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceArgument(String);

impl DeviceArgument {
    /// A device of these files.
    ///
    /// # Errors
    /// [`CannotFuzz::Path`], if the kernel would take them for others.
    pub fn of(cow: &Path, backing: Option<&Path>) -> Result<DeviceArgument, CannotFuzz> {
        let mut argument = format!("config {NAME}={}", told_whole(cow, &ENDS_A_NAME)?);
        if let Some(backing) = backing {
            argument = argument + "," + told_whole(backing, &ENDS_A_NAME)?;
        }
        match argument.len() {
            ..=LONGEST => Ok(DeviceArgument(argument)),
            found => Err(CannotFuzz::Path {
                path: cow.to_owned(),
                what: format!(
                    "found {found} bytes of a command that names the device's files by these \
                     paths, expected at most {LONGEST}"
                ),
            }),
        }
    }

    /// As the console is told.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A path of the kernel's command line.
///
/// # Errors
/// [`CannotFuzz::Path`], if the kernel would take it for another.
pub(super) fn of_command_line(path: &Path) -> Result<&str, CannotFuzz> {
    told_whole(path, &ENDS_A_WORD)
}

fn told_whole<'a>(path: &'a Path, endings: &[char]) -> Result<&'a str, CannotFuzz> {
    let wrong = |found: String| CannotFuzz::Path {
        path: path.to_owned(),
        what: format!("found {found} in the path, where User-Mode Linux ends it"),
    };
    let Some(text) = path.to_str() else {
        return Err(CannotFuzz::Path {
            path: path.to_owned(),
            what: "found bytes in the path that are not UTF-8".to_owned(),
        });
    };
    match text.chars().find(|it| endings.contains(it)) {
        Some(found) => Err(wrong(format!("{found:?}"))),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_would_take_for_other_files_is_refused() {
        let argument = |cow: &str, backing: Option<&str>| {
            let argument = DeviceArgument::of(Path::new(cow), backing.map(Path::new));
            argument.map_err(|error| error.to_string())
        };
        let told = |text: &str| Ok(DeviceArgument(text.to_owned()));
        assert_eq!(argument("/a b/c", None), told("config ubdb=/a b/c"));
        assert_eq!(argument("/c", Some("/b")), told("config ubdb=/c,/b"));
        for (cow, backing, part) in [
            ("/t,2/c", None, "/t,2/c: found ',' in the path"),
            ("/c", Some("/a:b/d"), "/a:b/d: found ':' in the path"),
        ] {
            let error = argument(cow, backing).unwrap_err();
            assert!(error.starts_with(part), "{error}");
        }
        // One byte more is too much.
        let longest = "/".repeat(LONGEST - "config ubdb=".len());
        assert!(argument(&longest, None).is_ok());
        let error = argument(&(longest + "/"), None).unwrap_err();
        assert!(error.contains("found 512 bytes"), "{error}");
    }
}
