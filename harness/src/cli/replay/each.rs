//! `ubdlab replay --each-device`: each volume of a trace by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock;
use crate::locked::locked;
use crate::replay::session::Progress;
use crate::replay::volumes::{Identity, Outcome, Volume, VolumesResult};
use crate::replay::{ReplayDriver, Session};
use crate::report::volumes_page;
use crate::shard::Shard;
use crate::trace::by_device::BYTES_OF_REQUEST;
use crate::trace::notes::DeviceCounts;
use crate::trace::{ByDevice, Device, DeviceChoice, Devices, Known, MOST_DEVICES};

use super::super::checkpoint_file::{CheckpointFile, Foreign};
use super::super::made_files;
use super::super::output;
use super::super::page::PageFile;
use super::super::progress::Shown;
use super::super::reading::{Reading, Rereadable};
use super::super::{Failure, Verdict, wrong_usage};
use super::checkpoint::{Part, VolumesKept};
use super::volumes_text::Text;
use super::{Args, checkpoint, options_text};

/// The volumes of a trace, with what goes to each.
type Listing = BTreeMap<Device, DeviceCounts>;

/// Runs the command.
pub(super) fn run(args: &Args, path: &Path, driver: ReplayDriver) -> Result<Verdict, Failure> {
    super::check_kind(path)?;
    let trace = Rereadable::new(path)?;
    let page = PageFile::begin(args.report.as_deref(), args.out.as_deref())?;
    let file = args.checkpoint.as_deref().map(checkpoint::file);
    let found = file.as_ref().map(CheckpointFile::read).transpose()?;
    let started = clock::start();
    let listing = list(&trace, &args.reading)?;
    let listed: Vec<(&Device, &DeviceCounts)> = listing.iter().collect();
    let name = trace.name().file_name().unwrap_or(trace.name().as_os_str());
    let part = Part {
        replay: Identity::of(
            driver::shown(Path::new(name)),
            &listing,
            options_text::of(args),
        ),
        shard: args.shard.unwrap_or(Shard::WHOLE),
        jobs: args.jobs(),
    };
    let kept = match VolumesKept::new(part, found.flatten(), file, started, &listed)? {
        Ok(kept) => kept,
        Err(Foreign(what)) => return Ok(wrong_usage(what)),
    };
    let each = Each {
        args,
        path,
        driver,
        trace: &trace,
        listed: &listed,
    };
    let result = each.replay_all(kept)?;
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

/// The most memory for the requests to volumes that are taken out of the trace in one go, in bytes.
const MOST_HELD: u64 = 256 << 20;

/// What is the same for each volume.
struct Each<'a> {
    args: &'a Args,
    path: &'a Path,
    driver: ReplayDriver,
    trace: &'a Rereadable,
    /// All volumes of the trace.
    listed: &'a [(&'a Device, &'a DeviceCounts)],
}

