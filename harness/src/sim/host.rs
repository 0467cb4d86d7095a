//! The handle to a simulated host: how every operation passes the crash point, the
//! faults and the log, and what happens to names.

use std::cell::{Ref, RefCell, RefMut};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use driver::host::{
    Access, FileIdentity, FileKind, HostError, HostNames, HostResult, LockKind, Metadata,
    OperationKind, Replace, beneath, names_a_directory,
};
use driver::units::Bytes;

use super::allowance::{Allowance, Spent};
use super::assumptions::Assumptions;
use super::call::{Call, LoggedCall};
use super::content::FileContent;
use super::faults::{Fault, FaultPlan, FaultRule, Injected};
use super::file::SimFile;
use super::inode::Inode;
use super::names::{NameChange, normalized};
use super::state::State;
use super::survivors::InodeNumber;

/// The number of the one device that all simulated files are on.
const DEVICE: u64 = 1;
/// A host in memory that can crash. A clone is another handle to the same host; hosts
/// are used by one thread.
///
/// Every call of the seams' required methods is one operation, counted from 0, whether it changes
/// something or not. A call whose path is refused beforehand is none. Inspection through this type
/// itself is not counted, suffers no faults, and still works after a crash.
#[derive(Clone)]
pub struct SimHost {
    state: Rc<RefCell<State>>,
}

impl Default for SimHost {
    fn default() -> Self {
        Self::new(Assumptions::default())
    }
}

impl SimHost {
    /// An empty host on which these assumptions hold.
    pub fn new(assumptions: Assumptions) -> Self {
        Self::of(State::new(assumptions))
    }

    pub(crate) fn of(state: State) -> Self {
        Self {
            state: Rc::new(RefCell::new(state)),
        }
    }

    /// The assumptions that hold here.
    pub fn assumptions(&self) -> Assumptions {
        self.state().assumptions
    }

    /// Puts a file there, durably and without an operation: how a case is set up. An
    /// existing file of this name loses it. Content is shared, not copied.
    pub fn install(&self, path: impl AsRef<Path>, content: FileContent) -> InodeNumber {
        let path = normalized(path.as_ref());
        let mut state = self.state_mut();
        let inode = state.new_inode(&path, content);
        state.names.install(&path, inode);
        inode
    }

    /// Makes everything durable, as it becomes on an idle machine: content, lengths and
    /// names, also what a failed sync gave up.
    pub fn settle(&self) {
        let mut state = self.state_mut();
        for inode in state.inodes.values_mut() {
            inode.settle();
            inode.times.settle();
        }
        state.names.settle();
    }

    /// What the file holds now; it stays as it is when the file changes.
    pub fn content(&self, path: impl AsRef<Path>) -> Option<FileContent> {
        self.inspect(path, |inode| inode.current().clone())
    }

    /// What of the file is certain to survive a power cut, if its name does.
    pub fn durable_content(&self, path: impl AsRef<Path>) -> Option<FileContent> {
        self.inspect(path, Inode::durable)
    }

    /// Which file the name stands for now.
    pub fn inode(&self, path: impl AsRef<Path>) -> Option<InodeNumber> {
        self.state().names.reached(path.as_ref())
    }

    /// All names on the host, in order.
    pub fn paths(&self) -> Vec<PathBuf> {
        let state = self.state();
        let paths = state.names.iter().map(|(path, _)| path.to_path_buf());
        paths.collect()
    }

    /// Sets the time that [`Metadata`] reports, durably and without an operation. Writes
    /// change it only where [`Assumptions::steady_times`] is weakened. Whether there is such
    /// a file.
    pub fn set_modified_seconds(&self, path: impl AsRef<Path>, seconds: i64) -> bool {
        let mut state = self.state_mut();
        let Some(inode) = state.names.reached(path.as_ref()) else {
            return false;
        };
        state.set_modified(inode, seconds);
        state.inode_mut(inode).times.settle();
        true
    }

    /// Sets the clock to this time, if it is not past that already.
    pub fn advance_clock(&self, seconds: i64) {
        let mut state = self.state_mut();
        // Without a slow clock the next change is a second later.
        let ticks = i64::from(!state.assumptions.slow_clock);
        state.clock = state.clock.max(seconds.saturating_sub(ticks));
    }

