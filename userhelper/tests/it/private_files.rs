//! What a tool makes is its owner's alone until it is complete. It is looked at before and after
//! every operation on a new file: a kill there would leave it like that.

use std::cell::RefCell;
use std::fs::{self, Permissions};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use driver::cow::{Geometry, Header, Version};
use driver::device_spec::DeviceSpec;
use driver::host::{Access, HostFile, HostNames, HostResult, LockKind, Metadata, Replace};
use driver::open::{OpenOptions, open, temporary_name};
use driver::units::{Bytes, FileOffset, FileRange};
use userhelper::image::ImageError;
use userhelper::image::convert::{CowVersion, to_cow, to_raw};
use userhelper::image::create::create;
use userhelper::image::merge::{in_place, open_both};
use userhelper::image::open::{Format, Trust, close, open_image};
use userhelper::image::resize::{carry_out, open_for_resize, plan_resize};
use userhelper::image_host::{FreeSpace, ImageHost};
use userhelper::planner::{Shrink, Wish};
use userhelper::real_files::{RealFile, RealHost};

const SIZE: u64 = 64 << 10;

/// The real host, which looks at the modes of new files.
#[derive(Clone, Default)]
struct Watching {
    /// Of new files, until they have their names: each mode that they were seen with.
    seen: Rc<RefCell<Vec<u32>>>,
}

struct Watched {
    file: RealFile,
    /// Of a new file: its temporary name, and where to note its mode.
    new: Option<(PathBuf, Watching)>,
}

impl Watching {
    fn watched(&self, file: RealFile) -> Watched {
        Watched { file, new: None }
    }

    fn look(&self, path: &Path) {
        // Once it has been renamed it is complete.
        if let Ok(metadata) = fs::metadata(path) {
            self.seen.borrow_mut().push(metadata.mode() & 0o7777);
        }
    }
}

impl Watched {
    /// Carries out an operation on the content, at which the file has to be private.
    fn content<T>(&self, operation: impl FnOnce(&RealFile) -> HostResult<T>) -> HostResult<T> {
        let look = || {
            if let Some((path, host)) = &self.new {
                host.look(path);
            }
        };
        look();
        let result = operation(&self.file);
        look();
        result
    }
}

impl HostFile for Watched {
    fn read_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<usize> {
        self.file.read_at(buffer, at)
    }
    fn write_at(&self, data: &[u8], at: FileOffset) -> HostResult<usize> {
        self.content(|file| file.write_at(data, at))
    }
    fn sync_data(&self) -> HostResult<()> {
        self.file.sync_data()
    }
    fn len(&self) -> HostResult<Bytes> {
        self.file.len()
    }
    fn set_len(&self, len: Bytes) -> HostResult<()> {
        self.content(|file| file.set_len(len))
    }
    fn punch_hole(&self, range: FileRange) -> HostResult<()> {
        self.content(|file| file.punch_hole(range))
    }
    fn zero_range(&self, range: FileRange) -> HostResult<()> {
        self.content(|file| file.zero_range(range))
    }
    fn next_data(&self, from: FileOffset) -> HostResult<Option<FileRange>> {
        self.file.next_data(from)
    }
    fn clone_range(&self, source: &Self, from: FileRange, to: FileOffset) -> HostResult<()> {
        self.content(|file| file.clone_range(&source.file, from, to))
    }
}

impl HostNames for Watching {
    type File = Watched;

    fn open(&self, path: &Path, access: Access) -> HostResult<Watched> {
        RealHost.open(path, access).map(|file| self.watched(file))
    }
    fn open_beneath(&self, directory: &Path, path: &Path, access: Access) -> HostResult<Watched> {
        let file = RealHost.open_beneath(directory, path, access)?;
        Ok(self.watched(file))
    }
    fn create_new(&self, path: &Path) -> HostResult<Watched> {
        let file = RealHost.create_new(path)?;
        self.look(path);
        Ok(Watched {
            file,
            new: Some((path.to_owned(), self.clone())),
        })
    }
    fn give_mode(&self, path: &Path, file: &Watched, sources: &[&Watched]) -> HostResult<()> {
        let sources: Vec<_> = sources.iter().map(|source| &source.file).collect();
        RealHost.give_mode(path, &file.file, &sources)
    }
    fn metadata(&self, file: &Watched) -> HostResult<Metadata> {
        RealHost.metadata(&file.file)
    }
    fn copy_attributes(&self, from: &Watched, to: &Watched) -> HostResult<()> {
        RealHost.copy_attributes(&from.file, &to.file)
    }
    fn lock(&self, file: &Watched, kind: LockKind) -> HostResult<()> {
        RealHost.lock(&file.file, kind)
    }
    fn rename(&self, from: &Path, to: &Path, replace: Replace) -> HostResult<()> {
        RealHost.rename(from, to, replace)
    }
    fn remove(&self, path: &Path) -> HostResult<()> {
        RealHost.remove(path)
    }
    fn sync_directory_of(&self, path: &Path) -> HostResult<()> {
        RealHost.sync_directory_of(path)
    }
}