impl Each<'_> {
    /// Replays those of the shard's volumes that are not done.
    fn replay_all(&self, kept: VolumesKept<'_>) -> Result<VolumesResult, Failure> {
        let (shard, all) = (kept.shard(), self.listed.len() as u64);
        let own = (0..shard.share_of(all)).map(|index| shard.case_at(index));
        let left: Vec<u64> = own.filter(|&number| !kept.has(number)).collect();
        let shown = Shown::new(Some(shard.share_of(all)));
        shown.update(Progress::Replayed(kept.count()));
        let kept = Mutex::new(kept);
        for together in in_groups(&left, |number| self.bytes(number)) {
            let held = self.held(together);
            self.replay_together(together, held.as_ref(), |volume| {
                let mut kept = locked(&kept);
                kept.keep(volume);
                shown.update(Progress::Replayed(kept.count()));
                !kept.gave_up()
            });
            if locked(&kept).gave_up() {
                break;
            }
        }
        let kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        kept.finish()
    }

    /// What the requests to a volume take of the memory, in bytes.
    fn bytes(&self, number: u64) -> u64 {
        let (_, counts) = self.listed[number as usize];
        counts.requests.saturating_mul(BYTES_OF_REQUEST)
    }

    /// The requests to these volumes, taken out of the trace in one go, if that can be done.
    fn held(&self, together: &[u64]) -> Option<ByDevice> {
        let is_one_too_large = together
            .iter()
            .any(|&number| self.bytes(number) > MOST_HELD);
        // What is wrong in a trace, and passed over, is counted for each volume by itself.
        if is_one_too_large || self.args.reading.skip_bad {
            return None;
        }
        let devices = together.iter().map(|&number| {
            let (device, counts) = self.listed[number as usize];
            (device.clone(), counts.requests)
        });
        let options = self.args.reading.options(Devices::Each);
        // What is wrong with the trace now is told by the replay of each volume, which reads it.
        let mut source = self.trace.open(&options).ok()?;
        ByDevice::read(source.as_mut(), devices).ok().flatten()
    }

    /// Replays these volumes, and hands over what became of each, as long as that is wanted.
    fn replay_together(
        &self,
        together: &[u64],
        held: Option<&ByDevice>,
        keep: impl Fn(Volume) -> bool + Sync,
    ) {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(&number) = together.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (device, _) = self.listed[number as usize];
                let goes_on = keep(Volume {
                    number,
                    volume: device.to_string(),
                    outcome: self.replay(number, device, held),
                });
                if !goes_on {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            let others = (self.args.jobs() as usize).min(together.len());
            for _ in 1..others {
                // With fewer threads it takes longer, and comes to the same.
                let _ = std::thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
    }

    /// Replays one, whatever comes of it.
    fn replay(&self, number: u64, device: &Device, held: Option<&ByDevice>) -> Outcome {
        self.outcome(number, device, held)
            .unwrap_or_else(|Failure(error)| Outcome::Failed { error })
    }

    fn outcome(
        &self,
        number: u64,
        device: &Device,
        held: Option<&ByDevice>,
    ) -> Result<Outcome, Failure> {
        let Each { args, .. } = *self;
        let reading = &args.reading;
        let options = reading.options(Devices::Only(DeviceChoice::from(device)));
        let known = Known {
            discards: self.driver.discards() || !args.skip_unsupported,
        };
        let open_trace = || {
            let requests = match held.and_then(|held| held.source(device)) {
                Some(held) => held,
                None => self.trace.open(&options)?,
            };
            Ok(known.of(reading.selection().of(requests)))
        };
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

/// Cuts a list of volumes into groups whose requests have room in memory together. What has no room
/// is a group by itself.
fn in_groups(volumes: &[u64], bytes: impl Fn(u64) -> u64) -> Vec<&[u64]> {
    let (mut groups, mut left) = (Vec::new(), volumes);
    while !left.is_empty() {
        let mut sum = 0_u64;
        let fitting = left.iter().take_while(|&&number| {
            sum = sum.saturating_add(bytes(number));
            sum <= MOST_HELD
        });
        let (group, others) = left.split_at(fitting.count().max(1));
        groups.push(group);
        left = others;
    }
    groups
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

/// Whether a file at this path below --out could be one of a volume's device.
pub(super) fn may_be_of_device(below: &Path) -> bool {
    let mut components = below.components();
    components.next().is_some() && made_files::may_be_of_device(components.as_path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_that_have_room_together_are_read_together() {
        let groups = |sizes: &[u64]| {
            let numbers: Vec<u64> = (0..sizes.len() as u64).collect();
            let groups = in_groups(&numbers, |number| sizes[number as usize]);
            groups.iter().map(|group| group.len()).collect::<Vec<_>>()
        };
        assert_eq!(groups(&[]), [] as [usize; 0]);
        assert_eq!(groups(&[1; 9]), [9]);
        assert_eq!(groups(&[MOST_HELD, 1, MOST_HELD - 1, 1]), [1, 2, 1]);
        assert_eq!(groups(&[1, MOST_HELD + 1, u64::MAX, 1]), [1, 1, 1, 1]);
    }

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
