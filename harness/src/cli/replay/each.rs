//! `ubdlab replay --each-device`: each volume of a trace by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock;
use crate::locked::locked;
use crate::replay::session::Progress;
use crate::replay::volumes::{FORMAT, Identity, Outcome, Volume, VolumesResult};
use crate::replay::{ReplayDriver, Session};
use crate::report::volumes_page;
use crate::shard::Shard;
use crate::trace::notes::DeviceCounts;
use crate::trace::{Device, DeviceChoice, Devices, Known, MOST_DEVICES};

use super::super::output;
use super::super::page::PageFile;
use super::super::progress::Shown;
use super::super::reading::{Reading, Rereadable, files_of};
use super::super::{Failure, Verdict};
use super::volumes_text::Text;
use super::{Args, options_text};

/// The volumes of a trace, with what goes to each.
type Listing = BTreeMap<Device, DeviceCounts>;

/// Runs the command.
pub(super) fn run(args: &Args, path: &Path, driver: ReplayDriver) -> Result<Verdict, Failure> {
    super::check_kind(path)?;
    let trace = Rereadable::new(path)?;
    let page = PageFile::begin(args.report.as_deref(), args.out.as_deref(), &files_of(path))?;
    let started = clock::start();
    let listing = list(&trace, &args.reading)?;
    let shard = args.shard.unwrap_or(Shard::WHOLE);
    let own = (0..shard.share_of(listing.len() as u64)).map(|index| shard.case_at(index));
    let devices: Vec<&Device> = listing.keys().collect();
    let own: Vec<(u64, &Device)> = own
        .map(|number| (number, devices[number as usize]))
        .collect();
    let each = Each {
        args,
        path,
        driver,
        trace: &trace,
    };
    let volumes = each.replay_all(&own);
    let name = trace.name().file_name().unwrap_or(trace.name().as_os_str());
    let result = VolumesResult {
        format: FORMAT.to_owned(),
        replay: Identity::of(
            driver::shown(Path::new(name)),
            &listing,
            options_text::of(args),
        ),
        shards: shard.into(),
        jobs: args.jobs(),
        elapsed_ns: started.elapsed_ns(),
        volumes,
    };
    report(&result, args.json, page)
}

/// Prints a result, and writes its page.
pub(super) fn report(
    result: &VolumesResult,
    json: bool,
    page: PageFile<'_>,
) -> Result<Verdict, Failure> {
    match json {
        true => output::json(result)?,
        false => output::lines(&Text(result)),
    }
    page.write(|| Ok(volumes_page(result)))?;
    let failed = result.volumes.iter().filter(|volume| volume.has_failed());
    match (result.volumes.iter().any(Volume::is_wrong), failed.count()) {
        (true, _) => Ok(Verdict::ViolationFound),
        (false, 0) => Ok(Verdict::Good),
        (false, failed) => Err(Failure(format!(
            "{failed} of {} volumes could not be replayed",
            result.volumes.len()
        ))),
    }
}

/// The volumes of a trace, all of which is read.
fn list(trace: &Rereadable, reading: &Reading) -> Result<Listing, Failure> {
    let mut source = trace
        .open(&reading.options(Devices::Each))
        .map_err(Failure::operation)?;
    let mut requests = 0_u64;
    for record in source.by_ref() {
        record.map_err(Failure::operation)?;
        requests += 1;
    }
    let (name, notes) = (driver::shown(trace.name()), source.notes());
    if notes.requests_to_other_devices > 0 {
        return Err(Failure(format!(
            "{name}: found more than {MOST_DEVICES} volumes, expected at most as many"
        )));
    }
    if notes.devices.is_empty() {
        let found = match requests {
            0 => "no request in it",
            _ => "a trace that does not tell to which device its requests go",
        };
        return Err(Failure(format!(
            "{name}: found {found}, expected requests to volumes: without --each-device it is \
             replayed as one"
        )));
    }
    Ok(notes.devices.clone())
}

