//! What an NBD client sends before and after it has an export, as whatever bytes. Shared by the
//! inputs that are crafted by the million (`crafted`) and the fuzz targets.

use std::io::Cursor;

use harness::serve::nbd::abilities::Abilities;
use harness::serve::nbd::message::{Command, REQUEST_LEN, Request};
use harness::serve::nbd::negotiation::{Offer, negotiate};
use harness::serve::nbd::terms::Terms;

/// The size of the device, in bytes.
const SIZE: u64 = 1 << 30;

/// The most that a server says for each byte that it is sent: lists of contexts are the longest.
const MOST_SAID: usize = 64;

/// Negotiates with a client that sends these bytes, and takes the rest for requests. How many
/// options were answered and how many requests there were.
///
/// # Panics
/// If the server says more than there is to say, a request is not what was sent, or one is taken
/// that the device cannot have.
pub(crate) fn negotiate_with(bytes: &[u8]) -> (usize, usize) {
    let offer = Offer {
        description: "a device".into(),
        flags: Abilities::ALL.flags(),
        preferred: 4096,
    };
    let mut input = Cursor::new(bytes);
    let mut said = Vec::new();
    let settled = negotiate(&mut input, &mut said, &offer, || Some(SIZE));
    assert!(
        said.len() <= 18 + MOST_SAID * bytes.len(),
        "{} bytes",
        said.len()
    );
    let replies = said
        .windows(8)
        .filter(|at| at == &0x0003_e889_0455_65a9u64.to_be_bytes());
    let answered = replies.count();
    let Ok(settled) = settled else {
        return (answered, 0);
    };
    let terms = Terms {
        abilities: Abilities::ALL,
        has_contexts: !settled.contexts.is_empty(),
        size: SIZE,
    };
    let rest = &bytes[input.position() as usize..];
    let (requests, _) = rest.as_chunks::<REQUEST_LEN>();
    let parsed = requests.iter().map_while(|bytes| {
        let request = Request::parse(*bytes).ok()?;
        assert_eq!(request.print(), *bytes);
        // What is taken lies within the device.
        if let Some(command) = Command::numbered(request.command)
            && let Ok(range) = terms.check(command, &request)
        {
            assert!(range.end().bytes().0 <= SIZE, "{request:?}");
        }
        Some(request)
    });
    (answered, parsed.count())
}