    /// The time that [`Metadata`] reports.
    pub fn modified_seconds(&self, path: impl AsRef<Path>) -> Option<i64> {
        self.inspect(path, |inode| inode.times.current())
    }

    /// Sets the kind that [`Metadata`] reports. Whether there is such a file. Nothing
    /// else changes: it is there to see that other kinds are refused.
    pub fn set_kind(&self, path: impl AsRef<Path>, kind: FileKind) -> bool {
        self.adjust(path, |inode| inode.kind = kind)
    }

    /// Limits the space for all files together, in whole pages. What exceeds it fails
    /// with [`HostError::NoSpace`]; a write is first cut short.
    pub fn set_capacity(&self, capacity: Option<Bytes>) {
        self.state_mut().capacity = capacity;
    }

    /// Limits what may be asked of the host, counted from here on and anew after each crash. What
    /// exceeds it ends in a panic whose payload is [`Exceeded`](super::Exceeded).
    pub fn set_allowance(&self, allowance: Allowance) {
        self.state_mut().spent = Spent::of(allowance);
    }

    /// The space that all files take that have a name or are open.
    pub fn used(&self) -> Bytes {
        self.state().used()
    }

    /// How many operations took place. The next one has this number.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many of them were changes: see [`OperationKind::is_change`].
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Plans a crash: the operation with this number does not happen any more. It and
    /// all after it fail with [`HostError::Io`] and have no effect.
    pub fn crash_before_operation(&self, index: u64) {
        self.state_mut().crash_before_operation = Some(index);
    }

    /// Plans a crash before a change, counted from 0 among changes only. These are all
    /// the crash points there are, as far as the disks can tell.
    pub fn crash_before_change(&self, index: u64) {
        self.state_mut().crash_before_change = Some(index);
    }

    /// Crashes now.
    pub fn crash(&self) {
        self.state_mut().crashed = true;
    }

    /// Whether the host has crashed.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// Lets another process do something before the operation with this number: `act` gets this
    /// host, and its own operations are counted on.
    pub fn meanwhile(&self, index: u64, act: impl FnOnce(&SimHost) + 'static) {
        self.state_mut().meanwhile = Some((index, Box::new(act)));
    }

    /// Sets the faults from here on. Rules count the operations from here on.
    pub fn set_faults(&self, faults: FaultPlan) {
        self.state_mut().faults = Some(faults);
    }

    /// More faults at planned places. Their rules count the operations from here on; those that
    /// are there already go on counting, and come first where several apply.
    pub fn add_faults(&self, rules: &[FaultRule]) {
        if !rules.is_empty() {
            let mut state = self.state_mut();
            state.faults.get_or_insert_default().add(rules);
        }
    }

    /// The faults that took place.
    pub fn injected(&self) -> Vec<Injected> {
        self.state().injected.clone()
    }

    /// Those of the faults that took place since this many operations had been carried out.
    pub fn injected_since(&self, operations: u64) -> Vec<Injected> {
        let state = self.state();
        let since = |injected: &&Injected| injected.call.index >= operations;
        state.injected.iter().filter(since).cloned().collect()
    }

    /// Those of them that were no mere short transfers: what can explain that something is missing.
    pub fn failures_since(&self, operations: u64) -> Vec<Injected> {
        let state = self.state();
        let since = |injected: &&Injected| {
            injected.call.index >= operations && !injected.fault.is_short_transfer()
        };
        state.injected.iter().filter(since).cloned().collect()
    }

    /// Records all operations from here on.
    pub fn record(&self) {
        self.state_mut().log.get_or_insert_default();
    }

