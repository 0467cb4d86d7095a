//! From a host to the host after a crash. Both kinds can be had from any host at any
//! time and leave it as it is, so that one run gives all crash images of its crash point.

use super::change::Change;
use super::host::SimHost;
use super::state::State;
use super::survivors::{BadSurvivors, InodeNumber, Survivors, Unsynced, UnsyncedFile};

impl SimHost {
    /// What a power cut would put at stake now.
    pub fn unsynced(&self) -> Unsynced {
        let state = self.state();
        let files = state.inodes.iter().filter_map(|(&inode, file)| {
            let operations = file.unsynced(&state.assumptions);
            let matters = !operations.is_empty() && state.names.may_survive(inode);
            matters.then(|| UnsyncedFile {
                inode,
                path: file.path.clone(),
                operations,
            })
        });
        Unsynced {
            files: files.collect(),
            directories: state.names.unsynced(),
            times: (state.inodes.iter())
                .filter(|(inode, file)| {
                    !file.times.is_settled() && state.names.may_survive(**inode)
                })
                .map(|(&inode, file)| (inode, file.times.at_stake().collect()))
                .collect(),
            ordered_names: state.assumptions.ordered_names,
        }
    }

    /// The host after a power cut that left these survivors: everything on it is durable,
    /// no file is open or locked, and its operations are counted anew. The assumptions,
    /// the capacity, the allowance and the recording stay; planned crashes and faults do not.
    pub fn after_power_cut(&self, survivors: &Survivors) -> Result<SimHost, BadSurvivors> {
        let state = self.state();
        let mut after = state.restarted();
        let ordered = state.assumptions.ordered_names;
        after.names = state.names.after_power_cut(&survivors.names, ordered)?;
        for &inode in survivors.files.keys().chain(survivors.times.keys()) {
            if !state.inodes.contains_key(&inode) {
                return Err(BadSurvivors::NoSuchFile(inode));
            }
        }
        // A file without a name is gone, but what was said about it must still fit.
        for (&number, inode) in &state.inodes {
            let named = after.names.iter().find(|(_, named)| *named == number);
            let kept = survivors.files.get(&number).map(Vec::as_slice);
            if named.is_none() && kept.is_none() && !survivors.times.contains_key(&number) {
                continue;
            }
            let content = inode.after_power_cut(number, kept, &state.assumptions)?;
            let time = survivors.times.get(&number).copied();
            let time = inode.time_after_power_cut(number, time)?;
            if let Some((path, _)) = named {
                let inode = inode.restarted(path, content, time);
                after.inodes.insert(number, inode);
            }
        }
        Ok(SimHost::of(after))
    }

    /// Whether whoever starts anew on this host finds what he would find on the other one: names,
    /// files and times. What of it is durable makes no difference to him, as long as nothing fails;
    /// nor do locks, open files, and files without a name.
    pub fn is_found_like(&self, other: &SimHost) -> bool {
        let (state, other) = (self.state(), other.state());
        state.assumptions == other.assumptions
            && state.capacity == other.capacity
            && state.next_inode == other.next_inode
            && state.clock == other.clock
            && state.late_writes.is_empty()
            && other.late_writes.is_empty()
            && state.names.are_now(&other.names)
            && (state.names.iter()).all(|(_, number)| {
                let (file, other) = (state.inode(number), other.inode(number));
                file.kind == other.kind
                    && file.times.current() == other.times.current()
                    && file.current().is_stored_like(other.current())
            })
    }

    /// In how many ways a kill can cut the next write of a snapshot short: after whole pages of the
    /// file (or units of another size, see [`Assumptions::kill_unit`]), of which it has begun or
    /// ended this many and not all. 0 if no write comes next.
    ///
    /// [`Assumptions::kill_unit`]: super::Assumptions::kill_unit
    pub fn pages_in_flight(&self) -> u64 {
        let state = self.state();
        match &state.in_flight {
            Some((_, change)) => change.borders(state.assumptions.unit_of_a_kill()),
            None => 0,
        }
    }

    /// The host after its process was killed in the middle of the write that comes next, of which
    /// what lies before the border with the number `pages` of those that
    /// [`SimHost::pages_in_flight`] counts is done, counted from 1. None if there is no such border
    /// in it.
    pub fn after_kill_in_write(&self, pages: u64) -> Option<SimHost> {
        let state = self.state();
        let (inode, change) = state.in_flight.as_ref()?;
        let done = change.up_to_border(state.assumptions.unit_of_a_kill(), pages)?;
        let mut after = state.killed();
        after.inode_mut(*inode).change(state.operations, done);
        after.touch(*inode);
        drop(state);
        Some(SimHost::of(after))
    }

    /// The host after its process was killed: files and names as they are now, none of
    /// them open or locked. What was unsynced still is, and a power cut can take it.
    pub fn after_kill(&self) -> SimHost {
        SimHost::of(self.state().killed())
    }
}

impl State {
    /// The snapshot before a write learns what it is.
    pub(super) fn note_in_flight(&self, inode: InodeNumber, change: &Change) {
        let snapshot = self
            .snapshots
            .as_ref()
            .and_then(|snapshots| snapshots.last());
        if let (Some(snapshot), Change::Write { .. }) = (snapshot, change) {
            snapshot.state_mut().in_flight = Some((inode, change.clone()));
        }
    }

    /// The state that a kill would leave now.
    pub(crate) fn killed(&self) -> State {
        let mut after = self.restarted();
        after.names = self.names.clone();
        after.inodes = self.inodes.clone();
        after.late_writes = self.late_writes.clone();
        for inode in after.inodes.values_mut() {
            inode.handles = 0;
        }
        after
    }

    /// An empty host like this one.
    fn restarted(&self) -> State {
        let mut restarted = State::new(self.assumptions);
        restarted.next_inode = self.next_inode;
        restarted.clock = self.clock;
        restarted.capacity = self.capacity;
        restarted.spent = self.spent.anew();
        restarted.log = self.log.as_ref().map(|_| Vec::new());
        restarted
    }
}
