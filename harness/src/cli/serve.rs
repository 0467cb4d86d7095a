//! `ubdlab serve`.

use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use crossbeam_channel::bounded;
use driver::device_spec::DeviceSpec;
use driver::open::OpenOptions;
use driver::shown;
use driver::units::Bytes;
use userhelper::planner::{Shrink, Wish};

use crate::replay::ReplayDriver;
use crate::serve::address::Address;
use crate::serve::control::Control;
use crate::serve::fuse::Fuse;
use crate::serve::nbd::Nbd;
use crate::serve::nbd::listener::PATIENCE;
use crate::serve::record::Recorder;
use crate::serve::service_manager;
use crate::serve::vhost_user::VhostUser;
use crate::serve::{Ending, Endpoints, Export, Opening, Up};

use super::ctl::RecordedText;
use super::device_arg::{device_or_path, followed};
use super::driver_arg::{DriverArg, DriverArgs};
use super::interrupt::Interrupt;
use super::teller::Teller;
use super::{Failure, Verdict, paths, wrong_usage};

/// Serve a device to real programs: over NBD, vhost-user or as a file, grown while they use it
///
/// The device is open, and locked, until the server is told to stop: by Ctrl-C or SIGTERM. It then
/// takes no more requests, answers those in flight, makes everything durable and closes the
/// device. A second signal ends it at once, which loses nothing that a client has flushed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab serve root.cow --nbd /tmp/root.nbd
  ubdlab serve ubda=root.cow,root.img --nbd 127.0.0.1:10809 --read-only
  ubdlab serve root.cow --fuse /mnt/root
  nbdinfo -- [ ubdlab serve root.cow --nbd activated ]
  ubdlab serve root.cow --vhost-user /tmp/root.sock
  linux.uml mem=512M initrd=initrd virtio_uml.device=/tmp/root.sock:2

