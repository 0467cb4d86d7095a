//! The files in `deploy/`, with the schedulers that they are for: what they leave adds up to the
//! campaign in one piece, also where a task was killed in the middle.

use std::fs::{File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::fuzz_shards::TIMES;
use crate::support::cli::{PROGRAM, Sandbox, output};
use crate::support::peers::peer;
use crate::support::waits::until;

/// How many shards; also in `deploy/`.
pub(crate) const SHARDS: u32 = 8;

/// The campaign: it finds something, and a shard of it takes a while.
pub(crate) const OPTIONS: [&str; 3] = ["--driver=linux-6.12", "--defect=flush-noop", "--cases=160"];

pub(crate) fn deploy() -> PathBuf {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    deploy.canonicalize().unwrap()
}

/// A result, without times.
pub(crate) fn result(text: &[u8]) -> Value {
    let mut result: Value = serde_json::from_slice(text).unwrap();
    let fields = result.as_object_mut().unwrap();
    for time in TIMES {
        assert!(fields.remove(time).is_some(), "{time}");
    }
    result
}

/// What the campaign in one piece comes to.
pub(crate) fn in_one_piece(sandbox: &Sandbox) -> Value {
    let output = sandbox.run(&[&["fuzz", "--json"], &OPTIONS[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    result(&output.stdout)
}

/// Waits until the first shard has written a checkpoint, and so is in the middle of its work.
pub(crate) fn wait_for_a_checkpoint(campaign: &Path, mut still_runs: impl FnMut()) {
    let checkpoint = campaign.join(format!("1-of-{SHARDS}.checkpoint"));
    until("the first shard has written a checkpoint", || {
        still_runs();
        checkpoint.exists()
    });
}

/// What runs the shard has not ended.
pub(crate) fn still_runs(child: &mut Child) {
    let ended = child.try_wait().unwrap();
    assert!(ended.is_none(), "it ended early: {ended:?}");
}

/// What runs a command as the first process of a PID namespace, and reaps what others leave behind.
///
/// Slurm takes a job for ended when no process is in its process group any more. A helper of srun's
/// becomes an orphan in there, and one that has ended stays until the first process reaps it. Not
/// every machine's does that soon. After a minute of it Slurm sets the node aside.
const REAPING: &str = r#""$0" "$@" & wait"#;

/// A cluster of this machine alone, whose daemons are children of this process.
struct Slurm {
    directory: tempfile::TempDir,
    /// Each with the signal that ends it; the last one started is ended first.
    daemons: Vec<(Child, Signal)>,
}

impl Slurm {
    /// Starts it, if it is installed.
    fn start() -> Option<Slurm> {
        let [munged, slurmctld, slurmd] = ["munged", "slurmctld", "slurmd"].map(peer);
        let (munged, slurmctld, slurmd) = (munged?, slurmctld?, slurmd?);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: slurmd starts jobs as root only");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("slurm-").tempdir().unwrap();
        let mut slurm = Slurm {
            directory,
            daemons: Vec::new(),
        };
        for name in ["state", "spool"] {
            std::fs::create_dir(slurm.path(name)).unwrap();
        }
        let key: Vec<u8> = (0..=255).collect();
        std::fs::write(slurm.path("key"), key).unwrap();
        std::fs::set_permissions(slurm.path("key"), Permissions::from_mode(0o600)).unwrap();
        std::fs::write(slurm.path("slurm.conf"), slurm.configuration()).unwrap();
        let option = |option: &str, name: &str| {
            let mut argument = std::ffi::OsString::from(option);
            argument.push(slurm.path(name));
            argument
        };
        let munge = [
            option("--socket=", "munge"),
            option("--key-file=", "key"),
            option("--pid-file=", "munge.pid"),
            option("--log-file=", "munge.log"),
            option("--seed-file=", "seed"),
        ];
        let configuration = slurm.path("slurm.conf");
        slurm.run_daemon(
            Command::new(munged)
                .args(["--foreground", "--force"])
                .args(munge),
            Signal::TERM,
        );
        until("munged has its socket", || {
            slurm.assert_all_alive();
            slurm.path("munge").exists()
        });
        slurm.run_daemon(
            Command::new(slurmctld)
                .arg("-D")
                .arg("-f")
                .arg(&configuration),
            Signal::TERM,
        );
        slurm.run_daemon(
            Command::new("unshare")
                .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
                .args(["sh", "-c", REAPING])
                .arg(slurmd)
                .arg("-D")
                .arg("-f")
                .arg(&configuration),
            // The namespace ends with it, whatever runs there.
            Signal::KILL,
        );
        // A job waits for its node; before that, its command waits for the controller.
        until("the cluster runs a command", || {
            slurm.assert_all_alive();
            output(slurm.command("srun").arg("true")).status.success()
        });
        Some(slurm)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configuration(&self) -> String {
        let directory = self.directory.path().display();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim();
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [controller, node] = listeners.map(|it| it.local_addr().unwrap().port());
        format!(
            "ClusterName=ubdlab\n\
             SlurmctldHost={host}(127.0.0.1)\n\
             SlurmctldPort={controller}\n\
             SlurmdPort={node}\n\
             SlurmUser=root\n\
             SlurmdUser=root\n\
             AuthType=auth/munge\n\
             AuthInfo=socket={directory}/munge,cred_expire=5\n\
             StateSaveLocation={directory}/state\n\
             SlurmdSpoolDir={directory}/spool\n\
             SlurmctldPidFile={directory}/slurmctld.pid\n\
             SlurmdPidFile={directory}/slurmd.pid\n\
             SlurmctldLogFile={directory}/slurmctld.log\n\
             SlurmdLogFile={directory}/slurmd.log\n\
             ProctrackType=proctrack/pgid\n\
             TaskPlugin=task/none\n\
             MpiDefault=none\n\
             SelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core\n\
             ReturnToService=2\n\
             SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1\n\
             SlurmdParameters=config_overrides\n\
             NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=2048\n\
             PartitionName=main Nodes={host} Default=YES State=UP\n"
        )
    }

    fn run_daemon(&mut self, command: &mut Command, ended_by: Signal) {
        let log = File::create(self.path(&format!("daemon-{}", self.daemons.len()))).unwrap();
        let command = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.daemons.push((command.spawn().unwrap(), ended_by));
    }

    fn assert_all_alive(&mut self) {
        for (number, (daemon, _)) in self.daemons.iter_mut().enumerate() {
            let ended = daemon.try_wait().unwrap();
            let log = self.directory.path().join(format!("daemon-{number}"));
            let log = || std::fs::read_to_string(log).unwrap();
            assert!(ended.is_none(), "a daemon has ended: {ended:?}: {}", log());
        }
    }

    /// A command of Slurm's for this cluster.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("SLURM_CONF", self.path("slurm.conf"))
            .stdin(Stdio::null());
        command.current_dir(self.directory.path());
        command
    }

    fn says(&self, program: &str, args: &[&str]) -> String {
        let output = output(self.command(program).args(args));
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        // What it runs, and then itself.
        if self.daemons.len() > 1 {
            let _ = self.command("scancel").args(["--user", "root"]).status();
        }
        while let Some((mut daemon, signal)) = self.daemons.pop() {
            let _ = kill_process(Pid::from_child(&daemon), signal);
            let _ = daemon.wait();
        }
    }
}

#[test]
fn slurm_runs_the_shards_again_that_were_killed() {
    let Some(mut slurm) = Slurm::start() else {
        return;
    };
    let sandbox = Sandbox::new();
    let campaign = sandbox.path("campaign");
    let mut submit = slurm.command("sbatch");
    submit
        .arg("--parsable")
        .arg(deploy().join("slurm.sh"))
        .arg(&campaign)
        .args(OPTIONS);
    let submitted = output(submit.env("DEPLOY", deploy()).env("UBDLAB", PROGRAM));
    assert!(submitted.status.success(), "{submitted:?}");
    let array = String::from_utf8(submitted.stdout)
        .unwrap()
        .trim()
        .to_owned();
    wait_for_a_checkpoint(&campaign, || slurm.assert_all_alive());
    // The first task's job has a number of its own, and what it runs is its first step.
    let first = format!("{array}_1");
    let job = slurm.says(
        "squeue",
        &["--noheader", "--jobs", &first, "--format", "%A"],
    );
    let job = job.trim();
    slurm.says("scancel", &["--signal=KILL", &format!("{job}.0")]);
    // Slurm starts this when the array is done. What it passes on of a command's output may lack
    // the end.
    let mut merge = slurm.command("srun");
    merge.arg(format!("--dependency=afterany:{array}"));
    merge.args(["sh", "-c", r#""$0" fuzz merge --json "$1" >"$1/merged""#]);
    let merged = output(merge.arg(PROGRAM).arg(&campaign));
    assert_eq!(merged.status.code(), Some(1), "{merged:?}");
    let merged = std::fs::read(campaign.join("merged")).unwrap();
    assert_eq!(result(&merged), in_one_piece(&sandbox));
    let told = slurm.says("scontrol", &["show", "job", job]);
    assert!(told.contains(" Restarts=1 "), "{told}");
    assert!(told.contains("JobState=COMPLETED "), "{told}");
    slurm.assert_all_alive();
}

/// The process that runs the first shard, if one does.
fn first_shard_at_work(campaign: &Path) -> Option<Pid> {
    let shard = format!("1/{SHARDS}");
    let checkpoint = campaign.join(format!("1-of-{SHARDS}.checkpoint"));
    let entries = std::fs::read_dir("/proc").unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut pids = paths.filter_map(|path| {
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        // It may have ended meanwhile.
        let arguments = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let has = |it: &[u8]| {
            let mut arguments = arguments.split(|&byte| byte == 0);
            arguments.any(|argument| argument == it)
        };
        let is_it = arguments.starts_with(PROGRAM.as_bytes())
            && has(shard.as_bytes())
            && has(checkpoint.as_os_str().as_encoded_bytes());
        is_it.then_some(pid)
    });
    pids.next().and_then(Pid::from_raw)
}

fn first_shard(campaign: &Path) -> Pid {
    let mut found = None;
    until("the first shard runs", || {
        found = first_shard_at_work(campaign);
        found.is_some()
    });
    found.unwrap()
}

/// An ssh that finds all machines here, with nothing of the environment but what every login has.
const SSH: &str = r#"#!/bin/sh
before=
until [ "$1" = other ]; do
    before="$before$1 "
    shift
done
echo "$before$1" >>"$(dirname "$0")/ssh.log"
shift
if [ "$1" = -- ]; then shift; fi
exec env -i HOME="$HOME" SHELL=/bin/sh PATH=/usr/bin:/bin /bin/sh -c "$*"
"#;

#[test]
fn gnu_parallel_runs_the_shards_again_that_were_killed() {
    if peer("parallel").is_none() {
        return;
    }
    let sandbox = Sandbox::new();
    let campaign = sandbox.path("campaign");
    let mut command = parallel(&sandbox, SHARDS, &format!("exec {PROGRAM} \"$@\""));
    command.args(OPTIONS);
    let mut child = command.spawn().unwrap();
    wait_for_a_checkpoint(&campaign, || still_runs(&mut child));
    kill_process(first_shard(&campaign), Signal::KILL).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(
        text.starts_with("fuzzed     linux-6.12 with 160 cases from seed 1 in "),
        "{text}"
    );
    let merged = sandbox.run(&["fuzz", "merge", "--json", "@campaign"]);
    assert_eq!(result(&merged.stdout), in_one_piece(&sandbox));
    let page = std::fs::read_to_string(campaign.join("campaign.html")).unwrap();
    assert!(page.contains("This driver loses data"));
    let asked = std::fs::read_to_string(sandbox.path("ssh.log")).unwrap();
    let options = "-o ServerAliveInterval=15 -o ServerAliveCountMax=4 other";
    assert!(asked.lines().any(|line| line == options), "{asked}");
    let starts = starts(&sandbox, SHARDS);
    assert_eq!(starts[0], 2, "it was killed once");
    assert!(starts[1..].iter().all(|&times| times == 1), "{starts:?}");
}

/// `deploy/parallel.sh` over two machines, of which the other one is this too, with a program that
/// says what it is asked for before it `does` something.
fn parallel(sandbox: &Sandbox, shards: u32, does: &str) -> Command {
    sandbox.write("hosts", "2/:\n2/other\n");
    let starts = sandbox.path("starts");
    let program = format!("#!/bin/sh\necho \"$*\" >>{}\n{does}\n", starts.display());
    for (name, script) in [("ssh", SSH), ("ubdlab", &program)] {
        sandbox.write(name, script);
        std::fs::set_permissions(sandbox.path(name), Permissions::from_mode(0o755)).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", sandbox.path("").display());
    let mut command = Command::new(deploy().join("parallel.sh"));
    command.env("PATH", path);
    command.env("UBDLAB", sandbox.path("ubdlab"));
    command.env("HOME", sandbox.path(""));
    command.arg(sandbox.path("hosts")).arg(shards.to_string());
    command.arg(sandbox.path("campaign"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// How often each shard was started.
fn starts(sandbox: &Sandbox, shards: u32) -> Vec<usize> {
    let starts = String::from_utf8(sandbox.read("starts")).unwrap();
    let times = |shard: u32| {
        let shard = format!(" --shard {shard}/{shards} ");
        starts.lines().filter(|line| line.contains(&shard)).count()
    };
    (1..=shards).map(times).collect()
}

/// What parallel and its shell do if the first tries of three shards end with these statuses, and
/// all later ones well: the status, what is said and printed, and how often each was started.
fn tried(first: [&str; 3]) -> (Option<i32>, String, String, Vec<usize>) {
    let sandbox = Sandbox::new();
    let [one, two, three] = first;
    let does = format!(
        "case \"$*\" in\n\
         *merge*) echo merged; exit 0 ;;\n\
         *' --shard 1/3 '*) k=1; ends='{one}' ;;\n\
         *' --shard 2/3 '*) k=2; ends='{two}' ;;\n\
         *) k=3; ends='{three}' ;;\n\
         esac\n\
         mkdir {}/tried-$k 2>/dev/null && eval \"$ends\"\n\
         exit 0",
        sandbox.path("").display()
    );
    let done = output(&mut parallel(&sandbox, 3, &does));
    let text = |bytes: &[u8]| sandbox.text(bytes);
    (
        done.status.code(),
        text(&done.stderr),
        text(&done.stdout),
        starts(&sandbox, 3),
    )
}

#[test]
fn gnu_parallel_runs_again_what_may_go_well_and_no_wrong_usage() {
    if peer("parallel").is_none() {
        return;
    }
    let (status, said, printed, starts) = tried(["exit 3", "kill -KILL $$", "exit 127"]);
    assert_eq!((status, printed.as_str()), (Some(0), "merged\n"), "{said}");
    assert_eq!(starts, [2, 2, 2], "{said}");
    // The others are finished, and nothing is merged.
    let (status, said, printed, starts) = tried(["exit 3", "exit 2", "exit 0"]);
    assert_eq!((status, printed.as_str()), (Some(2), ""), "{said}");
    assert_eq!(starts, [2, 1, 1], "{said}");
    let last = said.lines().last().unwrap();
    let name = deploy().join("parallel.sh");
    let expected = "not run again, for what is said above: shard 2";
    assert_eq!(last, format!("{}: {expected}", name.display()));
}

/// Without any scheduler: what ends early leaves no result, and the next run goes on from there.
#[test]
fn a_shard_leaves_its_result_whole_or_not_at_all() {
    let sandbox = Sandbox::new();
    let campaign = sandbox.path("campaign");
    let shard = || {
        let mut command = Command::new(deploy().join("shard.sh"));
        command
            .args(["1", "8"])
            .arg(&campaign)
            .args(OPTIONS)
            .env("UBDLAB", PROGRAM);
        command.stdin(Stdio::null());
        command
    };
    let mut child = shard().spawn().unwrap();
    wait_for_a_checkpoint(&campaign, || still_runs(&mut child));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let names = || {
        let names = std::fs::read_dir(&campaign).unwrap();
        let mut names: Vec<_> = names
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["1-of-8.checkpoint"]);
    assert_eq!(output(&mut shard()).status.code(), Some(0));
    assert_eq!(names(), ["1-of-8.checkpoint", "1-of-8.json"]);
    let mut wrong = shard();
    assert_eq!(output(wrong.arg("--seed=7")).status.code(), Some(2));
    assert_eq!(names(), ["1-of-8.checkpoint", "1-of-8.json"]);
    // It is no more private than the checkpoint.
    let mode = |name: &str| {
        let found = std::fs::metadata(campaign.join(name)).unwrap();
        found.permissions().mode()
    };
    assert_eq!(mode("1-of-8.json"), mode("1-of-8.checkpoint"));
    // What fails for another reason may not fail at the next try.
    std::fs::remove_file(campaign.join("1-of-8.checkpoint")).unwrap();
    std::fs::create_dir(campaign.join("1-of-8.checkpoint")).unwrap();
    assert_eq!(output(&mut shard()).status.code(), Some(3));
}

/// A shell that is killed leaves its child, and the child leaves the result alone.
#[test]
fn a_killed_shell_leaves_nothing_half_written() {
    let sandbox = Sandbox::new();
    let campaign = sandbox.path("campaign");
    let mut shard = Command::new(deploy().join("shard.sh"));
    shard.args(["1", "8"]).arg(&campaign).args(OPTIONS);
    shard.env("UBDLAB", PROGRAM).stdin(Stdio::null());
    let mut child = shard.spawn().unwrap();
    wait_for_a_checkpoint(&campaign, || still_runs(&mut child));
    let program = first_shard(&campaign);
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    kill_process(program, Signal::KILL).unwrap();
    let names = std::fs::read_dir(&campaign).unwrap();
    let names = names.map(|it| it.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    assert_eq!(names, ["1-of-8.checkpoint"]);
}

/// What Slurm is asked for when a shard has ended like this, in the N-th run of its task.
fn requeued(status: u8, restarts: u32) -> bool {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("bin")).unwrap();
    let requeued = sandbox.path("requeued");
    for (name, does) in [
        ("srun", format!("exit {status}")),
        ("scontrol", format!("echo \"$@\" >{}", requeued.display())),
    ] {
        let name = format!("bin/{name}");
        sandbox.write(&name, format!("#!/bin/sh\n{does}\n"));
        std::fs::set_permissions(sandbox.path(&name), Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", sandbox.path("bin").display());
    let restarts = restarts.to_string();
    let mut task = Command::new(deploy().join("slurm.sh"));
    task.arg(sandbox.path("campaign")).env("PATH", path);
    for (name, value) in [
        ("SLURM_SUBMIT_DIR", "/"),
        ("SLURM_JOB_ID", "7"),
        ("SLURM_ARRAY_TASK_ID", "1"),
        ("SLURM_ARRAY_TASK_COUNT", "8"),
        ("SLURM_RESTART_COUNT", &restarts[..]),
    ] {
        task.env(name, value);
    }
    let ended = output(task.stdin(Stdio::null()));
    assert_eq!(ended.status.code(), Some(status.into()), "{ended:?}");
    let asked = std::fs::read_to_string(requeued);
    asked.is_ok_and(|asked| asked == "requeue 7\n")
}

/// The kubelet's rule is a list in its manifest, Slurm's is in its script.
#[test]
fn what_may_go_well_at_the_next_try_is_tried_again_and_wrong_usage_is_not() {
    let tries = [
        (0, 0),
        (2, 0),
        (3, 0),
        (3, 9),
        (3, 10),
        (143, 10),
        (137, 999),
        (137, 1000),
    ];
    let requeued = tries.map(|(status, restarts)| requeued(status, restarts));
    assert_eq!(
        requeued,
        [false, false, true, true, false, true, true, false]
    );
    let manifest = std::fs::read_to_string(deploy().join("kubernetes.yaml")).unwrap();
    let values: Vec<_> = manifest
        .lines()
        .filter(|line| line.contains("values:"))
        .collect();
    assert_eq!(values, ["          values: [2]"]);
}
