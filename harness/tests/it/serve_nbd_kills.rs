//! A server of NBD clients that is killed: what was acknowledged as durable is there, on whichever
//! connection it was written and flushed.

use std::collections::VecDeque;

use harness::random::SplitMix64;
use harness::serve::nbd::message::{Command, command_flags};

use crate::support::cli::{SIZE, Sandbox};
use crate::support::nbd::Client;
use crate::support::server::Server;
use crate::support::share::share;

/// The length of a write.
const BLOCK: usize = 4096;

/// Blocks of the small device.
const BLOCKS: u64 = SIZE / BLOCK as u64;

fn served(sandbox: &Sandbox) -> Server {
    Server::start(sandbox, &["@cow", "--nbd", "@s"])
}

/// That it can be used over several connections is what CAN_MULTI_CONN says.
#[test]
fn a_flush_and_a_durable_write_hold_for_all_connections() {
    let sandbox = Sandbox::with_device();
    let server = served(&sandbox);
    let socket = sandbox.path("s");
    let [mut writes, mut flushes] = [(); 2].map(|()| Client::connect(&socket));
    assert_eq!(writes.write(0, 0, &[1; BLOCK]), 0);
    assert_eq!(
        flushes.read(0, BLOCK as u32),
        [1; BLOCK],
        "it is seen at once"
    );
    flushes.flush();
    // Another write that nothing makes durable.
    assert_eq!(writes.write(0, 1 << 16, &[2; BLOCK]), 0);
    server.kill();

    let server = served(&sandbox);
    let [mut writes, mut reads] = [(); 2].map(|()| Client::connect(&socket));
    assert_eq!(reads.read(0, BLOCK as u32), [1; BLOCK]);
    // Otherwise the first would have been there without a flush too.
    assert_ne!(reads.read(1 << 16, BLOCK as u32), [2; BLOCK]);
    assert_eq!(writes.write(command_flags::FUA, 1 << 17, &[3; BLOCK]), 0);
    assert_eq!(reads.read(1 << 17, BLOCK as u32), [3; BLOCK]);
    for (command, at) in [(Command::WriteZeroes, 0), (Command::Trim, 1 << 17)] {
        assert_eq!(reads.ask(command, command_flags::FUA, at, 512), 0);
    }
    server.kill();

    let server = served(&sandbox);
    let mut reads = Client::connect(&socket);
    assert_eq!(reads.read(0, 512), [0; 512]);
    assert_eq!(reads.read((1 << 17) + 512, 512), [3; 512]);
    server.stop();
}

/// What a block may hold: what was flushed, and all that was written since.
struct Block {
    may_hold: Vec<u64>,
}

/// The content of a block with this stamp. Stamp 0 is that of the device before all writes.
fn content(block: u64, stamp: u64) -> Vec<u8> {
    let words = BLOCK as u64 / 8;
    match stamp {
        0 => (block * words..(block + 1) * words)
            .flat_map(u64::to_le_bytes)
            .collect(),
        stamp => (!stamp).to_le_bytes().repeat(words as usize),
    }
}

/// A connection with its requests in flight, oldest first: block and stamp of a write, or a flush
/// and how many writes were acknowledged before it.
struct Load {
    client: Client,
    in_flight: VecDeque<Sent>,
}

enum Sent {
    Write {
        cookie: u64,
        block: u64,
        stamp: u64,
    },
    Flush {
        cookie: u64,
        covers: Vec<(u64, u64)>,
    },
}

impl Sent {
    fn cookie(&self) -> u64 {
        match self {
            Sent::Write { cookie, .. } | Sent::Flush { cookie, .. } => *cookie,
        }
    }
}

impl Load {
    fn write(&mut self, block: u64, stamp: u64) {
        let data = content(block, stamp);
        let number = Command::Write.number();
        let cookie = (self.client).send(number, 0, block * BLOCK as u64, BLOCK as u32, &data);
        self.in_flight.push_back(Sent::Write {
            cookie,
            block,
            stamp,
        });
    }

    fn flush(&mut self, covers: Vec<(u64, u64)>) {
        let cookie = self.client.send(Command::Flush.number(), 0, 0, 0, b"");
        self.in_flight.push_back(Sent::Flush { cookie, covers });
    }

    /// What is answered next.
    fn answered(&mut self) -> Sent {
        let (cookie, error) = self.client.reply();
        assert_eq!(error, 0);
        let at = (self
            .in_flight
            .iter()
            .position(|sent| sent.cookie() == cookie))
        .unwrap();
        self.in_flight.remove(at).unwrap()
    }
}

/// Two connections with 32 writes in flight each, and now and then a flush on either, until the
/// server is killed in the middle of it. A connection has blocks of its own, so that what overtakes
/// what within the server does not matter.
fn load_and_kill(
    sandbox: &Sandbox,
    blocks: &mut [Block],
    random: &mut SplitMix64,
    first: u64,
) -> u64 {
    const DEPTH: usize = 32;
    let server = served(sandbox);
    let socket = sandbox.path("s");
    let mut loads = [(); 2].map(|()| Load {
        client: Client::connect(&socket),
        in_flight: VecDeque::new(),
    });
    let mut next = first;
    // The latest acknowledged write of a block.
    let mut acknowledged = std::collections::BTreeMap::new();
    let mut busy = std::collections::BTreeSet::new();
    for _ in 0..200 + random.below(400) {
        let which = random.below(2) as usize;
        let load = &mut loads[which];
        if load.in_flight.len() < DEPTH {
            if random.below(32) == 0 {
                load.flush(acknowledged.clone().into_iter().collect());
                continue;
            }
            let block = random.below(BLOCKS / 2) * 2 + which as u64;
            if busy.insert(block) {
                load.write(block, next);
                blocks[block as usize].may_hold.push(next);
                next += 1;
                continue;
            }
            if load.in_flight.is_empty() {
                continue;
            }
        }
        match load.answered() {
            Sent::Write { block, stamp, .. } => {
                busy.remove(&block);
                acknowledged.insert(block, stamp);
            }
            Sent::Flush { covers, .. } => {
                for (block, stamp) in covers {
                    let may_hold = &mut blocks[block as usize].may_hold;
                    let flushed = may_hold.iter().position(|&held| held == stamp);
                    // A later flush may have been answered before.
                    may_hold.drain(..flushed.unwrap_or(0));
                }
            }
        }
    }
    server.kill();
    next
}

#[test]
fn what_was_flushed_is_there_after_kills_in_the_middle_of_a_load() {
    let sandbox = Sandbox::with_device();
    let initial = |_| Block { may_hold: vec![0] };
    let mut blocks: Vec<_> = (0..BLOCKS).map(initial).collect();
    let mut next = 1;
    for round in 0..share(50, 5) {
        let mut random = SplitMix64(round);
        next = load_and_kill(&sandbox, &mut blocks, &mut random, next);
        let server = served(&sandbox);
        let disk = Client::connect(&sandbox.path("s")).read(0, SIZE as u32);
        for (number, block) in (0..).zip(&mut blocks) {
            let found = &disk[number as usize * BLOCK..][..BLOCK];
            let holds = (block.may_hold.iter()).find(|&&stamp| content(number, stamp) == found);
            let Some(&holds) = holds else {
                panic!(
                    "round {round}: block {number} has none of what it may: {:?}",
                    block.may_hold
                );
            };
            // It stays so: the server that read it has no bits that only memory has.
            block.may_hold = vec![holds];
        }
        server.stop();
    }
    sandbox.succeeds(&["image", "check", "@cow", "--repair"]);
}
