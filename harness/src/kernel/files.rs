//! A case's files in the directory that is mounted, and what is asked of them in the case's words.
//! A case calls its directory `/disk`; where it is mounted it has another name, which the kernel
//! reads in headers and writes into them.

use std::ffi::OsString;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driver::host::{HostResult, OperationKind};
use driver::units::{Bytes, FileOffset};

use crate::fuzz::build::{Built, build, modify};
use crate::fuzz::case::{BackingFile, Case};
use crate::fuzz::paths::{BACKING, BACKING_SECONDS, COW, OTHER_BACKING};
use crate::fuzz::recorded::HostRecord;
use crate::mount::Answered;
use crate::plain_format::{Header, Version};
use crate::sim::tree::{Attributes, EntryName, Moment, NewNode, ROOT, Tree, TreeChange};
use crate::sim::{FaultRule, FileContent, FileMatch};

use super::CannotFuzz;
use super::device_argument::DeviceArgument;

/// The COW file's name in it.
pub(super) const COW_NAME: &str = "cow";

/// The directory of a case's files.
const DIRECTORY: &str = "/disk";

/// The most bytes that are written in one go.
const PIECE: u64 = 1 << 20;

const NANOSECONDS: i64 = 1_000_000_000;

/// The mounted directory.
#[derive(Clone, Debug)]
pub(super) struct Place(pub(super) PathBuf);

impl Place {
    /// The directory as it is when the first life of a case begins.
    pub(super) fn tree(&self, case: &Case) -> HostResult<Tree> {
        let Built { host, .. } = build(case);
        let mut making = Making {
            tree: Tree::new(case.assumptions),
            changes: 0,
        };
        let modified_by = match case.lives.first().map(|life| life.backing) {
            Some(BackingFile::Modified { seconds }) if !case.image.missing => Some(seconds),
            _ => None,
        };
        for path in host.paths() {
            let Some(mut content) = host.content(&path) else {
                continue;
            };
            let mut seconds = host.modified_seconds(&path).unwrap_or(BACKING_SECONDS);
            let is_cow = path == Path::new(COW);
            if is_cow {
                self.name_in_header(&mut content);
            }
            if let (false, Some(later)) = (is_cow, modified_by) {
                modify(&mut content);
                seconds = BACKING_SECONDS.saturating_add(later);
            }
            if let Some(name) = path.file_name() {
                making.file(name.to_owned(), &content, seconds)?;
            }
        }
        making.carry_out(&TreeChange::Settle)?;
        Ok(making.tree)
    }

    /// How the kernel is told of the device.
    pub(super) fn named(&self, case: &Case) -> Result<DeviceArgument, CannotFuzz> {
        let switched = case.lives.first().map(|life| life.backing) == Some(BackingFile::Switched);
        let backing = match switched {
            true => OTHER_BACKING,
            false => BACKING,
        };
        let names_backing = switched || case.image.missing || !case.kernel.cow_alone;
        let backing = names_backing.then(|| self.mounted(Path::new(backing)));
        DeviceArgument::of(&self.mounted(Path::new(COW)), backing.as_deref())
    }

    /// Rules about the files of a case, as rules about those that are mounted.
    pub(super) fn rules(&self, rules: &[FaultRule]) -> Vec<FaultRule> {
        let rules = rules.iter().cloned().map(|mut rule| {
            if let FileMatch::Path(path) = &mut rule.file
                && let Ok(within) = path.strip_prefix(DIRECTORY)
            {
                *path = within.to_owned();
            }
            rule
        });
        rules.collect()
    }

    /// What was asked for, as a recording has it. `tree` is as it is after that.
    pub(super) fn record(&self, tree: &Tree, answered: Answered) -> HostRecord {
        let created = match &answered.change {
            Some(TreeChange::Create { name, .. } | TreeChange::Remove(name)) => Some(&name.name),
            _ => None,
        };
        let walked = || tree.walk().into_iter();
        let node = answered.node;
        let path = match created {
            Some(name) => PathBuf::from(name),
            None => {
                let found = walked().find(|(_, it)| Some(*it) == node);
                found.map(|(path, _)| path).unwrap_or_default()
            }
        };
        let path = Path::new(DIRECTORY).join(path);
        let (mut data, mut done) = (None, 0);
        match &answered.change {
            Some(TreeChange::Write {
                at, data: bytes, ..
            }) => {
                let mut bytes = bytes.to_vec();
                if path == Path::new(COW) && *at == FileOffset(0) {
                    self.rename(&mut bytes, &self.0, Path::new(DIRECTORY));
                }
                done = bytes.len() as u64;
                data = Some(HostRecord::encoded(&bytes));
            }
            Some(change) => done = change.range().map_or(0, |range| range.len.0),
            None if answered.kind == OperationKind::Read => done = answered.read,
            None => {}
        }
        HostRecord {
            kind: answered.kind.name().to_owned(),
            path: path.to_string_lossy().into_owned(),
            at: answered.range.start.0,
            len: answered.range.len.0,
            done,
            data,
            errno: answered.errno,
        }
    }

