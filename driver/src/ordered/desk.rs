//! Where a relocation asks for what it needs: an operation on one of the device's files, a look at
//! the device, or that requests go on. It waits for each, and has one under way at a time.
//!
//! An operation goes the way that those of requests go: it is carried out where it is given, or by
//! an executor, and then requests go on meanwhile. All that is done within one look happens at one
//! moment for them. Between two things that are asked for, anything may happen that
//! [`Relocation::set_hold`] and the turn do not keep out: see [`Desk::turn`].
//!
//! Operations on names (creating, renaming, removing, syncing a directory, giving owner and mode)
//! are none of these. A procedure calls its host for them, between two things that it asks for: it
//! keeps everything out then, or nothing else depends on the name yet.
//!
//! A resize that is given up is answered [`ResizeError::Abandoned`] by the next thing that it asks
//! for, once, and that is not done. All that it asks for afterwards is, so that its own way to put
//! things back works as after any other failure. So nothing but the host's own error may be
//! ignored: what this desk says to an operation ([`Desk::operate`]) has both, one within the other.
//! Nor may it be refused while it puts things back after a failure: see [`Desk::decided`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::coroutine::Asker;
use crate::host::{
    Action, Buffer, FileRole, FinishedAction, HostFile, HostResult, OperationKind,
    carry_out_or_instead,
};
use crate::resize::ResizeError;
use crate::units::{Bytes, FileOffset, FileRange};

use super::{Ordered, Relocation};

const CLEARING: &str = "clearing a range of the COW file";

/// Bytes that are zeroed at once where the host punches no hole.
const ZEROED_AT_ONCE: Bytes = Bytes(16 << 20);

/// What is asked for.
pub(super) enum Ask<F> {
    Operation(FileRole, Action),
    Look(Look<F>),
    /// A look that is not refused.
    Follow(Look<F>),
    /// That nothing is refused any more.
    Decided,
    /// That requests go on.
    Wait(WaitFor),
}

pub(super) type Look<F> = Box<dyn FnOnce(&mut Relocation<'_, F>)>;

/// What is waited for while requests go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitFor {
    /// That a turn begins.
    Turn,
    /// Nothing.
    Nothing,
}

/// What is answered.
#[derive(Debug)]
pub(super) enum Answer {
    Finished(FinishedAction),
    Done,
    Abandoned,
}

impl FinishedAction {
    /// Its buffer, if it has one.
    fn into_data(self) -> Vec<u8> {
        match self.action {
            Action::Read { buffer, .. } | Action::Write { buffer, .. } => buffer.data,
            _ => Vec::new(),
        }
    }
}

/// Who is shown the device at each turn.
type Watch<F> = Rc<RefCell<dyn FnMut(&Ordered<F>)>>;

/// Where one relocation asks.
pub struct Desk<F> {
    asker: Asker<Ask<F>, Answer>,
    watch: Option<Watch<F>>,
}

impl<F> Clone for Desk<F> {
    fn clone(&self) -> Desk<F> {
        Desk {
            asker: self.asker.clone(),
            watch: self.watch.clone(),
        }
    }
}

impl<F> std::fmt::Debug for Desk<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl<F: HostFile> Desk<F> {
    pub(super) fn new(asker: Asker<Ask<F>, Answer>) -> Desk<F> {
        Desk { asker, watch: None }
    }

    /// This desk, for a procedure that somebody watches: before it lets requests go on, `watch` is
    /// shown the device.
    #[must_use]
    pub fn watched(&self, watch: impl FnMut(&Ordered<F>) + 'static) -> Desk<F> {
        Desk {
            asker: self.asker.clone(),
            watch: Some(Rc::new(RefCell::new(watch))),
        }
    }

    /// Lets requests and publications go on, and then waits for a turn: until no publication is
    /// under way, for it knows where the bitmap was when it began, and until those requests have
    /// ended that are kept out. No publication begins before the next turn or [`Desk::pass`]. So
    /// what is read of the map within a turn may be written into the bitmap within it.
    ///
    /// # Errors
    /// [`ResizeError::Abandoned`], as of all that is asked here.
    pub async fn turn(&self) -> Result<(), ResizeError> {
        self.let_go_on(WaitFor::Turn).await
    }

    /// Lets requests and publications go on, also from here on.
    ///
    /// # Errors
    /// [`ResizeError::Abandoned`].
    pub async fn pass(&self) -> Result<(), ResizeError> {
        self.let_go_on(WaitFor::Nothing).await
    }

    async fn let_go_on(&self, wait_for: WaitFor) -> Result<(), ResizeError> {
        if let Some(watch) = self.watch.clone() {
            self.follow(move |here| watch.borrow_mut()(here.device()))
                .await?;
        }
        match self.asker.ask(Ask::Wait(wait_for)).await {
            Answer::Abandoned => Err(ResizeError::Abandoned),
            Answer::Done | Answer::Finished(_) => Ok(()),
        }
    }

    /// Says that giving the resize up comes too late from now on: it puts things back, or it has
    /// committed. Whoever has to go through with something says so before.
    pub async fn decided(&self) {
        self.asker.ask(Ask::Decided).await;
    }

