//! The device specification of UML's command line.
use crate::units::Bytes;
use std::path::PathBuf;
/// stub
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    /// stub
    pub index: u8,
    /// stub
    pub read_only: bool,
    /// stub
    pub synchronous: bool,
    /// stub
    pub shared: bool,
    /// stub
    pub data: bool,
    /// stub
    pub file: PathBuf,
    /// stub
    pub backing: Option<PathBuf>,
    /// stub
    pub size: Option<Bytes>,
}