impl ImageHost for Watching {
    fn free_space_beside(&self, path: &Path) -> HostResult<Option<FreeSpace>> {
        RealHost.free_space_beside(path)
    }
    fn set_modified(&self, file: &Watched, seconds: i64) -> HostResult<()> {
        RealHost.set_modified(&file.file, seconds)
    }
    fn sync_all(&self, file: &Watched) -> HostResult<()> {
        RealHost.sync_all(&file.file)
    }
    fn now_ns(&self) -> u64 {
        RealHost.now_ns()
    }
    fn now_seconds(&self) -> i64 {
        RealHost.now_seconds()
    }
    fn wait_until(
        &self,
        seconds: i64,
        goes_on: &mut dyn FnMut() -> std::ops::ControlFlow<()>,
    ) -> std::ops::ControlFlow<()> {
        RealHost.wait_until(seconds, goes_on)
    }
}

/// A directory with `backing`, and over it `cow` with two dirty sectors.
struct Images {
    directory: tempfile::TempDir,
}

impl Images {
    fn new(version: Version) -> Images {
        let directory = tempfile::tempdir().unwrap();
        let images = Images { directory };
        let backing = images.path("backing");
        fs::write(&backing, [7; SIZE as usize]).unwrap();
        let mtime = fs::metadata(&backing).unwrap().mtime() as u32;
        let alignment = if version == Version::V3 { 4096 } else { 512 };
        let mut header = Header::v3(&backing, mtime, Bytes(SIZE), alignment).unwrap();
        header.version = version;
        let geometry = Geometry::of(&header).unwrap();
        let mut cow = header.encode();
        cow.resize(geometry.data_end().0 as usize, 0);
        cow[geometry.bitmap_offset.0 as usize] = 0b110;
        cow[geometry.data_offset.0 as usize + 512..][..1024].fill(9);
        fs::write(images.path("cow"), cow).unwrap();
        images
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).unwrap().mode() & 0o7777
    }

    /// The mode of a file that any program makes here.
    fn usual_mode(&self) -> u32 {
        fs::write(self.path("usual"), "").unwrap();
        self.mode("usual")
    }

    /// Has the tool work on these images, and looks at what it makes meanwhile.
    fn watch<T>(&self, tool: impl FnOnce(&Watching, &Images) -> Result<T, ImageError>) {
        let host = Watching::default();
        tool(&host, self).unwrap();
        let seen = host.seen.take();
        assert!(seen.len() >= 4, "a new file was made: {seen:?}");
        assert!(
            seen.iter().all(|&mode| mode == 0o600),
            "of mode 0600: {seen:?}"
        );
        for name in ["cow", "out"] {
            assert!(!temporary_name(&self.path(name)).exists(), "{name}");
        }
    }
}

/// Something that is done to the images.
type Tool = dyn Fn(&Watching, &Images) -> Result<(), ImageError>;

fn go_on(_: Bytes, _: Bytes) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn rebuild(host: &Watching, images: &Images) -> Result<(), ImageError> {
    let path = images.path("cow");
    let mut cow = open_for_resize(host, &path, Trust::Follow, false)?;
    let wish = Wish {
        new_size: Bytes(2 * SIZE),
        strategy: Some(driver::resize::Strategy::Rebuild),
        shrink: Shrink::Refuse,
        online: false,
    };
    let plan = plan_resize(host, &cow, wish)?;
    carry_out(host, &mut cow, &plan, &mut go_on)?;
    close(cow.device, &path)
}

fn raw(host: &Watching, images: &Images) -> Result<(), ImageError> {
    let image = open_image(host, &images.path("cow"), Format::Cow, Trust::Follow)?;
    to_raw(host, &image, &images.path("out"), &mut go_on).map(drop)
}

fn cow_of(version: CowVersion) -> impl Fn(&Watching, &Images) -> Result<(), ImageError> {
    move |host, images| {
        let image = open_image(host, &images.path("cow"), Format::Cow, Trust::Follow)?;
        let (backing, out) = (images.path("backing"), images.path("out"));
        to_cow(host, &image, &backing, version, &out, &mut go_on).map(drop)
    }
}

#[test]
fn a_rebuild_has_the_old_files_mode_when_it_is_complete() {
    for version in [Version::V3, Version::V2] {
        for mode in [0o600, 0o640, 0o644, 0o666] {
            let images = Images::new(version);
            images.set_mode("cow", mode);
            images.watch(rebuild);
            assert_eq!(images.mode("cow"), mode, "{version}");
        }
    }
}

/// A version 2 file becomes one of version 3 first.
#[test]
fn a_merge_in_place_that_rebuilds_has_the_old_files_mode() {
    let images = Images::new(Version::V2);
    images.set_mode("cow", 0o600);
    images.watch(|host, images| {
        let path = images.path("cow");
        let mut cow = open_both(host, &path, Trust::Follow)?;
        in_place(host, &mut cow, &mut go_on)?;
        close(cow.device, &path)
    });
    assert_eq!(images.mode("cow"), 0o600);
}