    /// Looks at the device, and changes what a relocation may change.
    ///
    /// # Errors
    /// [`ResizeError::Abandoned`].
    pub async fn look<R: 'static>(
        &self,
        look: impl FnOnce(&mut Relocation<'_, F>) -> R + 'static,
    ) -> Result<R, ResizeError> {
        self.find(Ask::Look, look).await
    }

    /// Looks at the device like [`Desk::look`], also where the resize has just been given up: for
    /// what has to follow in memory when something is on the disk.
    ///
    /// # Errors
    /// None: it is the type of a look.
    pub async fn follow<R: 'static>(
        &self,
        look: impl FnOnce(&mut Relocation<'_, F>) -> R + 'static,
    ) -> Result<R, ResizeError> {
        self.find(Ask::Follow, look).await
    }

    async fn find<R: 'static>(
        &self,
        ask: fn(Look<F>) -> Ask<F>,
        look: impl FnOnce(&mut Relocation<'_, F>) -> R + 'static,
    ) -> Result<R, ResizeError> {
        let found = Rc::new(Cell::new(None));
        let finds = Rc::clone(&found);
        let look: Look<F> = Box::new(move |relocation| finds.set(Some(look(relocation))));
        self.asker.ask(ask(look)).await;
        // A look that was not taken has found nothing.
        found.take().ok_or(ResizeError::Abandoned)
    }

    /// Asks for an operation on one of the device's files, and waits for its end.
    ///
    /// # Errors
    /// [`ResizeError::Abandoned`]; what the host says is in [`FinishedAction::result`].
    pub async fn operate(
        &self,
        file: FileRole,
        action: Action,
    ) -> Result<FinishedAction, ResizeError> {
        match self.asker.ask(Ask::Operation(file, action)).await {
            Answer::Finished(finished) => Ok(finished),
            Answer::Done | Answer::Abandoned => Err(ResizeError::Abandoned),
        }
    }

    /// Asks for an operation that has to succeed; `doing` says what it is for.
    async fn succeed(
        &self,
        file: FileRole,
        doing: &'static str,
        action: Action,
    ) -> Result<FinishedAction, ResizeError> {
        let (kind, at) = (action.kind(), action.range().start);
        let mut ended = self.operate(file, action).await?;
        let result = std::mem::replace(&mut ended.result, Ok(()));
        result.map_err(ResizeError::host(kind, doing, at))?;
        Ok(ended)
    }

