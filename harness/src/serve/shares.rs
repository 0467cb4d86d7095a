//! The memory that requests in flight may take, shared among clients so that none keeps another
//! waiting for long.
//!
//! - A client that has then at most [`ALWAYS`] is given it, whatever others have.
//! - Most of the rest is common: whoever comes first has it, and then whoever has waited longest. A
//!   client waits with one request, or a few, so that those that wait take turns.
//! - Clients that do not get on, because they do not take their answers, say, can hold all of that
//!   for a minute. So a part is kept as a reserve. Of that a client is given something only if
//!   [`LEFT`] times as much is left as the client has then in all. Those that have much get nothing
//!   of it, and the more of it is taken, the less each one gets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Sender, bounded};

use crate::locked::locked;

use super::budget::Permit;

/// What a client can always have, in bytes: a request that is not long, or several short ones.
const ALWAYS: u64 = 64 << 10;

/// How many times what a client has then has to be left of the reserve.
const LEFT: u64 = 8;

/// The memory for the data of all clients' requests.
#[derive(Debug)]
pub struct Shares {
    common: u64,
    reserve: u64,
    state: Mutex<State>,
}

/// One client's way to it.
#[derive(Clone, Debug)]
pub struct Share {
    of: Arc<Shares>,
    client: u64,
}

/// From which part something was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// What each client can always have.
    Own,
    Common,
    Reserve,
}

/// What was given to a client, which gives it back.
#[derive(Debug)]
pub(super) struct Given {
    to: Share,
    from: Part,
    bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    own_used: u64,
    common_used: u64,
    reserve_used: u64,
    /// What each client has that has something.
    held: BTreeMap<u64, u64>,
    /// Those that wait, in the order in which they came.
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    client: u64,
    bytes: u64,
    given: Sender<Part>,
}

impl Shares {
    /// A common part and a reserve of these lengths, in bytes.
    pub fn new(common: u64, reserve: u64) -> Arc<Shares> {
        Arc::new(Shares {
            common,
            reserve,
            state: Mutex::default(),
        })
    }

    /// The share of the client with this number.
    pub fn of(self: &Arc<Shares>, client: u64) -> Share {
        Share {
            of: Arc::clone(self),
            client,
        }
    }

    /// The bytes that are taken.
    pub fn used(&self) -> u64 {
        let state = locked(&self.state);
        state.own_used + state.common_used + state.reserve_used
    }

    /// The part from which a client can be given this now, if there is one. Of the common part only
    /// whoever is first gets something.
    fn part_for(&self, state: &State, client: u64, bytes: u64, is_first: bool) -> Option<Part> {
        let held = state.held.get(&client).copied().unwrap_or(0);
        let has_then = held.saturating_add(bytes);
        if has_then <= ALWAYS {
            return Some(Part::Own);
        }
        let left_of = |limit: u64, used: u64| limit.checked_sub(used.saturating_add(bytes));
        let of_common = left_of(self.common, state.common_used);
        // What is larger than everything waits until it is alone.
        if is_first && (state.common_used == 0 || of_common.is_some()) {
            return Some(Part::Common);
        }
        let of_reserve = left_of(self.reserve, state.reserve_used)?;
        (has_then.saturating_mul(LEFT) <= of_reserve).then_some(Part::Reserve)
    }

    /// Gives what can be given to those that wait.
    fn settle(&self, state: &mut State) {
        let mut at = 0;
        while let Some(next) = state.waiting.get(at) {
            let Some(part) = self.part_for(state, next.client, next.bytes, at == 0) else {
                at += 1;
                continue;
            };
            if let Some(next) = state.waiting.remove(at) {
                state.give(next.client, next.bytes, part);
                // It has room for one, and whoever waits is there.
                let _ = next.given.try_send(part);
            }
        }
    }
}

impl State {
    fn used_of(&mut self, part: Part) -> &mut u64 {
        match part {
            Part::Own => &mut self.own_used,
            Part::Common => &mut self.common_used,
            Part::Reserve => &mut self.reserve_used,
        }
    }

    fn give(&mut self, client: u64, bytes: u64, part: Part) {
        *self.used_of(part) += bytes;
        *self.held.entry(client).or_default() += bytes;
    }

    fn take_back(&mut self, client: u64, bytes: u64, part: Part) {
        *self.used_of(part) -= bytes;
        if let Some(held) = self.held.get_mut(&client) {
            *held -= bytes;
            if *held == 0 {
                self.held.remove(&client);
            }
        }
    }
}

