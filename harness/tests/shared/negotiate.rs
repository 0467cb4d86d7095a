//! What an NBD client sends before and after it has an export, as whatever bytes. Shared by the
//! inputs that are crafted by the million (`crafted`) and the fuzz targets.

use std::io::Cursor;

use harness::serve::nbd::message::{REQUEST_LEN, Request};
use harness::serve::nbd::negotiation::{Offer, flags, negotiate};

/// The most that a server says for each byte that it is sent: lists of contexts are the longest.
const MOST_SAID: usize = 64;

/// Negotiates with a client that sends these bytes, and takes the rest for requests. How many
/// options were answered and how many requests there were.
///
/// # Panics
/// If the server says more than there is to say, or a request is not what was sent.
pub(crate) fn negotiate_with(bytes: &[u8]) -> (usize, usize) {
    let offer = Offer {
        description: "a device".into(),
        flags: flags(false),
        preferred: 4096,
    };
    let mut input = Cursor::new(bytes);
    let mut said = Vec::new();
    let settled = negotiate(&mut input, &mut said, &offer, || 1 << 30);
    assert!(
        said.len() <= 18 + MOST_SAID * bytes.len(),
        "{} bytes",
        said.len()
    );
    let replies = said
        .windows(8)
        .filter(|at| at == &0x0003_e889_0455_65a9u64.to_be_bytes());
    let answered = replies.count();
    if settled.is_err() {
        return (answered, 0);
    }
    let rest = &bytes[input.position() as usize..];
    let (requests, _) = rest.as_chunks::<REQUEST_LEN>();
    let parsed = requests.iter().map_while(|bytes| {
        let request = Request::parse(*bytes).ok()?;
        assert_eq!(request.print(), *bytes);
        Some(request)
    });
    (answered, parsed.count())
}
