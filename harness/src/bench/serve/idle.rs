//! What a thousand clients that say nothing cost.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use driver::units::Bytes;

use crate::bench::{BenchError, Row, Settings, Unit};
use crate::open_files::may_open;
use crate::serve::nbd::message::{FIXED_NEWSTYLE, OPTION_MAGIC, OPTION_REPLY_MAGIC, SERVER_MAGIC};

use super::contender::{Contender, Protocol};
use super::files::Files;

/// The size of the device, of which nothing is asked.
const SIZE: Bytes = Bytes(1 << 20);

/// How many.
const CONNECTIONS: u64 = 1000;

/// The most that they may take of the server's memory, in MiB.
const MOST_MIB: f64 = 64.0;

/// Descriptors that this process has beside the connections, and some more.
const OTHER_FILES: u64 = 100;

/// The option by which a client settles on an export.
const GO: u32 = 7;

/// The reply that says that it is settled.
const ACK: u32 = 1;

/// The longest data of a reply, in bytes.
const LONGEST_REPLY: u32 = 4096;

fn name(what: &str) -> String {
    format!("serve/{CONNECTIONS} idle NBD connections: {what}")
}

const WHAT: [&str; 2] = ["memory", "proportional memory"];

pub(super) fn measure(
    settings: Settings<'_>,
    each: &mut impl FnMut(Vec<Row>),
) -> Result<(), BenchError> {
    if !WHAT.iter().any(|what| settings.wanted(&name(what))) {
        return Ok(());
    }
    // The server's limit is this process's.
    if !may_open(CONNECTIONS + OTHER_FILES) {
        let needs = format!("{CONNECTIONS} open files");
        let skipped = WHAT.map(|what| Row::skipped(name(what), Unit::Mebibytes, &needs));
        each(skipped.into());
        return Ok(());
    }
    let directory = settings.directory.join("idle");
    std::fs::create_dir(&directory).map_err(BenchError::file(&directory, "creating"))?;
    let files = Files::ours(&directory, SIZE)?;
    let ours = Contender::Ours(settings.io.unwrap_or_default());
    let server = ours.start(settings, &files, Protocol::Nbd)?;
    let place = ours.place(&files, Protocol::Nbd);
    let before = server.memory()?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        settings.check_stop()?;
        clients.push(connected(&place).map_err(BenchError::file(&place, "connecting to"))?);
    }
    let after = server.memory()?;
    drop(clients);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let row = |what: &str, before: u64, after: u64| {
        let more = mib(after.saturating_sub(before));
        Row::new(name(what), more, Unit::Mebibytes).target(MOST_MIB)
    };
    each(vec![
        row(WHAT[0], before.resident, after.resident),
        row(WHAT[1], before.proportional, after.proportional),
    ]);
    Ok(())
}

/// A client that has negotiated, and says nothing more.
fn connected(socket: &Path) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting)?;
    let expected = [SERVER_MAGIC, OPTION_MAGIC].map(u64::to_be_bytes);
    if greeting[..16] != *expected.as_flattened() {
        return Err(io::Error::other("found no greeting of an NBD server"));
    }
    stream.write_all(&u32::from(FIXED_NEWSTYLE).to_be_bytes())?;
    let mut option = OPTION_MAGIC.to_be_bytes().to_vec();
    option.extend(GO.to_be_bytes());
    // The export that has no name, and nothing more to be told of it.
    option.extend(6u32.to_be_bytes());
    option.extend([0; 6]);
    stream.write_all(&option)?;
    loop {
        let mut head = [0; 20];
        stream.read_exact(&mut head)?;
        let field = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&head[at..at + 4]);
            u32::from_be_bytes(bytes)
        };
        let (kind, len) = (field(12), field(16));
        if head[..8] != OPTION_REPLY_MAGIC.to_be_bytes() || len > LONGEST_REPLY {
            return Err(io::Error::other("found no reply of an NBD server"));
        }
        stream.read_exact(&mut vec![0; len as usize])?;
        if kind == ACK {
            return Ok(stream);
        }
    }
}
