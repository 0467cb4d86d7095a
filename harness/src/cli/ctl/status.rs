//! `ubdlab ctl SOCKET status`.

use std::fmt;

use driver::OneLine;
use driver::units::Bytes;

use crate::figures::{counted, grouped, size, time};
use crate::serve::control::{Answer, Asking, Request};
use crate::serve::{DeviceStatus, ResizeState, ResizeStatus};

use super::super::output::{self, InLines};
use super::super::{Failure, Verdict};
use super::record::RecordedText;
use super::{lost, unexpected};

pub(super) fn run(asking: &mut Asking, json: bool) -> Result<Verdict, Failure> {
    asking.ask(&Request::Status {}).map_err(lost)?;
    match asking.next_answer().map_err(lost)? {
        Answer::Status(status) if json => output::json(&status)?,
        Answer::Status(status) => output::lines(&Shown(&status)),
        other => return Err(unexpected(&other)),
    }
    Ok(Verdict::Good)
}

/// A status as text.
struct Shown<'a>(&'a DeviceStatus);

impl InLines for Shown<'_> {}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.0;
        let read_only = match status.read_only {
            true => ", read-only",
            false => "",
        };
        let dirty = size(status.dirty_bytes);
        writeln!(
            f,
            "device     {}: {}, {dirty} dirty{read_only}",
            OneLine(&status.file),
            Bytes(status.size_bytes),
        )?;
        let defects = match status.defects.len() as u64 {
            0 => String::new(),
            number => format!(", with {}", counted(number, "defect")),
        };
        writeln!(
            f,
            "driver     {}{defects}, by {}",
            OneLine(&status.driver),
            status.io.name()
        )?;
        match status.failed_sync {
            true => writeln!(
                f,
                "state      A SYNC HAS FAILED: what was written since the last flush that succeeded \
                 may be lost, and no flush succeeds any more. Start the host anew before the device \
                 is opened again"
            )?,
            false => writeln!(f, "state      good")?,
        }
        if let Some(changed) = &status.file_changed {
            writeln!(f, "file       {}", OneLine(changed))?;
        }
        writeln!(
            f,
            "requests   {} done, {} in flight with {} of data; {}",
            grouped(status.requests),
            status.in_flight,
            size(status.buffered_bytes),
            counted(status.syncs, "sync")
        )?;
        for client in &status.clients {
            writeln!(
                f,
                "client {:<3} {}: {}",
                client.number,
                OneLine(&client.name),
                counted(client.requests, "request")
            )?;
        }
        if let Some(resize) = &status.resize {
            writeln!(f, "resize     {}", ResizeText(resize))?;
            for note in &resize.notes {
                writeln!(f, "           {}", OneLine(note))?;
            }
        }
        match &status.recording {
            Some(recording) => writeln!(f, "recording  {}", RecordedText(recording)),
            None => Ok(()),
        }
    }
}

/// How a resize is doing, on one line.
struct ResizeText<'a>(&'a ResizeStatus);

impl fmt::Display for ResizeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resize = self.0;
        let [old, new] = [resize.old_size_bytes, resize.new_size_bytes].map(Bytes);
        write!(f, "{old} to {new}")?;
        if let Some(strategy) = &resize.strategy {
            write!(f, " by {}", OneLine(strategy))?;
        }
        let moved = size(resize.moved_bytes);
        let took = time(resize.elapsed_ns);
        let frontier = |f: &mut fmt::Formatter<'_>| match resize.frontier_sector {
            Some(frontier) => write!(f, ", {}", Frontier { frontier, old }),
            None => Ok(()),
        };
        match &resize.state {
            ResizeState::Done => write!(f, ": done in {took}, {moved} moved"),
            ResizeState::Failed { error } => {
                write!(f, ": failed after {took}: {}", OneLine(error))
            }
            ResizeState::Left => {
                f.write_str(": was interrupted, and is left as it is: read-only")?;
                frontier(f)
            }
            ResizeState::Unfinished { error } => {
                write!(f, ": {moved} moved in {took}: {}", OneLine(error))
            }
            ResizeState::Running => {
                let seconds = resize.elapsed_ns as f64 / 1e9;
                let rate = (resize.moved_bytes as f64 / seconds.max(1e-9)) as u64;
                write!(f, ": {moved} ")?;
                if let Some(most) = resize.to_move_bytes {
                    write!(f, "of at most {} ", size(most.max(resize.moved_bytes)))?;
                }
                write!(f, "moved in {took}, {} a second", size(rate))?;
                frontier(f)
            }
        }
    }
}

/// How far down a reflow has come, from the end of the old size to the first sector.
struct Frontier {
    frontier: u64,
    old: Bytes,
}

impl fmt::Display for Frontier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frontier { frontier, old } = *self;
        let all = old.whole_sectors().0.max(1);
        let done = u128::from(all.saturating_sub(frontier)) * 100 / u128::from(all);
        write!(
            f,
            "frontier at sector {frontier} of {all}: {done} % of them are at their new place"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::ClientStatus;

    #[test]
    fn a_status_says_plainly_that_a_sync_has_failed() {
        let mut status = DeviceStatus {
            file: "root\n.cow".into(),
            driver: "ordered".into(),
            defects: Vec::new(),
            io: crate::device::Taken::Threads,
            read_only: false,
            size_bytes: 1 << 30,
            dirty_bytes: 1 << 20,
            failed_sync: false,
            file_changed: None,
            in_flight: 3,
            buffered_bytes: 4096,
            requests: 12_345,
            syncs: 1,
            clients: vec![ClientStatus {
                number: 7,
                name: "NBD".into(),
                requests: 1,
            }],
            resize: Some(ResizeStatus {
                old_size_bytes: 1 << 30,
                new_size_bytes: 3 << 30,
                strategy: Some("reflow".into()),
                moved_bytes: 256 << 20,
                to_move_bytes: Some(1 << 30),
                frontier_sector: Some(1 << 20),
                notes: vec!["it costs\nmore".into()],
                elapsed_ns: 2_000_000_000,
                state: ResizeState::Running,
            }),
            recording: None,
        };
        let text = Shown(&status).to_string();
        let expected = "\
device     root\\n.cow: 1 GiB, 1 MiB dirty
driver     ordered, by threads
state      good
requests   12,345 done, 3 in flight with 4 KiB of data; 1 sync
client 7   NBD: 1 request
resize     1 GiB to 3 GiB by reflow: 256 MiB of at most 1 GiB moved in 2.00 s, 128 MiB a second, \
frontier at sector 1048576 of 2097152: 50 % of them are at their new place
           it costs\\nmore
";
        assert_eq!(text, expected);
        // Of one that is taken up again nobody knows how much there is to move.
        if let Some(resize) = &mut status.resize {
            resize.to_move_bytes = None;
        }
        let text = Shown(&status).to_string();
        let moved = "by reflow: 256 MiB moved in 2.00 s, 128 MiB a second, frontier at ";
        assert!(text.contains(moved), "{text}");
        status.failed_sync = true;
        let text = Shown(&status).to_string();
        let state = "\nstate      A SYNC HAS FAILED: what was written since the last flush that \
                     succeeded may be lost, and no flush succeeds any more. Start the host anew \
                     before the device is opened again\n";
        assert!(text.contains(state), "{text}");
        assert!(!text.contains("good"));
    }
}
