//! The options of a replay of each volume, in text: what two shards have to have in common.

use clap::ValueEnum;

use crate::trace::Nanoseconds;

use super::super::driver_arg::{AnyDriverArg, DriverArgs, IoArg};
use super::super::reading::{EventArg, Reading};
use super::super::resize_arg::StrategyArg;
use super::{Args, PaceArg, PastEndArg};

/// The options that are not the usual ones, but for those that say where results go, which shard
/// it is, and how many volumes are replayed side by side.
pub(super) fn of(args: &Args) -> String {
    // Each field is named: a new one has to be thought of.
    let Args {
        command: _,
        trace: _,
        trace_device: _,
        each_device: _,
        shard: _,
        checkpoint: _,
        jobs: _,
        reading,
        driver: DriverArgs { driver, defect, io },
        kernel: _,
        skip_unsupported,
        device: _,
        memory,
        stamps_only,
        size,
        memory_limit,
        out: _,
        resize_at,
        strategy,
        shrink,
        lose_data,
        past_end,
        pace,
        speed,
        depth,
        switch_backing: _,
        backing_format: _,
        confine_backing: _,
        json: _,
        report: _,
    } = args;
    let mut text = OptionsText::default();
    text.value_of("--driver", *driver, AnyDriverArg::ORDERED);
    for name in defect {
        text.value("--defect", name);
    }
    text.flag("--skip-unsupported", *skip_unsupported);
    text.value_of("--io", *io, IoArg::Auto);
    text.flag("--memory", *memory);
    text.flag("--stamps-only", *stamps_only);
    if let Some(size) = size {
        text.value("--size", size.0);
    }
    if *memory_limit != crate::replay::limits::USUAL_MEMORY {
        text.value("--memory-limit", memory_limit.0);
    }
    for at in resize_at {
        let strategy = at
            .strategy
            .map(|strategy| format!(":{}", name_of(strategy)));
        let strategy = strategy.unwrap_or_default();
        text.value(
            "--resize-at",
            format_args!("{}:{}{strategy}", at.request, at.size.0),
        );
    }
    text.value_of("--strategy", *strategy, StrategyArg::Auto);
    text.flag("--shrink", *shrink);
    text.flag("--lose-data", *lose_data);
    text.value_of("--past-end", *past_end, PastEndArg::Refuse);
    text.value_of("--pace", *pace, PaceArg::Asap);
    if let Some(speed) = speed {
        text.value("--speed", speed);
    }
    if *depth != super::USUAL_DEPTH {
        text.value("--depth", depth);
    }
    text.reading(reading);
    text.0.join(" ")
}

#[derive(Default)]
struct OptionsText(Vec<String>);

impl OptionsText {
    fn flag(&mut self, name: &str, is_given: bool) {
        self.0.extend(is_given.then(|| name.to_owned()));
    }

    fn value(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push(format!("{name} {value}"));
    }

    fn value_of<V: ValueEnum + PartialEq>(&mut self, name: &str, value: V, usual: V) {
        if value != usual {
            self.value(name, name_of(value));
        }
    }

    fn reading(&mut self, reading: &Reading) {
        let Reading {
            event,
            allow_lost_events,
            skip_bad,
            skip,
            limit,
            from,
            to,
        } = reading;
        if let Some(event) = event {
            self.value("--event", name_of::<EventArg>(*event));
        }
        self.flag("--allow-lost-events", *allow_lost_events);
        self.flag("--skip-bad", *skip_bad);
        if *skip > 0 {
            self.value("--skip", skip);
        }
        if let Some(limit) = limit {
            self.value("--limit", limit);
        }
        for (name, time) in [("--from", from), ("--to", to)] {
            if let Some(Nanoseconds(ns)) = time {
                self.value(name, format_args!("{ns}ns"));
            }
        }
    }
}

fn name_of<V: ValueEnum>(value: V) -> String {
    let value = value.to_possible_value();
    value.map_or(String::new(), |value| value.get_name().to_owned())
}