    /// Takes what was recorded; recording goes on. Empty without [`SimHost::record`].
    pub fn take_log(&self) -> Vec<LoggedCall> {
        let mut state = self.state_mut();
        state.log.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// From here on, keeps the host as it was before each change: every crash point of a
    /// run, for the price of a clone of shared pages.
    pub fn keep_snapshots(&self) {
        self.state_mut().snapshots.get_or_insert_default();
    }

    /// Takes the snapshots kept so far, as [`SimHost::after_kill`] would have given them;
    /// keeping goes on. Empty without [`SimHost::keep_snapshots`].
    pub fn take_snapshots(&self) -> Vec<SimHost> {
        let mut state = self.state_mut();
        state.spent.snapshots_taken();
        let snapshots = state.snapshots.as_mut().map(std::mem::take);
        snapshots.unwrap_or_default()
    }

    pub(crate) fn state(&self) -> Ref<'_, State> {
        self.state.borrow()
    }

    pub(super) fn state_mut(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Releases what an open description held. A panic that passes through the host must
    /// not turn into an abort here.
    pub(crate) fn close(&self, inode: InodeNumber, description: u64) {
        if let Ok(mut state) = self.state.try_borrow_mut() {
            state.close(inode, description);
        }
    }

    /// The way of every operation: the crash point, the count, the faults, the act
    /// itself, the log. `number` is what the log keeps of a result.
    pub(crate) fn perform<T>(
        &self,
        mut call: Call,
        number: impl FnOnce(&T) -> u64,
        act: impl FnOnce(&mut State, u64, Option<Fault>) -> HostResult<T>,
    ) -> HostResult<T> {
        self.let_another_act();
        let mut state = self.state_mut();
        state.spent.spend(&call);
        if call.kind.is_change() && !state.crashed && state.snapshots.is_some() {
            let held = state.inodes.values().map(Inode::cost_of_a_snapshot).sum();
            state.spent.keep_snapshot(call.kind, held);
            let before = SimHost::of(state.killed());
            state.snapshots.get_or_insert_default().push(before);
        }
        call.index = state.pass_crash_point(call.kind)?;
        let fault = state.decide_fault(&call);
        state.mishear(&call, fault);
        let result = match fault {
            Some(Fault::Io) => Err(HostError::Io),
            Some(Fault::NoSpace) => Err(HostError::NoSpace),
            Some(Fault::Unsupported) => Err(HostError::Unsupported),
            Some(Fault::IoAfter) => act(&mut state, call.index, fault).and(Err(HostError::Io)),
            _ => act(&mut state, call.index, fault),
        };
        if let Some(log) = &mut state.log {
            let result = match &result {
                Ok(value) => Ok(number(value)),
                Err(error) => Err(error.clone()),
            };
            log.push(LoggedCall { call, result });
        }
        result
    }

    fn let_another_act(&self) {
        let mut state = self.state_mut();
        let now = state.operations;
        let due = state.meanwhile.take_if(|(index, _)| *index == now);
        drop(state);
        if let Some((_, act)) = due {
            act(self);
        }
    }

    fn inspect<T>(&self, path: impl AsRef<Path>, look: impl FnOnce(&Inode) -> T) -> Option<T> {
        let inode = self.inode(path)?;
        Some(look(self.state().inode(inode)))
    }

    fn adjust(&self, path: impl AsRef<Path>, change: impl FnOnce(&mut Inode)) -> bool {
        let inode = self.inode(path);
        inode
            .map(|inode| change(self.state_mut().inode_mut(inode)))
            .is_some()
    }

    fn opened(
        &self,
        state: &mut State,
        inode: InodeNumber,
        path: &Rc<Path>,
        access: Access,
    ) -> SimFile {
        state.inode_mut(inode).handles += 1;
        state.next_description += 1;
        SimFile::new(self, inode, state.next_description, path, access)
    }
}

impl fmt::Debug for SimHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SimHost")
            .field("paths", &self.paths())
            .field("operations", &state.operations)
            .field("crashed", &state.crashed)
            .finish()
    }
}

impl HostNames for SimHost {
    type File = SimFile;

    fn open(&self, path: &Path, access: Access) -> HostResult<SimFile> {
        let path = self.state().names.key(path);
        let call = Call::new(OperationKind::Open, &path);
        self.perform(
            call,
            |_| 0,
            |state, _, _| {
                state.misses(&path)?;
                let inode = state.names.get(&path).ok_or(HostError::NotFound)?;
                Ok(self.opened(state, inode, &path, access))
            },
        )
    }

