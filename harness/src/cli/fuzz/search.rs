//! A campaign of a driver that runs in this program.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::fuzz::campaign::result::CampaignResult;
use crate::fuzz::campaign::{self, Campaign, Stop};
use crate::report::fuzz_page;
use crate::shard::Shard;

use super::super::checkpoint_file::Foreign;
use super::super::driver_arg::DriverArg;
use super::super::interrupt::{self, Interrupt};
use super::super::output;
use super::super::output_file::{OutputFile, not_created};
use super::super::page::PageFile;
use super::super::{Failure, Verdict, wrong_usage};
use super::checkpoint::CampaignCheckpoint;
use super::keeper::{self, Keeper};
use super::report::Report;
use super::{Args, quietly};

/// Cases, if nothing is said of them.
const CASES: u64 = 2000;

/// What is said of a sitting after which the next one is where it was itself.
const NOTHING_FINISHED: &str =
    "no case was finished before the signal came: the command that goes on begins them anew";

/// What a scheduler sends before it takes a machine away.
const SIGTERM: u8 = signal_hook::consts::SIGTERM as u8;

/// Runs it, and reports.
pub(super) fn search(args: &Args, driver: DriverArg) -> Result<Verdict, Failure> {
    let subject = match args.subject(driver) {
        Ok(subject) => subject,
        Err(what) => return Ok(wrong_usage(what)),
    };
    let campaign = Campaign {
        subject,
        seed: args.seed,
        stop: match (args.duration, args.cases) {
            (Some(duration), _) => Stop::Duration(duration),
            (None, cases) => Stop::Cases(cases.unwrap_or(CASES)),
        },
        shard: args.shard.unwrap_or(Shard::WHOLE),
        jobs: args.jobs(),
        shrinks: true,
    };
    let own = args.own_files(keeper::may_be_finding);
    if let Err(what) = own.check() {
        return Ok(wrong_usage(what));
    }
    if let Some(directory) = &args.out {
        std::fs::create_dir_all(directory).map_err(|error| not_created(directory, &error))?;
    }
    let checkpoint = args.checkpoint.as_deref().map(CampaignCheckpoint::new);
    let page = PageFile::begin(args.report.as_deref(), None)?;
    if let Some(file) = &args.result {
        // A place that takes no file is refused before the work.
        drop(OutputFile::create(file)?);
    }
    let state = match &checkpoint {
        Some(checkpoint) => match checkpoint.read(&campaign)? {
            Ok(state) => state,
            Err(Foreign(what)) => return Ok(wrong_usage(what)),
        },
        None => campaign::State::default(),
    };
    let before = state.finished.count();
    let interrupt = Interrupt::catch();
    if checkpoint.is_some() {
        interrupt.bear_repeated_sigterm();
    }
    let mut keeper = Keeper::new(&campaign, args.out.as_deref(), &own, checkpoint);
    let stop = {
        let (interrupt, gave_up) = (interrupt.clone(), Arc::clone(&keeper.gave_up));
        let (has_checkpoint, progressed) = (args.checkpoint.is_some(), keeper.progressed());
        // There is nothing to write down yet, and nothing is lost if SIGKILL comes meanwhile. The
        // next sitting would be where this one was.
        let goes_on = move || {
            let is_asked_to_save = has_checkpoint && interrupt::signal() == Some(SIGTERM);
            is_asked_to_save && !progressed.load(Ordering::Relaxed)
        };
        Arc::new(move || gave_up.load(Ordering::Relaxed) || interrupt.is_asked() && !goes_on())
    };
    let outcome = quietly(|| campaign::run_from(&campaign, state, stop, &mut keeper));
    let (findings, failure) = keeper.finish();
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Err(failure.unwrap_or_else(|| Failure::operation(error))),
    };
    let mut result = CampaignResult::of(&campaign, &outcome, findings);
    result.ended_by_signal = interrupt::signal();
    let verdict = report(&result, args.json, page)?;
    let is_idle = result.ended_by_signal.is_some() && outcome.cases == before;
    if is_idle && args.checkpoint.is_some() && before < campaign.cases_of_shard() {
        output::remark(NOTHING_FINISHED);
    }
    // What was found has been told by now.
    if let Some(failure) = failure {
        return Err(failure);
    }
    if let (Some(file), None) = (&args.result, result.ended_by_signal) {
        let text = serde_json::to_string_pretty(&result).map_err(Failure::operation)?;
        OutputFile::create(file)?.write_whole(text + "\n")?;
    }
    Ok(verdict)
}

/// Prints a result, and writes its page.
pub(super) fn report(
    result: &CampaignResult,
    json: bool,
    page: PageFile<'_>,
) -> Result<Verdict, Failure> {
    let report = Report(result);
    match json {
        true => output::json(result)?,
        false => output::lines(&report),
    }
    page.write(|| Ok(fuzz_page(&report.page()?)))?;
    Ok(match (result.ended_by_signal, result.findings.is_empty()) {
        (Some(signal), _) => Verdict::EndedBySignal(signal),
        (None, true) => Verdict::Good,
        (None, false) => Verdict::ViolationFound,
    })
}
