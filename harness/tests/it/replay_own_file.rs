//! What becomes of a replay whose file loses its name on the way: that is nothing that the driver
//! has done, no file is made in its place, and no other file is compared with the model.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use driver::device_spec::DeviceSpec;
use driver::host::{HostNames, Replace};
use driver::linux::{Defects, Kernel};
use driver::memory::{MemoryFile, MemoryHost};
use driver::open::{OpenOptions, create};
use driver::ordered::Ordered;
use driver::units::Bytes;
use harness::replay::session::Progress;
use harness::replay::{
    BringsUp, Options, OrderedBut, Pipe, Reopened, ReplayDriver, Report, Session, SessionError,
};
use harness::trace::{Generator, TraceError, TraceSource, Workload};
use userhelper::real_files::RealHost;

const SIZE: Bytes = Bytes(64 << 10);

fn trace() -> Result<Box<dyn TraceSource>, TraceError> {
    let workload = Workload {
        seed: 1,
        requests: 200,
        device: SIZE,
        ..Workload::default()
    };
    Ok(Box::new(Generator::new(workload).unwrap()))
}

/// The devices: a COW file, also for a model of a kernel's driver, and a raw disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Cow,
    OfModel,
    RawDisk,
}

/// Replays on one in `directory`; once it has been compared the first time, `then` is done.
fn replayed(which: Which, directory: &Path, then: fn(&Path)) -> Result<Report, SessionError> {
    let [file, backing] = ["file", "backing"].map(|name| directory.join(name));
    std::fs::write(&backing, vec![3; SIZE.0 as usize]).unwrap();
    match which {
        Which::RawDisk => std::fs::write(&file, vec![3; SIZE.0 as usize]).unwrap(),
        Which::Cow | Which::OfModel => {
            drop(create(&RealHost, &file, &backing, Some(4096)).unwrap());
        }
    }
    let is_done = Cell::new(false);
    let driver = match which {
        Which::OfModel => ReplayDriver::Linux(Kernel::Linux6_12, Defects::none(), Pipe::Real),
        Which::Cow | Which::RawDisk => ReplayDriver::Ordered,
    };
    let session = Session {
        trace: &trace,
        options: Options {
            driver,
            ..Options::as_fast(8)
        },
        progress: &|progress| {
            if matches!(progress, Progress::Verified(..)) && !is_done.replace(true) {
                then(&file);
            }
        },
    };
    session.on_device(&DeviceSpec {
        data: which == Which::RawDisk,
        // Named, so that a missing COW file could be made.
        backing: (which != Which::RawDisk).then(|| backing.clone()),
        ..DeviceSpec::of(file.clone())
    })
}

const ALL: [Which; 3] = [Which::Cow, Which::OfModel, Which::RawDisk];

fn name(which: Which) -> &'static str {
    match which {
        Which::Cow | Which::OfModel => "COW file",
        Which::RawDisk => "disk",
    }
}

fn elsewhere(path: &Path) -> PathBuf {
    path.with_extension("elsewhere")
}

#[test]
fn a_file_that_stays_where_it_is_is_compared_twice() {
    for which in ALL {
        let directory = tempfile::tempdir().unwrap();
        let report = replayed(which, directory.path(), |_| {}).unwrap();
        assert!(report.is_good(), "{which:?}");
    }
}

#[test]
fn a_file_that_is_removed_or_renamed_is_not_made_again() {
    let remove: fn(&Path) = |path| std::fs::remove_file(path).unwrap();
    let rename: fn(&Path) = |path| std::fs::rename(path, elsewhere(path)).unwrap();
    for which in ALL {
        for then in [remove, rename] {
            let directory = tempfile::tempdir().unwrap();
            let error = replayed(which, directory.path(), then).unwrap_err();
            let path = directory.path().join("file");
            let expected = format!(
                "{}: the {} has been removed or renamed meanwhile: what became of it was not \
                 compared",
                path.display(),
                name(which)
            );
            assert_eq!(error.to_string(), expected);
            assert!(!path.exists(), "{which:?}");
        }
    }
}

#[test]
fn a_file_in_its_place_is_not_compared() {
    for which in ALL {
        let directory = tempfile::tempdir().unwrap();
        let exchange = |path: &Path| {
            std::fs::copy(path, elsewhere(path)).unwrap();
            std::fs::rename(elsewhere(path), path).unwrap();
        };
        let error = replayed(which, directory.path(), exchange).unwrap_err();
        let expected = format!(
            "{}: the {}'s name has been given to another file meanwhile",
            directory.path().join("file").display(),
            name(which)
        );
        assert_eq!(error.to_string(), expected);
    }
}

/// Exchanges the file, or takes it away, when the device has just been closed.
struct ExchangedAtLast {
    removes: bool,
}

impl BringsUp<MemoryHost> for ExchangedAtLast {
    type Driver = Ordered<MemoryFile>;

    fn take_over(
        &self,
        _: &MemoryHost,
        _: &DeviceSpec,
        device: Ordered<MemoryFile>,
    ) -> Result<Ordered<MemoryFile>, SessionError> {
        Ok(device)
    }

    fn reopen(
        &self,
        host: &MemoryHost,
        spec: &DeviceSpec,
        options: OpenOptions,
    ) -> Result<Result<Reopened<Ordered<MemoryFile>>, String>, SessionError> {
        let content = host.contents(&spec.file).unwrap();
        host.rename(&spec.file, &elsewhere(&spec.file), Replace::Nothing)
            .unwrap();
        if !self.removes {
            drop(host.file(&spec.file, &content));
        }
        OrderedBut(std::convert::identity::<Ordered<_>>).reopen(host, spec, options)
    }
}

#[test]
fn a_file_exchanged_between_closing_and_opening_is_not_compared_either() {
    let session = Session {
        trace: &trace,
        options: Options::as_fast(8),
        progress: &|_| {},
    };
    for (removes, what) in [
        (
            false,
            "the COW file's name has been given to another file meanwhile",
        ),
        (
            true,
            "the COW file has been removed or renamed meanwhile: what became of it was not compared",
        ),
    ] {
        let brings = ExchangedAtLast { removes };
        let error = session.on_host(MemoryHost::new(), Some(SIZE), &brings);
        let error = error.unwrap_err().to_string();
        assert_eq!(error, format!("/memory/device.cow: {what}"));
    }
}
