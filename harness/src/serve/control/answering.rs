//! What each request to a control socket does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use driver::blk::Status;
use driver::shown;
use driver::units::Bytes;
use userhelper::planner::{Shrink, Wish};

use super::super::client::Job;
use super::super::export::Export;
use super::super::record::Recorder;
use super::super::server::Ending;
use super::super::status::ResizeState;
use super::Clients;
use super::connection::Cut;
use super::message::{Answer, Request, ResizeAnswer, WishedStrategy};

/// How often it is said how far a resize is.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// How often it is looked whether a resize that nobody waits for is planned.
const LOOK_EVERY: Duration = Duration::from_millis(20);

type Say<'a> = &'a mut dyn FnMut(&Answer) -> Result<(), Cut>;

/// Does what is asked for, and says what came of it.
pub(super) fn answer(request: Request, shared: &Arc<Clients>, say: Say<'_>) -> Result<(), Cut> {
    let export = &shared.export;
    let last = match request {
        Request::Status {} => match export.status() {
            Ok(status) => Answer::Status(Box::new(status)),
            Err(error) => Answer::Error(error.to_string()),
        },
        Request::Resize {
            size_bytes,
            change_bytes,
            strategy,
            shrink,
            lose_data,
            detach,
        } => match wish(
            export,
            size_bytes,
            change_bytes,
            strategy,
            shrink,
            lose_data,
        ) {
            Ok(wish) => resize(export, wish, detach, say)?,
            Err(error) => Answer::Error(error),
        },
        Request::Plan {
            size_bytes,
            change_bytes,
            strategy,
            shrink,
            lose_data,
        } => match wish(
            export,
            size_bytes,
            change_bytes,
            strategy,
            shrink,
            lose_data,
        ) {
            Ok(wish) => plan(export, wish),
            Err(error) => Answer::Error(error),
        },
        Request::Record { file, off } => record(export, file, off, say)?,
        Request::Flush {} => match flush(export) {
            Ok(()) => Answer::Flushed(true),
            Err(error) => Answer::Error(error),
        },
        Request::Stop {} => {
            export.end(Ending::Asked);
            match shared.ended() {
                Ok(()) => Answer::Stopped(true),
                Err(error) => Answer::Error(error),
            }
        }
    };
    say(&last)
}

fn wish(
    export: &Export,
    size: Option<u64>,
    change: Option<i64>,
    strategy: Option<WishedStrategy>,
    shrink: bool,
    lose_data: bool,
) -> Result<Wish, String> {
    let old = export.capacity().bytes();
    let new_size = match (size, change) {
        (Some(size), None) => Some(size),
        (None, Some(change)) => old.0.checked_add_signed(change),
        _ => return Err("expected either size_bytes or change_bytes".into()),
    };
    let Some(new_size) = new_size.filter(|&size| size > 0 && size <= i64::MAX as u64) else {
        return Err(match change {
            Some(change) => format!("the device has no such size: {old} {change:+} bytes"),
            None => "the device has no such size".into(),
        });
    };
    let shrink = match (shrink, lose_data) {
        (false, true) => return Err("expected shrink together with lose_data".into()),
        (false, false) => Shrink::Refuse,
        (true, false) => Shrink::KeepingData,
        (true, true) => Shrink::LosingData,
    };
    Ok(Wish {
        new_size: Bytes(new_size),
        strategy: strategy.map(Into::into),
        shrink,
        online: true,
    })
}

fn plan(export: &Export, wish: Wish) -> Answer {
    match export.plan_resize(wish) {
        Ok(plan) => Answer::Planned((&plan).into()),
        Err(error) => Answer::Error(format!("{}: {error}", shown(&export.about().path))),
    }
}

/// Resizes the device on a thread of its own, which goes on when the client has gone.
fn resize(export: &Export, wish: Wish, detach: bool, say: Say<'_>) -> Result<Answer, Cut> {
    let (done, ended) = bounded(1);
    let resized = export.clone();
    let work = move || {
        let outcome = resized.resize_with_notes(wish);
        resized.tell_resized(outcome.as_ref().map(|(resized, _)| resized));
        // Nobody waits for it if the client has gone.
        let _ = done.send(outcome);
    };
    let thread = std::thread::Builder::new().name("resize".into());
    if let Err(error) = thread.spawn(work) {
        return Ok(Answer::Error(driver::system_words(error)));
    }
    let every = match detach {
        true => LOOK_EVERY,
        false => TELL_EVERY,
    };
    loop {
        match ended.recv_timeout(every) {
            Ok(Ok((resized, notes))) => {
                return Ok(Answer::Resized(ResizeAnswer {
                    strategy: resized.strategy.to_string(),
                    old_size_bytes: resized.old_size.0,
                    new_size_bytes: resized.new_size.0,
                    moved_bytes: resized.moved.0,
                    notes,
                }));
            }
            Ok(Err(error)) => {
                let file = shown(&export.about().path);
                return Ok(Answer::Error(format!("{file}: {error}")));
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Answer::Error("the resize has ended with a panic".into()));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let status = export.resizing().status();
        let running = status.filter(|status| status.state == ResizeState::Running);
        match running {
            Some(status) if !detach => say(&Answer::Resizing(status))?,
            Some(status) if status.strategy.is_some() => return Ok(Answer::Detached(status)),
            _ => {}
        }
    }
}

fn record(export: &Export, file: Option<String>, off: bool, say: Say<'_>) -> Result<Answer, Cut> {
    let begun = match (file, off) {
        (Some(file), false) if Path::new(&file).is_absolute() => {
            match Recorder::begin(Path::new(&file), export) {
                Ok(recorder) => Some(recorder),
                Err(error) => return Ok(Answer::Error(error)),
            }
        }
        (Some(file), false) => {
            let file = shown(Path::new(&file));
            return Ok(Answer::Error(format!("{file}: expected an absolute path")));
        }
        (None, true) => None,
        _ => return Ok(Answer::Error("expected either file or off".into())),
    };
    let recording = begun.as_ref().map(Recorder::status);
    let earlier = export.record_to(begun);
    let ended = earlier.map(Recorder::finish);
    match (recording, ended) {
        (Some(recording), earlier) => {
            match earlier {
                Some(Ok(recorded)) => say(&Answer::Recorded(recorded))?,
                // The new one goes on.
                Some(Err(error)) => export.tell(&error),
                None => {}
            }
            Ok(Answer::Recording(recording))
        }
        (None, Some(Ok(recorded))) => Ok(Answer::Recorded(recorded)),
        (None, Some(Err(error))) => Ok(Answer::Error(error)),
        (None, None) => Ok(Answer::Error("nothing is recorded".into())),
    }
}

fn flush(export: &Export) -> Result<(), String> {
    let (submitter, completer) = export.client::<()>("control: flush".into());
    let submitted = submitter.submit([(Job::Flush, (), None)]);
    submitted.map_err(|refused| match refused.into_iter().next() {
        Some(refused) => refused.error.to_string(),
        None => "the device does not go on".into(),
    })?;
    let done = completer.next_batch().map_err(|error| error.to_string())?;
    let status = done.into_iter().flatten().map(|done| done.status).next();
    match status {
        Some(Status::Ok) => Ok(()),
        _ => Err(match export.status() {
            Ok(status) if status.failed_sync => {
                "a sync has failed: what was written since the last flush that succeeded may be \
                 lost; start the host anew before the device is opened again"
                    .into()
            }
            _ => "the flush has failed".into(),
        }),
    }
}
