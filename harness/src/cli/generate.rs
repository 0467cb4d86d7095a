//! `ubdlab trace generate`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use driver::size::parse_device_size;
use driver::units::Bytes;

use crate::trace::generate::Access;
use crate::trace::{Generator, Workload};

use super::descriptor::is_standard_output;
use super::output_file::OutputFile;
use super::trace_file::{into_file, written};
use super::writing::Writing;
use super::{Failure, Verdict, output};

/// Make a trace from a description: any length, and from one seed the same on every machine
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ubdlab trace generate small.ubdtrace
  ubdlab trace generate large.ubdtrace --requests 100000000 --size 1T --access zipf:0.99
  ubdlab trace generate db.ubdtrace --mix read:70,write:28,discard:2 --request-size 8K:80,128K:20 \\
         --access hot:10:90 --writes-per-flush 16 --preflush 50 --fua 5 --seed 7
  ubdlab trace generate - --as csv --requests 10

Sizes take K, M, G, T, P and E, powers of 1024, and fractions: 2.5G, 1TiB.")]
pub(super) struct Args {
    /// The file to be written, in one piece; one that exists is replaced. - for standard output
    target: PathBuf,
    /// How many requests, flushes among them
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    requests: u64,
    /// The size of the device
    #[arg(long, default_value = "1G", value_parser = parse_device_size)]
    size: Bytes,
    /// The seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How likely each kind of request is, in relation to the others: read, write, discard and
    /// write-zeroes
    #[arg(
        long,
        value_name = "KIND:SHARE,...",
        default_value = "read:34,write:66"
    )]
    mix: Mix,
    /// How long requests are, and how likely each length is
    #[arg(long, value_name = "SIZE[:SHARE],...", default_value = "4K")]
    request_size: RequestSizes,
    /// Where requests go: sequential, random, zipf:THETA, or hot:SPACE:REQUESTS, where SPACE
    /// percent of the device take REQUESTS percent of the requests
    #[arg(long, default_value = "random")]
    access: AccessArg,
    /// Percentage of requests that go on where the one before of the same kind ended
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    sequential: u64,
    /// A flush after every N writes; 0 for none
    #[arg(long, value_name = "N", default_value_t = 64)]
    writes_per_flush: u64,
    /// Percentage of flushes that are preflushes of the next write instead
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    preflush: u64,
    /// Percentage of writes that have forced unit access
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    fua: u64,
    /// Requests a second, on average
    #[arg(long, value_name = "N", default_value_t = 1000)]
    rate: u64,
    #[command(flatten)]
    writing: Writing,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mix {
    reads: u64,
    writes: u64,
    discards: u64,
    write_zeroes: u64,
}

fn share(text: &str) -> Result<u64, String> {
    let wrong = |_| format!("found {text:?}, expected a share such as 30");
    text.parse().map_err(wrong)
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Mix, String> {
        let mut mix = Mix::default();
        for part in text.split(',') {
            let (kind, number) = part.split_once(':').unwrap_or((part, "1"));
            let place = match kind {
                "read" => &mut mix.reads,
                "write" => &mut mix.writes,
                "discard" => &mut mix.discards,
                "write-zeroes" => &mut mix.write_zeroes,
                _ => {
                    let kinds = "read, write, discard or write-zeroes";
                    return Err(format!("found {kind:?}, expected {kinds}"));
                }
            };
            *place = share(number)?;
        }
        Ok(mix)
    }
}

#[derive(Clone, Debug)]
struct RequestSizes(Vec<(u64, Bytes)>);

impl FromStr for RequestSizes {
    type Err = String;

    fn from_str(text: &str) -> Result<RequestSizes, String> {
        let size = |part: &str| {
            let (size, number) = part.split_once(':').unwrap_or((part, "1"));
            let size = parse_device_size(size).map_err(|error| error.to_string())?;
            Ok((share(number)?, size))
        };
        text.split(',')
            .map(size)
            .collect::<Result<_, _>>()
            .map(RequestSizes)
    }
}

#[derive(Clone, Copy, Debug)]
struct AccessArg(Access);

impl FromStr for AccessArg {
    type Err = String;

    fn from_str(text: &str) -> Result<AccessArg, String> {
        let expected = "sequential, random, zipf:THETA or hot:SPACE:REQUESTS";
        let wrong = || format!("found {text:?}, expected {expected}");
        let parts: Vec<_> = text.split(':').collect();
        let access = match parts[..] {
            ["sequential"] => Access::Sequential,
            ["random"] => Access::Random,
            ["zipf", theta] => {
                let theta = theta.parse::<f64>().ok();
                let theta = theta.filter(|theta| (0.0..=4.0).contains(theta));
                let theta = theta.ok_or("expected a theta from 0 to 4")?;
                Access::Zipf {
                    theta_64ths: (theta * 64.0).round() as u32,
                }
            }
            ["hot", space, requests] => Access::HotSpot {
                space_percent: space.parse().map_err(|_| wrong())?,
                requests_percent: requests.parse().map_err(|_| wrong())?,
            },
            _ => return Err(wrong()),
        };
        Ok(AccessArg(access))
    }
}

impl Args {
    fn workload(&self) -> Workload {
        Workload {
            seed: self.seed,
            requests: self.requests,
            device: self.size,
            reads: self.mix.reads,
            writes: self.mix.writes,
            discards: self.mix.discards,
            write_zeroes: self.mix.write_zeroes,
            sizes: self.request_size.0.clone(),
            access: self.access.0,
            sequential_percent: self.sequential,
            writes_per_flush: self.writes_per_flush,
            preflush_percent: self.preflush,
            fua_percent: self.fua,
            rate: self.rate,
        }
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<Verdict, Failure> {
    let generator = Generator::new(args.workload());
    let mut generator = generator.map_err(|error| Failure(format!("generating: {error}")))?;
    if args.target == Path::new("-") || is_standard_output(&args.target) {
        let out = output::data(args.writing.is_binary())?;
        let name = Path::new("standard output");
        output::unless_reader_left(args.writing.write(&mut generator, name, out))?;
        return Ok(Verdict::Good);
    }
    let generated = into_file(OutputFile::create(&args.target)?, |out| {
        args.writing.write(&mut generator, &args.target, out)
    })?;
    let Some((summary, lost, len)) = generated else {
        return Ok(Verdict::Good);
    };
    output::line(written(&args.target, summary.requests, len));
    lost.lines().for_each(output::line);
    Ok(Verdict::Good)
}