/// What is the same for each volume.
struct Each<'a> {
    args: &'a Args,
    path: &'a Path,
    driver: ReplayDriver,
    trace: &'a Rereadable,
}

impl Each<'_> {
    /// Replays these volumes, and tells of them in their order.
    fn replay_all(&self, own: &[(u64, &Device)]) -> Vec<Volume> {
        let shown = Shown::new(Some(own.len() as u64));
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(&(number, device)) = own.get(next.fetch_add(1, Ordering::Relaxed)) {
                let volume = Volume {
                    number,
                    volume: device.to_string(),
                    outcome: self.replay(number, device),
                };
                let mut done = locked(&done);
                done.push(volume);
                shown.update(Progress::Replayed(done.len() as u64));
            }
        };
        std::thread::scope(|scope| {
            let others = (self.args.jobs() as usize).min(own.len());
            for _ in 1..others {
                // With fewer threads it takes longer, and comes to the same.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        let mut volumes = std::mem::take(&mut *locked(&done));
        volumes.sort_by_key(|volume| volume.number);
        volumes
    }

    /// Replays one, whatever comes of it.
    fn replay(&self, number: u64, device: &Device) -> Outcome {
        self.outcome(number, device)
            .unwrap_or_else(|Failure(error)| Outcome::Failed { error })
    }

    fn outcome(&self, number: u64, device: &Device) -> Result<Outcome, Failure> {
        let Each { args, .. } = *self;
        let reading = &args.reading;
        let options = reading.options(Devices::Only(DeviceChoice::from(device)));
        let known = Known {
            discards: self.driver.discards() || !args.skip_unsupported,
        };
        let open_trace = || Ok(known.of(reading.selection().of(self.trace.open(&options)?)));
        // The volume has requests; only what was asked for can leave all of them out.
        if let Err(Failure(why)) = reading.check_something_is_taken(self.path, None, open_trace) {
            return Ok(Outcome::NothingTaken { why });
        }
        let session = Session {
            trace: &open_trace,
            options: args.options(self.driver),
            progress: &|_| {},
        };
        let out = args
            .out
            .as_deref()
            .map(|out| out.join(directory_of(number, device)));
        let report = args.on_made_device(&session, None, out.as_deref(), |_| {})?;
        let report = report.map_err(|error| args.failure(self.driver, self.trace.name(), error))?;
        Ok(match report.requests {
            0 => Outcome::NothingTaken {
                why: "none of its requests was taken".to_owned(),
            },
            _ => Outcome::Replayed(Box::new(report.into())),
        })
    }
}

/// The most bytes of a volume's name in that of its directory.
const LONGEST_NAME: usize = 64;

/// The directory of a volume's files below --out. The number tells it from all others; the name is
/// for people.
fn directory_of(number: u64, device: &Device) -> PathBuf {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || ".,_-".contains(char);
    let name: String = (device.to_string().chars())
        .map(|char| if is_plain(char) { char } else { '_' })
        .take(LONGEST_NAME)
        .collect();
    format!("{:05}-{name}", number + 1).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_volume_leads_elsewhere_or_to_another_ones_files() {
        let directory = |number, name: &str| {
            let path = directory_of(number, &Device::Name(name.into()));
            path.to_str().unwrap().to_owned()
        };
        assert_eq!(directory(0, "usr.0"), "00001-usr.0");
        assert_eq!(directory(1, "/dev/sda"), "00002-_dev_sda");
        assert_eq!(directory(2, "_dev_sda"), "00003-_dev_sda");
        assert_eq!(directory(3, ".."), "00004-..");
        assert_eq!(directory(4, "\u{1b}[m\n\u{e4}"), "00005-_u_1b__m_n_");
        assert_eq!(directory(70_000, &"x".repeat(4000)).len(), 6 + LONGEST_NAME);
    }
}
