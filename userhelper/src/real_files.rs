//! Files on the host.