    /// A path of a case, where it is mounted.
    fn mounted(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(DIRECTORY) {
            Ok(within) => self.0.join(within),
            Err(_) => path.to_owned(),
        }
    }

    /// Lets the header of a COW file name its backing file where that is mounted.
    fn name_in_header(&self, cow: &mut FileContent) {
        let mut front = vec![0; longest_header()];
        let len = cow.read_at(&mut front, FileOffset(0));
        front.truncate(len);
        let before = front.clone();
        self.rename(&mut front, Path::new(DIRECTORY), &self.0);
        if front != before {
            cow.write_at(&front, FileOffset(0));
        }
    }

    /// Replaces the directory of the path in a header, if there is one and it is in that directory.
    fn rename(&self, header: &mut [u8], from: &Path, to: &Path) {
        let Some(field) = path_field(header).and_then(|field| header.get_mut(field)) else {
            return;
        };
        let end = field
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(field.len());
        let path = String::from_utf8_lossy(&field[..end]).into_owned();
        let Ok(within) = Path::new(&path).strip_prefix(from) else {
            return;
        };
        let path = to.join(within).into_os_string().into_encoded_bytes();
        if path.len() < field.len() {
            field.fill(0);
            field[..path.len()].copy_from_slice(&path);
        }
    }
}

fn longest_header() -> usize {
    let all = Version::ALL.into_iter();
    all.map(|version| version.fields().header_len as usize)
        .max()
        .unwrap_or(0)
}

/// Where a header has the path of the backing file. Its other fields may be wrong.
fn path_field(header: &[u8]) -> Option<Range<usize>> {
    let (version, _) = Header::version_of(header).ok()?;
    let fields = version.fields();
    let start = fields.path as usize;
    Some(start..start + fields.path_len as usize)
}

/// A directory that is being made.
struct Making {
    tree: Tree,
    changes: u64,
}

impl Making {
    fn carry_out(&mut self, change: &TreeChange) -> HostResult<()> {
        self.tree
            .carry_out(self.changes, Moment::default(), change)?;
        self.changes += 1;
        Ok(())
    }

    fn file(&mut self, name: OsString, content: &FileContent, seconds: i64) -> HostResult<()> {
        let file = self.tree.next_number();
        let mode = Some(0o600);
        let attributes = Attributes {
            mode,
            user: Some(rustix::process::geteuid().as_raw()),
            group: Some(rustix::process::getegid().as_raw()),
            ..Attributes::default()
        };
        let directory = ROOT;
        self.carry_out(&TreeChange::Create {
            name: EntryName { directory, name },
            node: file,
            what: NewNode::File,
            attributes,
        })?;
        let mut at = FileOffset(0);
        while let Some(piece) = content.next_data_up_to(at, Bytes(PIECE)) {
            let mut data = vec![0; piece.len.0 as usize];
            content.read_at(&mut data, piece.start);
            let data: Arc<[u8]> = data.into();
            self.carry_out(&TreeChange::Write {
                file,
                at: piece.start,
                data,
            })?;
            at = piece.end();
        }
        let len = content.length();
        self.carry_out(&TreeChange::SetLen { file, len })?;
        let attributes = Attributes {
            modified: Some(Moment(seconds.saturating_mul(NANOSECONDS))),
            ..Attributes::default()
        };
        self.carry_out(&TreeChange::SetAttributes {
            node: file,
            attributes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::case::DriverName;
    use crate::fuzz::case::{Image, ImageVersion};
    use crate::fuzz::generate::{Subject, generate};

    #[test]
    fn a_header_names_the_file_where_it_is_mounted_and_nothing_else_is_changed() {
        let place = Place("/tmp/somewhere/else/disk".into());
        let mut case = generate(1, &Subject::healthy(DriverName::Linux612));
        let versions = [
            ImageVersion::V1,
            ImageVersion::V2,
            ImageVersion::V3,
            ImageVersion::V3Wide,
        ];
        for version in versions {
            case.image = Image::sound(100, version, 4096);
            let tree = place.tree(&case).unwrap();
            let file = tree.lookup(ROOT, "cow".as_ref()).unwrap();
            let mut bytes = tree.content(file).unwrap().to_bytes();
            let path = b"/tmp/somewhere/else/disk/backing\0";
            assert!(
                bytes.windows(path.len()).any(|at| at == path),
                "{version:?}"
            );
            place.rename(&mut bytes, &place.0, Path::new(DIRECTORY));
            assert_eq!(bytes, build(&case).host.content(COW).unwrap().to_bytes());
        }
    }
}