/// A copy of public files is as public as any new file; one of a private file is private.
#[test]
fn a_copy_keeps_from_others_what_its_sources_do() {
    for (cow, backing, least) in [
        (0o644, 0o644, 0o644),
        (0o600, 0o644, 0o600),
        (0o644, 0o600, 0o600),
        (0o644, 0o640, 0o640),
        (0o444, 0o444, 0o644),
    ] {
        let tools: [&Tool; 3] = [
            &raw,
            &cow_of(CowVersion::V2),
            &cow_of(CowVersion::V3 { alignment: 4096 }),
        ];
        for tool in tools {
            let images = Images::new(Version::V3);
            images.set_mode("cow", cow);
            images.set_mode("backing", backing);
            images.watch(tool);
            let expected = images.usual_mode() & least;
            assert_eq!(images.mode("out"), expected, "of {cow:o} and {backing:o}");
        }
    }
}

/// What a file's own group may do another group may not.
#[test]
fn a_copy_of_another_groups_file_is_not_for_our_group() {
    let images = Images::new(Version::V3);
    // Only root gives files away.
    if chown(images.path("cow"), None, Some(54_321)).is_err() {
        eprintln!("skipped: a file can be given to any group by root only");
        return;
    }
    images.set_mode("cow", 0o640);
    images.watch(raw);
    assert_eq!(images.mode("out"), images.usual_mode() & 0o600);
}

/// A new image holds nothing of its backing file's.
#[test]
fn a_new_image_has_the_usual_mode() {
    let images = Images::new(Version::V3);
    images.set_mode("backing", 0o600);
    images.watch(|host, images| {
        let (out, backing) = (images.path("out"), images.path("backing"));
        create(host, &out, &backing, Default::default())
    });
    assert_eq!(images.mode("out"), images.usual_mode());
    fs::remove_file(images.path("out")).unwrap();
    images.watch(|host, images| {
        let spec = DeviceSpec {
            backing: Some(images.path("backing")),
            ..DeviceSpec::of(images.path("out"))
        };
        Ok(open(host, &spec, OpenOptions::default())?)
    });
    assert_eq!(images.mode("out"), images.usual_mode());
}

/// What a killed process leaves, the next one removes, whatever its mode.
#[test]
fn what_was_left_behind_is_no_obstacle() {
    for mode in [0o600, 0o644] {
        let images = Images::new(Version::V3);
        let tools: [(_, &Tool); 2] = [("cow", &rebuild), ("out", &raw)];
        for (name, tool) in tools {
            let left = temporary_name(&images.path(name));
            fs::write(&left, "left").unwrap();
            fs::set_permissions(&left, Permissions::from_mode(mode)).unwrap();
            images.watch(tool);
        }
    }
}

/// The directory's default access control list counts for a new file in place of the umask.
#[test]
fn a_directorys_default_list_is_heeded() {
    let images = Images::new(Version::V3);
    // Version 2; owner rw-, group r--, others ---.
    let entry = |tag: u16, rights: u16| {
        let no_id = u32::MAX.to_le_bytes();
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &no_id].concat()
    };
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 6),
        entry(4, 4),
        entry(0x20, 0),
    ]
    .concat();
    let name = "system.posix_acl_default";
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(images.directory.path(), name, &list, flags).is_err() {
        eprintln!("skipped: this file system has no access control lists");
        return;
    }
    assert_eq!(images.usual_mode(), 0o640, "as the list says");
    images.set_mode("backing", 0o644);
    images.set_mode("cow", 0o644);
    images.watch(raw);
    assert_eq!(images.mode("out"), 0o640);
}

/// The mask of an access control list stands where the group's rights would.
#[test]
fn the_rights_of_a_list_that_is_not_copied_go_to_nobody_else() {
    let images = Images::new(Version::V3);
    let entry = |tag: u16, rights: u16, id: u32| {
        [
            &tag.to_le_bytes()[..],
            &rights.to_le_bytes(),
            &id.to_le_bytes(),
        ]
        .concat()
    };
    // One user may read it; the group may not.
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 6, u32::MAX),
        entry(2, 4, 12_345),
        entry(4, 0, u32::MAX),
        entry(0x10, 4, u32::MAX),
        entry(0x20, 0, u32::MAX),
    ]
    .concat();
    let name = "system.posix_acl_access";
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(images.path("cow"), name, &list, flags).is_err() {
        eprintln!("skipped: this file system has no access control lists");
        return;
    }
    assert_eq!(images.mode("cow"), 0o640, "the mask");
    images.watch(raw);
    assert_eq!(images.mode("out"), 0o600);
    images.watch(rebuild);
    assert_eq!(images.mode("cow"), 0o640, "the mask");
    let mut found = vec![0; 2 * list.len()];
    let len = rustix::fs::getxattr(images.path("cow"), name, &mut found[..]).unwrap();
    assert_eq!(found[..len], list, "the list goes along");
}
