//! The client of what is measured: fio, by NBD and on a device.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::bench::programs::run;
use crate::bench::{BenchError, Settings};

/// The program.
pub(super) const FIO: &str = "fio";

/// The file for its result.
const RESULT: &str = "fio.json";

/// The client's end of a device.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// A Unix socket at which NBD is served.
    Nbd(&'a Path),
    /// A block device, past the page cache.
    Device(&'a Path),
}

/// What is asked of the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// As fio names it, `randread` for one.
    pub(super) pattern: &'static str,
    /// The length of a request, in bytes.
    pub(super) block: u64,
    /// Requests in flight.
    pub(super) depth: usize,
    /// Bytes in all.
    pub(super) bytes: u64,
    /// The part of the device that they go to, from its start on, in bytes.
    pub(super) size: u64,
}

/// What it says of a run.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    jobs: Vec<Job>,
}

#[derive(Debug, Deserialize)]
struct Job {
    error: i32,
    read: Direction,
    write: Direction,
}

#[derive(Debug, Deserialize)]
struct Direction {
    iops: f64,
    total_ios: u64,
    lat_ns: Latency,
}

/// How long requests took, in nanoseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Latency {
    max: u64,
}

impl Report {
    /// The report within `text`, which may have other words around it.
    pub(super) fn parse(text: &str) -> Result<Report, String> {
        let wrong = |why: String| format!("fio: found no report that makes sense: {why}");
        let (Some(start), Some(end)) = (text.find('{'), text.rfind('}')) else {
            return Err(wrong("no JSON object in it".into()));
        };
        let Some(object) = text.get(start..=end) else {
            return Err(wrong("its braces are in the wrong order".into()));
        };
        let report: Report =
            serde_json::from_str(object).map_err(|error| wrong(error.to_string()))?;
        match report.jobs.iter().map(|job| job.error).find(|&no| no != 0) {
            Some(error) => Err(format!("fio: a request failed with error {error}")),
            None => Ok(report),
        }
    }

    fn directions(&self) -> impl Iterator<Item = &Direction> {
        self.jobs.iter().flat_map(|job| [&job.read, &job.write])
    }

    /// Requests in a second.
    pub(super) fn rate(&self) -> f64 {
        self.directions().map(|direction| direction.iops).sum()
    }

    /// How many there were.
    pub(super) fn requests(&self) -> u64 {
        self.directions().map(|direction| direction.total_ios).sum()
    }

    /// How long the one took that took longest, in nanoseconds.
    pub(super) fn longest_ns(&self) -> u64 {
        let longest = self.directions().map(|direction| direction.lat_ns.max);
        longest.max().unwrap_or(0)
    }
}

/// The words that do this work on this target.
pub(super) fn words(target: Target<'_>, work: Work) -> Vec<String> {
    let mut words = match target {
        Target::Nbd(socket) => vec![
            "--ioengine=nbd".to_owned(),
            format!("--uri=nbd+unix:///?socket={}", socket.display()),
        ],
        Target::Device(device) => vec![
            "--ioengine=libaio".to_owned(),
            "--direct=1".to_owned(),
            format!("--filename={}", device.display()),
        ],
    };
    let Work {
        pattern,
        block,
        depth,
        bytes,
        size,
    } = work;
    words.extend([
        "--name=bench".to_owned(),
        "--output-format=json".to_owned(),
        // A request may come twice to the same place: no map of those that came has to be kept.
        "--norandommap=1".to_owned(),
        format!("--rw={pattern}"),
        format!("--bs={block}"),
        format!("--iodepth={depth}"),
        format!("--io_size={bytes}"),
        format!("--size={size}"),
    ]);
    words
}

/// Does the work. What fio says of it.
pub(super) fn fio(
    settings: Settings<'_>,
    target: Target<'_>,
    work: Work,
) -> Result<Report, BenchError> {
    let result = settings.directory.join(RESULT);
    let mut words = words(target, work);
    words.push(format!("--output={}", result.display()));
    run(settings, Path::new(FIO), &words)?;
    read_report(&result, &words)
}

/// The report in a file.
pub(super) fn read_report(result: &Path, words: &[String]) -> Result<Report, BenchError> {
    let text = std::fs::read_to_string(result).map_err(BenchError::file(result, "reading"))?;
    Report::parse(&text).map_err(|problem| BenchError::Program {
        command: format!("{:?}", Command::new(FIO).args(words)),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"note: of something {"fio version":"fio-3.33","jobs":[{"error":0,
        "read":{"iops":2000.5,"total_ios":7,"lat_ns":{"min":1,"max":30}},
        "write":{"iops":0.5,"total_ios":1,"lat_ns":{"min":1,"max":40}}}]}"#;

    #[test]
    fn a_report_is_found_among_other_words() {
        let report = Report::parse(REPORT).unwrap();
        assert_eq!((report.rate(), report.requests()), (2001.0, 8));
        assert_eq!(report.longest_ns(), 40);
    }

    #[test]
    fn what_failed_is_no_figure() {
        let failed = REPORT.replace(r#""error":0"#, r#""error":5"#);
        assert!(Report::parse(&failed).unwrap_err().contains("error 5"));
        for text in ["", "}{", "{}", "{\"jobs\":1}"] {
            assert!(Report::parse(text).is_err(), "{text}");
        }
    }
}
