//! A reflow that was interrupted is finished by the next server, which serves its clients already.

use driver::blk::Status;
use driver::units::{Bytes, Sector, SectorCount, SectorRange};
use harness::serve::{CannotResize, Endpoints, Export, Job, ResizeState};

use crate::image_commands::check::interrupted_reflow;
use crate::support::cli::{SIZE, Sandbox};
use crate::support::nbd::Client;
use crate::support::served::{bring_up, half_moved};
use crate::support::server::Server;

/// The size to which the interrupted resize goes.
const NEW_SIZE: u64 = 4 << 20;

/// The most looks at the status until a resize is done. Each of them starts a program.
const MOST_LOOKS: u32 = 10_000;

fn interrupted() -> (Sandbox, Vec<u8>) {
    let sandbox = Sandbox::new();
    sandbox.write_backing("backing", SIZE);
    let disk = interrupted_reflow(&sandbox);
    (sandbox, disk)
}

/// Has one job carried out by a client of its own; what was read.
fn carry_out(export: &Export, job: Job) -> Vec<u8> {
    let (submitter, completer) = export.client::<()>("test".into());
    submitter.submit([(job, (), None)]).unwrap();
    let mut done = completer.next_batch().unwrap().unwrap();
    assert_eq!(done[0].status, Status::Ok);
    done.remove(0).data.concat()
}

fn all_of_old() -> Job {
    Job::Read(SectorRange::new(Sector(0), SectorCount(SIZE / 512)))
}

/// Before the move, while it goes on, and after it.
#[test]
fn requests_are_served_while_an_interrupted_reflow_is_finished() {
    let (sandbox, mut disk) = interrupted();
    let (mut up, _ending) = bring_up(&sandbox.path("cow"));
    let record = up.interrupted.take().unwrap();
    assert!(carry_out(&up.export, all_of_old()) == disk);
    let write = |sector: u64, content: u8| Job::Write {
        start: Sector(sector),
        data: vec![content; 512],
        fua: false,
    };
    carry_out(&up.export, write(1, 1));
    disk[512..1024].fill(1);
    let export = up.export.clone();
    let finishing = std::thread::spawn(move || export.finish(record));
    while !finishing.is_finished() {
        assert!(carry_out(&up.export, all_of_old()) == disk);
        carry_out(&up.export, write(1000, 2));
        disk[1000 * 512..1001 * 512].fill(2);
    }
    let resized = finishing.join().unwrap().unwrap();
    assert_eq!(resized.new_size.0, NEW_SIZE);
    assert!(carry_out(&up.export, all_of_old()) == disk);
    up.close().unwrap();
    disk.resize(NEW_SIZE as usize, 0);
    let info = sandbox.json(&["image", "info", "@cow"]);
    assert_eq!(info["resize_in_progress"], false);
    sandbox.succeeds(&["image", "convert", "@cow", "@raw", "--to", "raw"]);
    assert!(sandbox.read("raw") == disk);
}

/// Nothing moves it back, so whoever stops it is told how it goes on.
#[test]
fn a_reflow_that_is_stopped_half_way_says_so_and_the_next_server_finishes_it() {
    const OLD_SIZE: u64 = 64 << 20;
    const PIECE: u64 = 4 << 20;
    let sandbox = Sandbox::with_hole(OLD_SIZE);
    let (up, _ending) = bring_up(&sandbox.path("cow"));
    for at in (0..OLD_SIZE).step_by(PIECE as usize) {
        let job = Job::Write {
            start: Sector(at / 512),
            data: vec![(at / PIECE) as u8 + 1; PIECE as usize],
            fua: false,
        };
        carry_out(&up.export, job);
    }
    let resizing = half_moved(&up.export, Bytes(1 << 30));
    // As when the server ends.
    drop(Endpoints::of(up.export.clone()));
    let stopped = resizing.join().unwrap().unwrap_err();
    assert!(
        matches!(
            stopped,
            CannotResize::Unfinished {
                is_half_moved: true,
                ..
            }
        ),
        "{stopped}"
    );
    let words = stopped.to_string();
    let why = "stopped: the resize was given up. The file is half moved: ";
    assert!(words.contains(why), "{words}");
    assert!(words.contains("then the device has 1 GiB"), "{words}");
    let state = up.export.status().unwrap().resize.unwrap().state;
    assert_eq!(state, ResizeState::Unfinished { error: words });
    assert_eq!(up.export.capacity().bytes(), Bytes(OLD_SIZE));
    up.close().unwrap();

    let (mut up, _ending) = bring_up(&sandbox.path("cow"));
    let record = up.interrupted.take().unwrap();
    assert_eq!(up.export.finish(record).unwrap().new_size, Bytes(1 << 30));
    let last = Job::Read(SectorRange::new(Sector(OLD_SIZE / 512 - 1), SectorCount(2)));
    let last = carry_out(&up.export, last);
    assert_eq!((last[511], last[512]), ((OLD_SIZE / PIECE) as u8, 0));
    up.close().unwrap();
}

/// The size that the command line asks for comes after it.
#[test]
fn the_program_finishes_it_first() {
    let (sandbox, mut disk) = interrupted();
    let device = "ubda=@cow,@backing,8M";
    let server = Server::start(&sandbox, &[device, "--nbd", "@s", "--control", "@ctl"]);
    // It serves, whether the move has ended or not.
    let mut client = Client::connect(&sandbox.path("s"));
    assert_eq!(client.read(0, SIZE as u32), disk);
    assert_eq!(client.write(0, 4096, &[3; 512]), 0);
    disk[4096..4608].fill(3);
    client.flush();
    let is_resized = (0..MOST_LOOKS).any(|_| {
        let status = sandbox.report(&["ctl", "@ctl", "status"]);
        assert_ne!(status["resize"]["state"], "failed", "{status}");
        status["size_bytes"] == 8 << 20
    });
    assert!(is_resized, "neither done nor failed");
    drop(client);
    let said = server.stop();
    let lines: Vec<_> = said.lines().collect();
    let place = |what: &str| lines.iter().position(|line| line.starts_with(what));
    let finished = place("resized from 1 MiB to 4 MiB by reflow");
    let sized = place("resized from 4 MiB to 8 MiB by ");
    assert!(finished.is_some() && finished < sized, "{said}");
    disk.resize(8 << 20, 0);
    sandbox.succeeds(&["image", "convert", "@cow", "@raw", "--to", "raw"]);
    assert!(sandbox.read("raw") == disk);
}

/// A server that takes no writes shows the disk of the old size, and leaves the rest to another.
#[test]
fn a_read_only_server_leaves_it_as_it_is() {
    let (sandbox, disk) = interrupted();
    let before = sandbox.read("cow");
    let args = ["@cow", "--read-only", "--nbd", "@s", "--control", "@ctl"];
    let server = Server::start(&sandbox, &args);
    let mut client = Client::connect(&sandbox.path("s"));
    assert_eq!(client.read(0, SIZE as u32), disk);
    drop(client);
    let status = sandbox.report(&["ctl", "@ctl", "status"]);
    assert_eq!(status["resize"]["state"], "left", "{status}");
    let text = sandbox.succeeds(&["ctl", "@ctl", "status"]);
    let left = "resize     1 MiB to 4 MiB: was interrupted, and is left as it is: read-only, ";
    assert!(text.contains(left), "{text}");
    let said = server.stop();
    let left = "an interrupted resize to 4 MiB is left as it is: read-only";
    assert_eq!(
        said.lines().filter(|line| *line == left).count(),
        1,
        "{said}"
    );
    assert!(!said.contains("failed"), "{said}");
    assert!(sandbox.read("cow") == before);
}