    /// Fills `data`, which comes back, from a file.
    ///
    /// # Errors
    /// The host's.
    pub async fn read(
        &self,
        file: FileRole,
        doing: &'static str,
        at: FileOffset,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, ResizeError> {
        let buffer = Buffer::whole(data);
        let action = Action::Read { at, buffer };
        Ok(self.succeed(file, doing, action).await?.into_data())
    }

    /// Writes `data`, which comes back, to a file: outside of the places where the device has its
    /// data now.
    ///
    /// # Errors
    /// The host's.
    pub async fn write(
        &self,
        file: FileRole,
        doing: &'static str,
        at: FileOffset,
        data: Vec<u8>,
    ) -> Result<Vec<u8>, ResizeError> {
        let buffer = Buffer::whole(data);
        let action = Action::Write { at, buffer };
        Ok(self.succeed(file, doing, action).await?.into_data())
    }

    /// The length of a file.
    ///
    /// # Errors
    /// The host's.
    pub async fn len(&self, file: FileRole, doing: &'static str) -> Result<Bytes, ResizeError> {
        let ended = self.succeed(file, doing, Action::Len(Bytes(0))).await?;
        match ended.action {
            Action::Len(len) => Ok(len),
            _ => Ok(Bytes(0)),
        }
    }

    /// The first data in a range of a file, cut to it.
    ///
    /// # Errors
    /// The host's.
    pub async fn next_data(
        &self,
        file: FileRole,
        doing: &'static str,
        range: FileRange,
    ) -> Result<Option<FileRange>, ResizeError> {
        if range.len == Bytes(0) {
            return Ok(None);
        }
        let found = self.data_from(file, range.start).await?;
        let found = found.map_err(ResizeError::host(
            OperationKind::NextData,
            doing,
            range.start,
        ))?;
        Ok(found.and_then(|data| data.common(range)))
    }

    /// The first data at or after an offset of a file, or why the host cannot tell.
    ///
    /// # Errors
    /// [`ResizeError::Abandoned`].
    pub async fn data_from(
        &self,
        file: FileRole,
        from: FileOffset,
    ) -> Result<HostResult<Option<FileRange>>, ResizeError> {
        let action = Action::NextData { from, found: None };
        let ended = self.operate(file, action).await?;
        Ok(ended.result.map(|()| match ended.action {
            Action::NextData { found, .. } => found,
            _ => None,
        }))
    }

    /// Makes a range of the COW file read as zeros, freeing its space where the host can. Where it
    /// cannot, what has data is zeroed, piece by piece: an alignment leaves up to 4 GiB of room
    /// before the data, nearly all of it a hole.
    ///
    /// # Errors
    /// The host's.
    pub async fn clear(&self, range: FileRange) -> Result<(), ResizeError> {
        let ended = self
            .operate(FileRole::Cow, Action::PunchHole(range))
            .await?;
        match ended.instead() {
            Some(instead) => self.zero(range, instead).await,
            None => cleared(ended).map(drop),
        }
    }

    /// Zeroes what has data in a range of the COW file as `zeroing` does. What the host turns out
    /// not to know it is not asked for again.
    async fn zero(&self, range: FileRange, zeroing: Action) -> Result<(), ResizeError> {
        let (mut left, mut zeroing) = (range, zeroing);
        while let Some(piece) = self.next_piece_of_data(left).await? {
            let operate = async |action| self.operate(FileRole::Cow, action).await;
            let ended = carry_out_or_instead(zeroing.over(piece), operate).await?;
            zeroing = cleared(ended)?;
            left = FileRange::between(piece.end()..range.end());
        }
        Ok(())
    }

    /// The first data in a range of the COW file, no more than is zeroed at once. What the host
    /// cannot tell holes from counts as data.
    async fn next_piece_of_data(&self, range: FileRange) -> Result<Option<FileRange>, ResizeError> {
        if range.len == Bytes(0) {
            return Ok(None);
        }
        let data = self.data_from(FileRole::Cow, range.start).await?;
        let data = data.unwrap_or(Some(range));
        Ok(data.and_then(|data| {
            let piece = data.common(range)?;
            Some(FileRange::new(piece.start, piece.len.min(ZEROED_AT_ONCE)))
        }))
    }

    /// Gives the space of a range of the COW file back that nobody needs any more. What the host
    /// cannot give back stays there, and does no harm.
    ///
    /// # Errors
    /// [`ResizeError::Abandoned`] alone.
    pub async fn free(&self, range: FileRange) -> Result<(), ResizeError> {
        if range.len > Bytes(0) {
            let action = Action::PunchHole(range);
            self.operate(FileRole::Cow, action).await?;
        }
        Ok(())
    }

    /// Changes the length of the COW file, and never cuts off data: what the last dirty sector
    /// of the device needs stays, whatever `len` says. Between two looks the guest may have
    /// written past a length that was right before them; where it still may, requests that reach
    /// past `len` have to be kept out.
    ///
    /// # Errors
    /// The host's.
    pub async fn set_cow_len(&self, len: FileOffset) -> Result<(), ResizeError> {
        let end = self.look(move |here| here.end_of_data_past(len)).await?;
        self.set_len(FileRole::Cow, LENGTH, len.max(end)).await
    }

    /// Changes the length of a file, and cuts off what is past it.
    pub(super) async fn set_len(
        &self,
        file: FileRole,
        doing: &'static str,
        len: FileOffset,
    ) -> Result<(), ResizeError> {
        let action = Action::SetLen(len - FileOffset(0));
        self.succeed(file, doing, action).await.map(drop)
    }

    /// Gives the file that a rebuild makes its length.
    ///
    /// # Errors
    /// The host's.
    pub async fn set_new_len(
        &self,
        doing: &'static str,
        len: FileOffset,
    ) -> Result<(), ResizeError> {
        self.set_len(FileRole::New, doing, len).await
    }

    /// Syncs the COW file. A failure counts as the device's own: nothing is acknowledged
    /// as durable any more.
    ///
    /// # Errors
    /// The host's, or [`ResizeError::SyncFailed`] if a sync has failed before.
    pub async fn sync(&self) -> Result<(), ResizeError> {
        self.check_syncs().await?;
        self.sync_to_undo().await
    }

    /// Whether no sync has failed.
    ///
    /// # Errors
    /// [`ResizeError::SyncFailed`] if one has.
    pub async fn check_syncs(&self) -> Result<(), ResizeError> {
        match self.look(|here| here.device().has_failed_sync()).await? {
            false => Ok(()),
            true => Err(ResizeError::SyncFailed),
        }
    }

    /// Syncs the COW file or raw disk, whether or not a sync has failed before. For what is put
    /// back where a resize ends early: it is durable then, whatever else has been lost.
    ///
    /// # Errors
    /// The host's.
    pub async fn sync_to_undo(&self) -> Result<(), ResizeError> {
        let ended = self.operate(FileRole::Cow, Action::SyncData).await?;
        let Err(error) = ended.result else {
            return Ok(());
        };
        let is_raw = self.look(|here| here.device().image().is_none()).await?;
        let doing = match is_raw {
            true => "syncing the disk",
            false => "syncing the COW file",
        };
        Err(ResizeError::host(
            OperationKind::SyncData,
            doing,
            FileOffset(0),
        )(error))
    }
}

/// What has cleared a range of the COW file.
///
/// # Errors
/// The host's.
fn cleared(ended: FinishedAction) -> Result<Action, ResizeError> {
    let FinishedAction { action, result } = ended;
    let (kind, at) = (action.kind(), action.range().start);
    result.map_err(ResizeError::host(kind, CLEARING, at))?;
    Ok(action)
}

const LENGTH: &str = "changing the length of the COW file";
