//! A report for people.

use std::fmt;

use driver::units::Bytes;

use super::{Report, latency_time};
use crate::figures::{counted, grouped, in_lines, size, time};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_requests(f)?;
        self.write_resizes(f)?;
        if let Some(pace) = &self.pace {
            writeln!(
                f,
                "pace       {} at speed {}: {} requests more than 1 ms late; median {}, 99 % {}, \
                 latest {}",
                pace.pace,
                pace.speed,
                grouped(pace.late_requests),
                time(pace.lateness.p50_ns),
                time(pace.lateness.p99_ns),
                time(pace.lateness.max_ns),
            )?;
        }
        if self.finished_switch {
            writeln!(
                f,
                "finished   a header that was half changed to another backing file, on opening"
            )?;
        }
        self.write_latency(f)?;
        self.write_verified(f)
    }
}

/// The most characters in a line of the names of defects, after its indentation.
const NAMES_A_LINE: usize = 84;

/// The parts of the text, from above.
impl Report {
    fn write_model(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let defects = match &self.defects[..] {
            [] => "no defect".to_owned(),
            [only] => format!("the defect {only}"),
            many => counted(many.len() as u64, "defect"),
        };
        write!(
            f,
            "           served by the model of {}, with {defects}",
            self.driver
        )?;
        writeln!(f, "{}", if self.defects.len() > 1 { ":" } else { "" })?;
        if self.defects.len() > 1 {
            for line in in_lines(&self.defects, NAMES_A_LINE) {
                writeln!(f, "             {line}")?;
            }
        }
        match self.small_pipe() {
            Some(small) => writeln!(f, "           {small}"),
            None => Ok(()),
        }
    }

    fn write_requests(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "replayed   {} in {}: {}/s, ",
            counted(self.requests, "request"),
            time(self.requests_elapsed_ns),
            counted(self.requests_per_second as u64, "request"),
        )?;
        match self.stamps_only {
            true => writeln!(f, "stamps only")?,
            false => writeln!(f, "{}/s", size(self.bytes_per_second as u64))?,
        }
        writeln!(
            f,
            "           {} read, {} written, {}, {} FUA, {}",
            size(self.sectors_read * 512),
            size(self.sectors_written * 512),
            counted(self.flushes, "flush"),
            grouped(self.fua_writes),
            counted(self.discards, "discard"),
        )?;
        if self.is_of_model() {
            self.write_model(f)?;
        }
        if self.is_of_real_kernel() {
            writeln!(f, "           served by the driver of a running kernel")?;
        }
        for line in self.of_the_trace() {
            writeln!(f, "           {line}")?;
        }
        match (self.syncs, self.bitmap_writes) {
            (Some(syncs), Some(writes)) => writeln!(
                f,
                "           {}, {}",
                counted(syncs, "sync"),
                counted(writes, "bitmap write")
            ),
            _ => Ok(()),
        }
    }

    fn write_resizes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.went_on() {
            writeln!(
                f,
                "           a resize went on after the last request, until {}",
                time(self.elapsed_ns)
            )?;
        }
        for resize in &self.resizes {
            writeln!(
                f,
                "resized    before request {} by {}: {} to {}, {} moved, in {} \
                 ({} came meanwhile)",
                grouped(resize.at_request),
                resize.strategy,
                Bytes(resize.old_bytes),
                Bytes(resize.new_bytes),
                size(resize.moved_bytes),
                time(resize.elapsed_ns),
                counted(resize.requests_meanwhile, "request"),
            )?;
            if let Some(what) = resize.out_of_stock_reach() {
                writeln!(f, "           {what}")?;
            }
        }
        Ok(())
    }

    fn write_latency(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "latency           median       99 %     99.9 %    slowest"
        )?;
        let rows = [
            ("reads", self.latency.read),
            ("writes", self.latency.write),
            ("flushes", self.latency.flush),
            ("in resize", self.latency.during_resize),
        ];
        for (name, latency) in rows {
            if latency.count > 0 {
                let columns = [
                    latency.p50_ns,
                    latency.p99_ns,
                    latency.p999_ns,
                    latency.max_ns,
                ];
                write!(f, "  {name:<10}")?;
                for column in columns {
                    write!(f, " {:>10}", latency_time(column))?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }

    fn write_verified(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "verified   {} against the model in {}: {}",
            counted(self.sectors_verified, "sector"),
            time(self.verify_elapsed_ns),
            counted(self.mismatches, "mismatch")
        )?;
        if self.other_faults > 0 {
            writeln!(
                f,
                "           {} that no sector shows",
                counted(self.other_faults, "fault")
            )?;
        }
        if self.sectors_verified_zeros > 0 {
            writeln!(
                f,
                "           {} of them zeros, which other places have too",
                grouped(self.sectors_verified_zeros)
            )?;
        }
        if self.sectors_in_holes > 0 {
            writeln!(
                f,
                "           {} more in holes of the files, where zeros are right: not read, but for a \
                 sample of {}",
                grouped(self.sectors_in_holes),
                grouped(self.sectors_sampled)
            )?;
        }
        for example in &self.mismatch_examples {
            writeln!(f, "           {example}")?;
        }
        if let Some(more) = self.more_examples() {
            writeln!(f, "           {more}")?;
        }
        if let Some(why) = self.why_nothing_shows() {
            writeln!(f, "           {why}")?;
        }
        match self.backing_unchanged {
            Some(true) => writeln!(f, "           the backing file is unchanged, byte for byte"),
            Some(false) => writeln!(f, "           THE BACKING FILE HAS CHANGED"),
            None => Ok(()),
        }
    }
}
