//! Contenders in turns, and the rows of what they came to.

use crate::bench::{BenchError, Row, Settings, Unit, median};

use super::contender::Contender;

/// Turns of each. The first one only warms up; of the others the median counts.
const TURNS: usize = 5;

/// The most characters of an error that a row has room for.
const LONGEST_REASON: usize = 80;

/// Each contender's rate, or why it has none.
pub(super) struct Rates(Vec<(Contender, Result<f64, String>)>);

/// Gives each contender its turns. A peer that fails once has no more of them; of ours an error is
/// one.
pub(super) fn in_turns(
    settings: Settings<'_>,
    contenders: &[Contender],
    mut turn: impl FnMut(Contender) -> Result<f64, BenchError>,
) -> Result<Rates, BenchError> {
    let begun = contenders.iter().map(|&contender| {
        let needs = contender.missing().map(|needs| format!("needs {needs}"));
        (contender, needs.map_or(Ok(Vec::new()), Err))
    });
    let mut rates: Vec<(_, Result<Vec<f64>, String>)> = begun.collect();
    for number in 0..TURNS {
        for (contender, so_far) in &mut rates {
            settings.check_stop()?;
            let Ok(seen) = so_far else {
                continue;
            };
            match turn(*contender) {
                Ok(_) if number == 0 => {}
                Ok(rate) => seen.push(rate),
                Err(BenchError::Interrupted) => return Err(BenchError::Interrupted),
                Err(error) if contender.is_ours() => return Err(error),
                Err(error) => *so_far = Err(reason(&error)),
            }
        }
    }
    let medians = rates
        .into_iter()
        .map(|(contender, rates)| (contender, rates.map(|rates| median(&rates))));
    Ok(Rates(medians.collect()))
}

/// The last line of an error: the first has the whole command.
fn reason(error: &BenchError) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    let skipped = last.chars().count().saturating_sub(LONGEST_REASON);
    last.chars().skip(skipped).collect()
}

impl Rates {
    /// The rate of ours beside the best peer's, with its target, and beside each by itself. Ours
    /// is the first contender.
    pub(super) fn rows(&self, name: &str, target: f64) -> Vec<Row> {
        let Some((_, Ok(own))) = self.0.first() else {
            return Vec::new();
        };
        let row = Row::new(name, *own, Unit::PerSecond);
        let rivals = self.0.iter().filter(|(contender, _)| contender.is_rival());
        let rates = rivals.filter_map(|(contender, rate)| Some((contender, rate.as_ref().ok()?)));
        let best = rates.max_by(|one, other| one.1.total_cmp(other.1));
        let against_best = best.map(|(contender, rate)| {
            let baseline = format!("best of all: {}", contender.name());
            row.clone().against(baseline, *rate).target(target)
        });
        let first = against_best.unwrap_or_else(|| row.clone());
        let others = self.0.iter().skip(1).map(|(contender, rate)| match rate {
            Ok(rate) => row.clone().against(contender.name(), *rate),
            Err(why) => {
                let mut row = row.clone();
                row.baseline = Some(format!("{}: skipped: {why}", contender.name()));
                row
            }
        });
        std::iter::once(first).chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicBool;

    use driver::units::Bytes;

    use super::*;
    use crate::device::Io;

    #[test]
    fn the_best_peer_is_the_one_to_beat_and_none_that_failed_is_forgotten() {
        let ours = Contender::Ours(Io::Auto);
        let rates = Rates(vec![
            (ours, Ok(300.0)),
            (Contender::NoDisk, Ok(900.0)),
            (Contender::CowFilter, Err("needs nbdkit".into())),
            (
                Contender::all(super::super::contender::Protocol::Fuse, None)[3],
                Ok(200.0),
            ),
        ]);
        let rows = rates.rows("serve/x", 2.0);
        let found: Vec<_> = rows.iter().map(|row| (row.ratio, row.met)).collect();
        assert_eq!(found[0], (Some(1.5), Some(false)));
        assert_eq!(
            found[1..],
            [(Some(300.0 / 900.0), None), (None, None), (Some(1.5), None)]
        );
        let skipped = rows[2].baseline.as_deref().unwrap();
        assert!(skipped.ends_with("skipped: needs nbdkit"), "{skipped}");
    }

    #[test]
    fn the_first_turn_only_warms_up_and_an_error_of_ours_is_one() {
        let stop = AtomicBool::new(false);
        let settings = Settings {
            directory: Path::new("/"),
            program: Path::new("/"),
            dirty: Bytes(0),
            io: None,
            only: &crate::bench::Only::default(),
            stop: &stop,
        };
        let ours = [Contender::Ours(Io::Auto)];
        let mut turn = 0;
        let rates = in_turns(settings, &ours, |_| {
            turn += 1;
            Ok(if turn == 1 { 1e9 } else { 7.0 })
        });
        let rows = rates.unwrap().rows("serve/x", 1.0);
        let found: Vec<_> = rows.iter().map(|row| (row.value, row.ratio)).collect();
        assert_eq!(found, [(7.0, None)], "there is nobody beside it");
        assert_eq!(turn, TURNS);
        let failed = in_turns(settings, &ours, |_| Err(BenchError::Device("no".into())));
        assert!(failed.is_err());
    }
}