impl Share {
    /// Waits until there is room for `bytes`. A client that waits has submitted what it has, or
    /// might wait for itself.
    pub fn take(&self, bytes: u64) -> Permit {
        let mut state = locked(&self.of.state);
        if let Some(part) = self.at_once(&state, bytes) {
            return self.given(&mut state, bytes, part);
        }
        let (given, part) = bounded(1);
        state.waiting.push_back(Waiting {
            client: self.client,
            bytes,
            given,
        });
        drop(state);
        // Whoever waits is given something before it is taken from the queue.
        let from = part.recv().unwrap_or(Part::Common);
        Permit::of_share(Given {
            to: self.clone(),
            from,
            bytes,
        })
    }

    /// `bytes`, if there is room now.
    pub fn try_take(&self, bytes: u64) -> Option<Permit> {
        let mut state = locked(&self.of.state);
        let part = self.at_once(&state, bytes)?;
        Some(self.given(&mut state, bytes, part))
    }

    fn at_once(&self, state: &State, bytes: u64) -> Option<Part> {
        let is_first = state.waiting.is_empty();
        self.of.part_for(state, self.client, bytes, is_first)
    }

    fn given(&self, state: &mut State, bytes: u64, from: Part) -> Permit {
        state.give(self.client, bytes, from);
        Permit::of_share(Given {
            to: self.clone(),
            from,
            bytes,
        })
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let shares = &self.to.of;
        let mut state = locked(&shares.state);
        state.take_back(self.to.client, self.bytes, self.from);
        shares.settle(&mut state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn shares() -> Arc<Shares> {
        Shares::new(256 * MIB, 64 * MIB)
    }

    /// How many wait.
    fn waiting(shares: &Shares) -> usize {
        locked(&shares.state).waiting.len()
    }

    fn taking(share: Share, bytes: u64) -> std::thread::JoinHandle<Permit> {
        let before = waiting(&share.of);
        let of = Arc::clone(&share.of);
        let taking = std::thread::spawn(move || share.take(bytes));
        while waiting(&of) == before {
            std::thread::yield_now();
        }
        taking
    }

    #[test]
    fn a_client_with_small_requests_does_not_wait_for_those_that_hold_all() {
        let shares = shares();
        let mut held: Vec<_> = (0..8).map(|n| shares.of(n).take(32 * MIB)).collect();
        let more = taking(shares.of(0), 32 * MIB);
        // The eight get nothing more, and nothing of the reserve.
        assert!((0..8).all(|n| shares.of(n).try_take(32 * MIB).is_none()));
        let small: Vec<_> = (0..64).map(|_| shares.of(9).take(64 << 10)).collect();
        assert_eq!(shares.used(), 260 * MIB);
        // Another one is given something beside it.
        let other = shares.of(10).try_take(4 * MIB);
        assert!(other.is_some());
        drop((small, other));
        held.pop();
        drop(more.join().unwrap());
        drop(held);
        assert_eq!(shares.used(), 0);
        assert!(locked(&shares.state).held.is_empty());
    }

    /// Clients that take all they can get leave something for any number of others.
    #[test]
    fn there_is_always_something_for_the_next_one() {
        let shares = shares();
        let hoard = |client: u64| {
            let share = shares.of(client);
            let all = std::iter::from_fn(|| share.try_take(64 << 10));
            all.take(4096).collect::<Vec<_>>()
        };
        let _held: Vec<_> = (0..300).map(hoard).collect();
        assert!(shares.used() <= 320 * MIB + 300 * ALWAYS);
        let next = hoard(300);
        assert!(!next.is_empty());
    }

    #[test]
    fn a_large_request_has_its_turn_while_others_take_and_give_back() {
        let shares = shares();
        let mut held: VecDeque<_> = (0..256).map(|n| shares.of(n).take(MIB)).collect();
        let large = taking(shares.of(1000), 32 * MIB);
        // Others go on from the reserve, and what they give back of the common part is kept for it.
        for n in 256..256 + 31 {
            drop(held.pop_front());
            held.push_back(shares.of(n).take(MIB));
            assert_eq!(waiting(&shares), 1);
        }
        drop(held.pop_front());
        let large = large.join().unwrap();
        assert_eq!(waiting(&shares), 0);
        drop((large, held));
        assert_eq!(shares.used(), 0);
    }

    #[test]
    fn more_than_there_is_at_all_is_given_to_one_who_is_alone() {
        let shares = Shares::new(100 * MIB, 10 * MIB);
        let first = shares.of(1).take(60 * MIB);
        let all = taking(shares.of(2), 1000 * MIB);
        drop(first);
        let all = all.join().unwrap();
        assert_eq!(shares.used(), 1000 * MIB);
        assert!(shares.of(2).try_take(1).is_none());
        // Even then the reserve is there for others.
        assert!(shares.of(3).try_take(MIB).is_some());
        drop(all);
        assert_eq!(shares.used(), 0);
    }
}