UML finds the disk of the last example when an initramfs has loaded the module virtio_blk. With a
static busybox, and the modules where Debian has them, this makes one:
  mkdir -p i/bin i/dev i/root
  cp /bin/busybox i/bin
  cp /usr/lib/uml/modules/*/kernel/drivers/block/virtio_blk.ko i
  { echo '#!/bin/busybox sh'
    echo '/bin/busybox mount -t devtmpfs dev /dev'
    echo '/bin/busybox insmod /virtio_blk.ko'
    echo '/bin/busybox mount -t ext4 /dev/vda /root'
    echo 'exec /bin/busybox switch_root /root /sbin/init'
  } >i/init
  chmod +x i/init
  (cd i && find . | busybox cpio -o -H newc) >initrd

Where /proc/cpuinfo has amx_tile, UML also needs the library of `ubdlab amx-preload`.")]
pub(super) struct Args {
    /// The device: a COW file, or ubda=COW[,BACKING[,SIZE]] as on UML's command line
    ///
    /// A COW file that is there knows its backing file. SIZE resizes the device when it is served.
    /// After ubda (or ubd0, up to ubdp or ubd15) may come the flags r (read-only), s
    /// (synchronous), c (files shared with others, not locked) and d (a raw disk without COW
    /// header).
    #[arg(
        value_name = "SPEC",
        value_parser = OsStringValueParser::new().try_map(|text| device_or_path(&text))
    )]
    device: DeviceSpec,

    /// Listen for NBD clients at this address; may be repeated
    ///
    /// A path with a / in it, unix:PATH, an address as 127.0.0.1:10809, or activated, for sockets
    /// that whoever starts the server hands over. A Unix socket can be used by its owner alone.
    #[arg(long, value_name = "ADDRESS")]
    nbd: Vec<Address>,

    /// Let clients come from other machines
    ///
    /// Without it a TCP address has to be one of this machine's loopback. NBD as it is served here
    /// has NO ENCRYPTION and asks for no password: whoever reaches the port reads and writes the
    /// disk.
    #[arg(long)]
    allow_remote: bool,

    /// Be the disk of a UML, QEMU or Cloud Hypervisor that connects to this socket; may be repeated
    ///
    /// A virtio block device over vhost-user. UML takes it as virtio_uml.device=SOCKET:2, and has
    /// it as /dev/vda when its module virtio_blk is loaded. A socket has one client at a time, and
    /// can be used by its owner alone.
    #[arg(long, value_name = "SOCKET")]
    vhost_user: Vec<PathBuf>,

    /// Mount the device as the file DIR/disk, with its status in DIR/status.json
    ///
    /// DIR is an empty directory. Only the user who starts the server can use what is in it; a loop
    /// device over DIR/disk therefore takes a server of root. Truncating DIR/disk resizes the
    /// device: to a larger size at any time, to a smaller one with --allow-shrink. Writes to
    /// DIR/disk wait while it is truncated; `ubdlab ctl` resizes without that. When the server
    /// ends, DIR is unmounted, also where it is in use: unmount what is on a loop device first. Do
    /// not write parts of a sector here while another client writes that sector.
    #[arg(long, value_name = "DIR")]
    fuse: Option<PathBuf>,

    #[command(flatten)]
    driver: DriverArgs<DriverArg>,

    /// Take no writes; the files are not written
    ///
    /// A resize that was interrupted is left as it is: the disk shows its old size.
    #[arg(long)]
    read_only: bool,

    /// Let clients make the device smaller by truncating it, as long as no data lies past the end
    #[arg(long)]
    allow_shrink: bool,

    /// Refuse a backing path in the header that leads outside the COW file's directory
    #[arg(long)]
    confine_backing: bool,

    /// Listen at this Unix socket for `ubdlab ctl`, by which the device is grown while it is served
    ///
    /// Only its owner can connect. docs/serve.md says what goes over it.
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,

    /// Write down all that clients ask for into FILE, which must not exist yet, as a trace
    ///
    /// `ubdlab replay` plays it again. `ubdlab ctl` begins and ends a recording at any time.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

pub(super) fn run(mut args: Args) -> Result<Verdict, Failure> {
    args.device.read_only |= args.read_only;
    let driver = match args.driver() {
        Ok(driver) => driver,
        Err(error) => return Ok(wrong_usage(error)),
    };
    if args.nbd.is_empty() && args.vhost_user.is_empty() && args.fuse.is_none() {
        return Ok(wrong_usage(
            "nobody could use the device: --nbd or --vhost-user says where to listen, --fuse where \
             to mount it"
                .into(),
        ));
    }
    // From here on the first signal asks the server to stop.
    let interrupt = Interrupt::catch();
    let size = args.device.size.take();
    let teller = Teller::start().map_err(Failure::operation)?;
    let told = teller.clone();
    let tells = move |line: &dyn std::fmt::Display| told.tell(line);
    let (ends, ending) = bounded(1);
    let up = args
        .opening(driver)?
        .bring_up(Box::new(tells), ends)
        .map_err(Failure::operation)?;
    // It outlives the device: whoever asks for the end waits until that is closed.
    let mut control = None;
    let served: Result<Ending, Failure> = (|| {
        // Before anybody can ask for something that would not be recorded.
        args.record(&up.export)?;
        let endpoints = args.endpoints(&up.export)?;
        control = args.control(&up.export)?;
        let export = up.export.clone();
        interrupt.wake(move || export.end(Ending::Signal));
        resize_first(&up, size)?;
        announce(&up.export, &endpoints, control.as_ref());
        let why = up.until_the_end(&ending, &endpoints);
        service_manager::stopping();
        Ok(why)
    })();
    // Whatever happened, what was acknowledged is made durable.
    let export = up.export.clone();
    let path = &export.about().path;
    let closed = up.close();
    let recorded = finish_recording(&export, served.is_ok());
    if let Some(control) = control {
        control.end(closed.clone());
    }
    let is_taken_away = matches!(served, Ok(Ending::TakenAway));
    let failures = failures(served, path, closed, recorded);
    if is_taken_away && failures.is_empty() {
        export.tell(&format_args!(
            "{}: unmounted where it was served: {CLOSED_WELL}",
            shown(path)
        ));
    }
    teller.finish();
    match failures.is_empty() {
        true => Ok(Verdict::Good),
        false => Err(Failure(failures.join("; "))),
    }
}

/// All that has gone wrong: why the server has ended, how the device was closed, and what became of
/// the recording.
fn failures(
    served: Result<Ending, Failure>,
    path: &Path,
    closed: Result<(), String>,
    recorded: Result<(), Failure>,
) -> Vec<String> {
    let failures = [
        ended_badly(served, path, closed.is_ok()),
        closed.err(),
        recorded.err().map(|Failure(why)| why),
    ];
    failures.into_iter().flatten().collect()
}

/// How a device has been closed.
const CLOSED_WELL: &str = "everything is durable, and the device is closed";

/// Why the server has ended, unless that was asked for.
fn ended_badly(
    served: Result<Ending, Failure>,
    path: &Path,
    is_closed_well: bool,
) -> Option<String> {
    let path = shown(path);
    match served {
        Err(Failure(why)) => Some(why),
        Ok(Ending::Signal | Ending::Asked | Ending::TakenAway) => None,
        Ok(Ending::Died(error)) => Some(format!(
            "{path}: the device has ended, and what was not flushed may be lost: {error}"
        )),
        // A close that has failed says so too.
        Ok(Ending::Cut(why)) => is_closed_well.then_some(why),
        Ok(Ending::Unused) => {
            let after = match is_closed_well {
                true => format!(": {CLOSED_WELL}"),
                false => String::new(),
            };
            Some(format!(
                "{path}: the last endpoint has ended by itself, and nobody could use the device \
                 any more{after}"
            ))
        }
    }
}

/// Makes the recording under way whole, if there is one. That of a server which has not come to
/// serve is removed where nothing is in it: it would be in the way of the next attempt.
fn finish_recording(export: &Export, has_served: bool) -> Result<(), Failure> {
    let Some(recorder) = export.record_to(None) else {
        return Ok(());
    };
    let path = recorder.path().to_owned();
    let recorded = recorder.finish().map_err(Failure)?;
    if !has_served && recorded.recorded == 0 && recorded.lost == 0 {
        // Where that fails, an empty recording is there.
        let _ = std::fs::remove_file(path);
    } else {
        export.tell(&RecordedText(&recorded));
    }
    Ok(())
}

impl Args {
    fn driver(&self) -> Result<ReplayDriver, String> {
        let not_with_a_model = [
            ("SIZE", self.device.size.is_some()),
            ("read-only", self.device.read_only),
            ("the flag s", self.device.synchronous),
            ("the flag c", self.device.shared),
            ("the flag d", self.device.data),
            ("--allow-shrink", self.allow_shrink),
            ("--confine-backing", self.confine_backing),
        ];
        self.driver.chosen(&not_with_a_model)
    }

    fn opening(&self, driver: ReplayDriver) -> Result<Opening, Failure> {
        let backing = self.device.backing.as_deref();
        Ok(Opening {
            spec: DeviceSpec {
                // It may go into a header.
                backing: backing.map(paths::for_header).transpose()?,
                ..self.device.clone()
            },
            options: OpenOptions {
                trust: followed(self.confine_backing),
                ..OpenOptions::default()
            },
            driver,
            io: self.driver.io.into(),
            allow_shrink: self.allow_shrink,
        })
    }

    /// Begins to listen everywhere.
    fn endpoints(&self, export: &Export) -> Result<Endpoints, Failure> {
        let mut endpoints = Endpoints::of(export.clone());
        for address in &self.nbd {
            let listens = Nbd::listen(export, address, self.allow_remote, PATIENCE);
            endpoints.add(listens.map_err(Failure::operation)?);
        }
        for socket in &self.vhost_user {
            let listens = VhostUser::listen(export, socket);
            endpoints.add(listens.map_err(Failure::operation)?);
        }
        if let Some(directory) = &self.fuse {
            let mounted = Fuse::mount(export, directory);
            endpoints.add(mounted.map_err(Failure::operation)?);
        }
        Ok(endpoints)
    }

    fn control(&self, export: &Export) -> Result<Option<Control>, Failure> {
        let listen = |path: &PathBuf| Control::listen(path, export.clone()).map_err(Failure);
        self.control.as_ref().map(listen).transpose()
    }

    /// Begins to record, if that is asked for.
    fn record(&self, export: &Export) -> Result<(), Failure> {
        let Some(file) = &self.record else {
            return Ok(());
        };
        let path = std::path::absolute(file).unwrap_or_else(|_| file.clone());
        let recorder = Recorder::begin(&path, export).map_err(Failure)?;
        export.record_to(Some(recorder));
        Ok(())
    }
}

/// Finishes what was interrupted, unless the device takes no writes, and gives it the size that its
/// specification asks for, while it is served already.
fn resize_first(up: &Up, size: Option<Bytes>) -> Result<(), Failure> {
    let mut interrupted = up.interrupted;
    if up.export.about().read_only
        && let Some(record) = interrupted.take()
    {
        up.export.leave(&record);
    }
    if interrupted.is_none() && size.is_none() {
        return Ok(());
    }
    let export = up.export.clone();
    let work = move || {
        let finished = interrupted.map(|record| export.finish(record));
        let sized = size.map(|new_size| {
            export.resize(Wish {
                new_size,
                strategy: None,
                shrink: Shrink::Refuse,
                online: true,
            })
        });
        for resized in [finished, sized].into_iter().flatten() {
            export.tell_resized(resized.as_ref());
        }
    };
    let thread = std::thread::Builder::new().name("resize-first".into());
    thread.spawn(work).map(drop).map_err(Failure::operation)
}

fn announce(export: &Export, endpoints: &Endpoints, control: Option<&Control>) {
    let places = endpoints.places().chain(control.map(Control::place));
    export.tell(&format_args!(
        "serving {}, {}: {}",
        shown(&export.about().path),
        export.capacity().bytes(),
        places.collect::<Vec<_>>().join(", ")
    ));
    if let Err(error) = service_manager::ready() {
        let words = driver::system_words(&error);
        export.tell(&format_args!(
            "the service manager is not told that this is ready: {words}"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_went_wrong_is_told_however_the_server_ends() {
        let cut = || "cow: cut".to_owned();
        let is_cut = [cut()];
        let told = |served, closed: Result<(), String>| {
            let recorded = Err(Failure("the recording".into()));
            let mut told = failures(served, Path::new("cow"), closed, recorded);
            assert_eq!(told.pop().as_deref(), Some("the recording"));
            told
        };
        for ending in [Ending::Signal, Ending::Asked, Ending::TakenAway] {
            assert!(told(Ok(ending.clone()), Ok(())).is_empty());
            assert_eq!(told(Ok(ending), Err(cut())), is_cut);
        }
        // Closing says it too, and it is told once.
        for closed in [Ok(()), Err(cut())] {
            assert_eq!(told(Ok(Ending::Cut(cut())), closed), is_cut);
        }
        let failed = told(Err(Failure("no socket".into())), Err(cut()));
        assert_eq!(failed, ["no socket".to_owned(), cut()]);
        for (closed, is_well) in [(Ok(()), true), (Err(cut()), false)] {
            let unused = told(Ok(Ending::Unused), closed);
            assert_eq!(unused[0].contains(CLOSED_WELL), is_well, "{unused:?}");
            assert_eq!(unused.len(), 2 - usize::from(is_well));
        }
    }
}
