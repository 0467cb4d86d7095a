//! Who asked for a recorded request, and how it ended: of traces that tell.

use std::collections::BTreeMap;

use driver::blk::Status;

/// The most clients that are listed; requests of others are counted together.
pub const MAX_CLIENTS: usize = 1024;

/// What a server knows of a request beside the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Served {
    /// The number of the client that has asked; 0 if that is not known.
    pub client: u32,
    /// How it ended.
    pub status: Status,
}

impl Default for Served {
    /// Of a request of which nothing is known: it ended well.
    fn default() -> Served {
        Served {
            client: 0,
            status: Status::Ok,
        }
    }
}

/// The statuses, each at its number in a file.
const STATUSES: [Status; 5] = [
    Status::Ok,
    Status::NotSupported,
    Status::NoSpace,
    Status::IoError,
    Status::Invalid,
];

/// The number of a status in a file.
pub(super) fn number_of(status: Status) -> u8 {
    match status {
        Status::Ok => 0,
        Status::NotSupported => 1,
        Status::NoSpace => 2,
        Status::IoError => 3,
        Status::Invalid => 4,
    }
}

/// The status with this number in a file.
pub(super) fn numbered(number: u8) -> Option<Status> {
    STATUSES.get(usize::from(number)).copied()
}

/// A status in one word, as our CSV has it.
pub fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::NotSupported => "not-supported",
        Status::NoSpace => "no-space",
        Status::IoError => "io-error",
        Status::Invalid => "invalid",
    }
}

/// How many requests came from whom, and how they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedCounts {
    /// Requests of each client whose number is known.
    pub clients: BTreeMap<u32, u64>,
    /// Requests of clients beyond the first [`MAX_CLIENTS`].
    pub of_other_clients: u64,
    /// Requests that failed in the recording, by [`word`].
    pub failed: BTreeMap<&'static str, u64>,
    /// Requests that the recorder has lost, because its disk was too slow or full.
    pub lost: u64,
}

impl ServedCounts {
    /// Counts a request.
    pub(super) fn add(&mut self, served: Served) {
        if served.status != Status::Ok {
            *self.failed.entry(word(served.status)).or_default() += 1;
        }
        if served.client == 0 {
            return;
        }
        if self.clients.len() == MAX_CLIENTS && !self.clients.contains_key(&served.client) {
            self.of_other_clients += 1;
            return;
        }
        *self.clients.entry(served.client).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_and_its_number_belong_together() {
        for (number, status) in STATUSES.into_iter().enumerate() {
            assert_eq!(usize::from(number_of(status)), number);
            assert_eq!(numbered(number as u8), Some(status));
        }
        assert_eq!(numbered(5), None);
    }

    #[test]
    fn however_many_clients_there_are_memory_is_bounded() {
        let mut counts = ServedCounts::default();
        let status = Status::NoSpace;
        for client in 0..=MAX_CLIENTS as u32 + 7 {
            counts.add(Served { client, status });
        }
        assert_eq!(counts.clients.len(), MAX_CLIENTS);
        assert_eq!(counts.of_other_clients, 7);
        assert_eq!(counts.failed["no-space"], MAX_CLIENTS as u64 + 8);
    }
}
