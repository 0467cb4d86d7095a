//! Where an endpoint listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket at this path.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
    /// The sockets that whoever started the program has opened for it, as systemd does.
    Activated,
}

impl FromStr for Address {
    type Err = String;

    /// `activated`; `unix:PATH`, or a path with a slash in it; an address with a port.
    fn from_str(text: &str) -> Result<Address, String> {
        if text == "activated" {
            return Ok(Address::Activated);
        }
        let path = text.strip_prefix("unix:");
        match path.or_else(|| text.contains('/').then_some(text)) {
            Some("") => Err("expected a path after unix:".into()),
            Some(path) => Ok(Address::Unix(path.into())),
            None => text.parse().map(Address::Tcp).map_err(|_| {
                format!(
                    "found {text:?}, expected a path with a / in it, unix:PATH, an IP address with \
                     a port as 127.0.0.1:10809, or activated"
                )
            }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", driver::shown(path)),
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Activated => f.write_str("the sockets that were handed over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_path_a_port_or_what_was_handed_over() {
        let parsed = |text: &str| text.parse::<Address>();
        assert_eq!(parsed("activated"), Ok(Address::Activated));
        assert_eq!(parsed("./sock"), Ok(Address::Unix("./sock".into())));
        assert_eq!(parsed("unix:sock"), Ok(Address::Unix("sock".into())));
        let port = SocketAddr::from(([127, 0, 0, 1], 10809));
        assert_eq!(parsed("127.0.0.1:10809"), Ok(Address::Tcp(port)));
        assert!(parsed("[::1]:10809").is_ok());
        for wrong in ["", "sock", "unix:", "localhost:1", "10809"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
