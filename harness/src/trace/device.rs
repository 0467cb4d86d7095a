//! Which block device a request of a trace went to, in the words of its format, and which of
//! several is meant.

use std::fmt;
use std::str::FromStr;

use driver::OneLine;

/// The kernel's number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// The device among the driver's.
    pub minor: u32,
}

impl DeviceNumber {
    /// As blktrace packs it: twelve bits of major above twenty of minor.
    pub(super) const fn unpack(packed: u32) -> DeviceNumber {
        DeviceNumber {
            major: packed >> 20,
            minor: packed & 0xf_ffff,
        }
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.major, self.minor)
    }
}

/// `8,0` as in the trace, or `8:0` as lsblk prints it.
impl FromStr for DeviceNumber {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceNumber, String> {
        let parse = || {
            let (major, minor) = text.split_once([',', ':'])?;
            Some(DeviceNumber {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            })
        };
        parse().ok_or_else(|| format!("\"{text}\" is not a device number such as 8,0"))
    }
}

/// A device as a trace names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// The kernel's number: blktrace, blkparse and ftrace.
    Number(DeviceNumber),
    /// A number of the recorder's: a LUN, or a volume of a cloud.
    Id(u64),
    /// A name: fio's file, or MSR Cambridge's `host.disk`.
    Name(Box<str>),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Number(number) => f.pad(&number.to_string()),
            Device::Id(id) => f.pad(&id.to_string()),
            // Whoever recorded the trace chose the name.
            Device::Name(name) => f.pad(&OneLine(name).to_string()),
        }
    }
}

/// A device as a user names it: as `trace info` lists it, or `8:0` for `8,0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChoice {
    text: Box<str>,
    number: Option<DeviceNumber>,
    id: Option<u64>,
}

impl DeviceChoice {
    /// Whether `device` is the one.
    pub fn is(&self, device: &Device) -> bool {
        match device {
            Device::Number(number) => self.number == Some(*number),
            Device::Id(id) => self.id == Some(*id),
            Device::Name(name) => self.text == *name,
        }
    }
}

/// This one, whatever is in its name.
impl From<&Device> for DeviceChoice {
    fn from(device: &Device) -> DeviceChoice {
        let (text, number, id) = match device {
            Device::Number(number) => (number.to_string().into(), Some(*number), None),
            Device::Id(id) => (id.to_string().into(), None, Some(*id)),
            Device::Name(name) => (name.clone(), None, None),
        };
        DeviceChoice { text, number, id }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceChoice, String> {
        if text.is_empty() {
            return Err("expected a device such as 8,0, 12 or /dev/sda".to_owned());
        }
        Ok(DeviceChoice {
            text: text.into(),
            number: text.parse().ok(),
            id: text.parse().ok(),
        })
    }
}

/// Requests to which devices are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    /// There has to be one only: a second one is an error, because two devices replayed onto
    /// one would overwrite each other.
    #[default]
    TheOnly,
    /// This one. Of a trace that does not tell devices apart, that is an error.
    Only(DeviceChoice),
    /// All: to list and count them, as far as they are listed.
    All,
    /// All: each is listed, to be read by itself afterwards.
    Each,
}

impl Devices {
    /// The most devices that are listed; requests to others are counted together.
    pub(super) const fn most_listed(&self) -> usize {
        match self {
            Devices::TheOnly | Devices::Only(_) | Devices::All => 1024,
            Devices::Each => MOST_DEVICES,
        }
    }
}

/// The most devices of a trace that are read each by itself. A name is at most a line of 4096
/// bytes.
pub const MOST_DEVICES: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_fits_what_the_formats_have() {
        let choice = |text: &str| text.parse::<DeviceChoice>().unwrap();
        let number = Device::Number(DeviceNumber {
            major: 8,
            minor: 16,
        });
        assert!(choice("8,16").is(&number) && choice("8:16").is(&number));
        assert!(!choice("8,1").is(&number));
        assert!(choice("12").is(&Device::Id(12)) && !choice("12x").is(&Device::Id(12)));
        assert!(choice("/dev/sda").is(&Device::Name("/dev/sda".into())));
        assert_eq!(DeviceNumber::unpack(8 << 20 | 16).to_string(), "8,16");
        assert!("".parse::<DeviceChoice>().is_err());
        for device in [number, Device::Id(12), Device::Name("".into())] {
            assert!(DeviceChoice::from(&device).is(&device));
        }
    }
}
