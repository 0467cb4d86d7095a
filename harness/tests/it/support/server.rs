//! A server of a device as a process: it has begun to serve when it is made, and is gone when the
//! test ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::cli::{Sandbox, ubdlab_that_heeds_signals};

/// `ubdlab serve`, and what it says.
pub(crate) struct Server {
    child: Child,
    /// What it said until it served.
    begun: String,
    said: Arc<Said>,
    /// Reads what comes on standard error.
    reader: Option<JoinHandle<()>>,
}

/// What has come on standard error.
#[derive(Default)]
struct Said {
    all: Mutex<String>,
    more: Condvar,
}

impl Server {
    /// Starts it in the sandbox, and waits until it serves.
    pub(crate) fn start(sandbox: &Sandbox, args: &[&str]) -> Server {
        let mut command = ubdlab_that_heeds_signals();
        let args = sandbox.args(args);
        command
            .arg("serve")
            .args(args)
            .current_dir(sandbox.path(""));
        Server::of(command)
    }

    /// What `command` starts, and waits until it serves.
    pub(crate) fn of(mut command: Command) -> Server {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let begun = until_it_serves(&mut stderr);
        let said = Arc::new(Said::default());
        said.all.lock().unwrap().push_str(&begun);
        let into = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).unwrap_or(0) > 0 {
                into.all.lock().unwrap().push_str(&line);
                into.more.notify_all();
                line.clear();
            }
        });
        Server {
            child,
            begun,
            said,
            reader: Some(reader),
        }
    }

    /// What it said when it began to serve, which says where.
    pub(crate) fn begun(&self) -> &str {
        &self.begun
    }

    /// The process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The most memory that it has had so far, in MiB.
    pub(crate) fn most_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() >> 10
    }

    /// Waits until it has said `words`.
    pub(crate) fn wait_until_it_says(&self, words: &str) {
        let all = self.said.all.lock().unwrap();
        let is_missing = |all: &mut String| !all.contains(words);
        drop(self.said.more.wait_while(all, is_missing).unwrap());
    }

    /// Sends it a signal.
    pub(crate) fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it ends; its exit status, or `None` if a signal has ended it, and all it said.
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let said = self.all_it_said();
        (status.code(), said)
    }

    /// When it has ended.
    fn all_it_said(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.said.all.lock().unwrap().clone()
    }

    /// Stops it, which has to end well; what it said.
    pub(crate) fn stop(self) -> String {
        self.send(Signal::TERM);
        let (status, said) = self.wait();
        assert_eq!(status, Some(0), "{said}");
        said
    }

    /// Ends it without a chance to do anything more.
    pub(crate) fn kill(self) {
        self.send(Signal::KILL);
        self.wait();
    }
}

fn until_it_serves(stderr: &mut BufReader<ChildStderr>) -> String {
    let mut all = String::new();
    loop {
        let before = all.len();
        let read = stderr.read_line(&mut all).unwrap();
        assert_ne!(read, 0, "it ended early: {all}");
        if all[before..].starts_with("serving ") {
            return all;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where it has ended already, both fail.
        let _ = self.child.kill();
        let status = self.child.wait();
        if std::thread::panicking() {
            // What it said may be why the test has failed.
            eprintln!("the server, {status:?}: {}", self.all_it_said());
        }
    }
}