    /// There are no symbolic links here.
    fn open_beneath(&self, directory: &Path, path: &Path, access: Access) -> HostResult<SimFile> {
        let names = beneath(path)?;
        let path = directory.join(&names);
        match self.inspect(&path, |inode| inode.kind) {
            Some(kind) if kind != FileKind::Directory && names_a_directory(&names) => {
                return Err(HostError::NOT_A_DIRECTORY);
            }
            Some(FileKind::BlockDevice) => return Err(HostError::DeviceFile),
            _ => {}
        }
        self.open(&path, access)
    }

    fn create_new(&self, path: &Path) -> HostResult<SimFile> {
        let path = normalized(path);
        let call = Call::new(OperationKind::CreateNew, &path);
        self.perform(
            call,
            |_| 0,
            |state, _, _| {
                if path.file_name().is_none() || state.names.get(&path).is_some() {
                    return Err(HostError::AlreadyExists);
                }
                let inode = state.new_inode(&path, FileContent::default());
                state.names.change(NameChange::Create {
                    path: Rc::clone(&path),
                    inode,
                });
                state.touch(inode);
                Ok(self.opened(state, inode, &path, Access::ReadWrite))
            },
        )
    }

    /// Only counted and logged: there are no modes.
    fn give_mode(&self, _: &Path, file: &SimFile, _: &[&SimFile]) -> HostResult<()> {
        let call = Call::new(OperationKind::GiveMode, file.path());
        self.perform(call, |()| 0, |_, _, _| Ok(()))
    }

    fn metadata(&self, file: &SimFile) -> HostResult<Metadata> {
        let call = Call::new(OperationKind::Metadata, file.path());
        self.perform(
            call,
            |_| 0,
            |state, _, _| {
                let inode = state.inode(file.inode());
                Ok(Metadata {
                    kind: inode.kind,
                    identity: FileIdentity {
                        device: DEVICE,
                        inode: file.inode().0,
                    },
                    len: inode.current().length(),
                    modified_seconds: inode.times.current(),
                })
            },
        )
    }

    /// Can fail like any operation; files have neither owner nor mode here.
    fn copy_attributes(&self, _from: &SimFile, to: &SimFile) -> HostResult<()> {
        let call = Call::new(OperationKind::CopyAttributes, to.path());
        self.perform(call, |_| 0, |_, _, _| Ok(()))
    }

    fn lock(&self, file: &SimFile, kind: LockKind) -> HostResult<()> {
        let call = Call::new(OperationKind::Lock, file.path());
        self.perform(
            call,
            |_| 0,
            |state, _, _| {
                if kind == LockKind::Exclusive {
                    file.check_writable()?;
                }
                state.lock(file.inode(), file.description(), kind)
            },
        )
    }

    fn rename(&self, from: &Path, to: &Path, replace: Replace) -> HostResult<()> {
        let (from, to) = (normalized(from), normalized(to));
        let mut call = Call::new(OperationKind::Rename, &from);
        call.to = Some(Rc::clone(&to));
        self.perform(call, |_| 0, |state, _, _| state.rename(from, to, replace))
    }

    fn remove(&self, path: &Path) -> HostResult<()> {
        let path = normalized(path);
        let call = Call::new(OperationKind::Remove, &path);
        self.perform(
            call,
            |_| 0,
            |state, _, _| {
                let inode = state.names.get(&path).ok_or(HostError::NotFound)?;
                state.names.change(NameChange::Remove { path, inode });
                Ok(())
            },
        )
    }

    fn sync_directory_of(&self, path: &Path) -> HostResult<()> {
        let path = normalized(path);
        let call = Call::new(OperationKind::SyncDirectory, &path);
        self.perform(
            call,
            |_| 0,
            |state, _, fault| match fault {
                Some(Fault::FailedSync) => Err(HostError::Io),
                Some(Fault::LyingSync) => Ok(()),
                _ => {
                    if state.assumptions.sync_persists {
                        state.names.sync_directory_of(&path);
                    }
                    Ok(())
                }
            },
        )
    }
}
