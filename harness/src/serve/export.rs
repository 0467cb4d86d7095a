//! What all endpoints of one device share.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crossbeam_channel::{Receiver, Sender};
use driver::blk::{Limits, Status};
use driver::driver::Driver;
use driver::units::{Bytes, SECTOR_SIZE, Sector, SectorCount, SectorRange};
use driver::{shown, system_words};
use userhelper::real_files::RealFile;

use crate::clock::{self, Started};
use crate::device::{DeviceError, Handle, Submissions, Taken};
use crate::locked::{locked, read_locked, write_locked};

use super::client::{Completer, Done, Submitter, client, client_answered};
use super::extents::{Extent, end_in_file, extents};
use super::record::{NotedJob, Recorder, RecordingStatus};
use super::resizing::Resizing;
use super::server::Ending;
use super::shares::{Share, Shares};
use super::status::{ClientStatus, DeviceStatus};
use super::watched_file::{Found, WatchedFile};

/// The memory that the data of all requests may take, in bytes, beside what each client can always
/// have.
const COMMON_MEMORY: u64 = 256 << 20;

/// What is kept of it for clients that have little.
const RESERVED_MEMORY: u64 = 64 << 20;

/// Where the server's messages go, a line at a time, without a line feed.
pub trait Tells: Send + Sync {
    /// Takes one message.
    fn tell(&self, line: &dyn fmt::Display);
}

impl<T: Fn(&dyn fmt::Display) + Send + Sync> Tells for T {
    fn tell(&self, line: &dyn fmt::Display) {
        self(line);
    }
}

/// What is known of a device before it is served.
#[derive(Clone, Debug)]
pub struct About {
    /// The COW file, or the raw disk.
    pub path: PathBuf,
    /// The driver, as on the command line.
    pub driver: &'static str,
    /// Its defects that are switched on.
    pub defects: Vec<String>,
    /// Who carries its operations out.
    pub io: Taken,
    /// It takes no writes.
    pub read_only: bool,
    /// What it is asked to change is durable when that is answered.
    pub synchronous: bool,
    /// It can be resized.
    pub resizes: bool,
    /// Clients may make it smaller by truncating it.
    pub allow_shrink: bool,
}

/// A device that is served. A copy is the same device.
#[derive(Clone)]
pub struct Export(Arc<Inner>);

struct Inner {
    about: About,
    /// For looks and resizes, and from which new clients' handles are made.
    submissions: Submissions<RealFile>,
    memory: Arc<Shares>,
    /// No new requests are to come.
    is_ending: AtomicBool,
    in_flight: AtomicUsize,
    next_client: AtomicU64,
    clients: Mutex<BTreeMap<u64, KnownClient>>,
    pub(super) resizing: Resizing,
    file: WatchedFile,
    recorder: RwLock<Option<Recorder>>,
    tells: Box<dyn Tells>,
    ends: Sender<Ending>,
}

/// A client that is there.
struct KnownClient {
    name: String,
    requests: Arc<AtomicU64>,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("about", &self.0.about)
            .finish_non_exhaustive()
    }
}

impl Export {
    /// The device behind `handle`. Why the server is to end goes to `ends`.
    pub fn new(
        about: About,
        handle: Handle<RealFile>,
        tells: Box<dyn Tells>,
        ends: Sender<Ending>,
    ) -> Export {
        let (submissions, _) = handle.split();
        let file = WatchedFile::at(&about.path);
        let export = Export(Arc::new(Inner {
            about,
            submissions,
            memory: Shares::new(COMMON_MEMORY, RESERVED_MEMORY),
            is_ending: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            next_client: AtomicU64::new(1),
            clients: Mutex::new(BTreeMap::new()),
            resizing: Resizing::default(),
            file,
            recorder: RwLock::new(None),
            tells,
            ends,
        }));
        export.watch_file();
        export
    }

    /// What is known of it.
    pub fn about(&self) -> &About {
        &self.0.about
    }

    /// Says something to whoever runs the server.
    pub fn tell(&self, line: &dyn fmt::Display) {
        self.0.tells.tell(line);
    }

    /// What says something to whoever runs the server, as long as the device is served.
    pub(super) fn teller(&self) -> impl Fn(&dyn fmt::Display) + Send + use<> {
        let inner = Arc::downgrade(&self.0);
        move |line| {
            if let Some(inner) = inner.upgrade() {
                inner.tells.tell(line);
            }
        }
    }

    /// Ends the server, unless that was asked for already.
    pub fn end(&self, why: Ending) {
        let _ = self.0.ends.try_send(why);
    }

    /// The sectors that it offers.
    pub fn capacity(&self) -> SectorCount {
        self.0.submissions.capacity()
    }

    /// The limits of its driver; a [`Submitter`] keeps them for its client.
    pub fn limits(&self) -> Limits {
        self.0.submissions.limits()
    }

    /// Whether these bytes are whole sectors of the device.
    pub fn sectors(&self, offset: u64, len: u64) -> Option<SectorRange> {
        let end = offset.checked_add(len)?;
        let aligned = offset.is_multiple_of(SECTOR_SIZE) && len.is_multiple_of(SECTOR_SIZE);
        let range = SectorRange::new(Sector(offset / SECTOR_SIZE), Bytes(len).whole_sectors());
        (aligned && end <= self.capacity().bytes().0).then_some(range)
    }

    /// From now on requests that come are refused, where a protocol has a word for that: the server
    /// is to end.
    pub fn refuse_requests(&self) {
        self.0.is_ending.store(true, Ordering::Release);
    }

    /// Whether requests that come are refused, because the server is to end.
    pub fn is_ending(&self) -> bool {
        self.0.is_ending.load(Ordering::Acquire)
    }

    /// A new client; `name` says what it is and where it comes from. It is one until both halves
    /// have been dropped.
    pub fn client<C>(&self, name: String) -> (Submitter<C>, Completer<C>) {
        let handle = self.0.submissions.handle();
        let (number, share) = self.new_client(name);
        client(self.clone(), number, share, handle.split())
    }

    /// A new client whose jobs are answered by `answer` on the device's own thread, but for long
    /// data; see [`Export::client`]. No other thread has to be woken for an answer. While it takes,
    /// nobody is served: it must not wait for anything.
    pub(super) fn client_answered<C: Send + 'static>(
        &self,
        name: String,
        answer: impl FnMut(Vec<Done<C>>) + Send + 'static,
    ) -> (Submitter<C>, Completer<C>) {
        let (number, share) = self.new_client(name);
        client_answered(self.clone(), number, share, answer)
    }

    /// The number of a new client, where its requests are counted, and its share of the memory.
    fn new_client(&self, name: String) -> ((u64, Arc<AtomicU64>), Share) {
        let number = self.0.next_client.fetch_add(1, Ordering::Relaxed);
        let requests = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&requests);
        locked(&self.0.clients).insert(number, KnownClient { name, requests });
        let share = self.0.memory.of(number);
        ((number, counted), share)
    }

    /// The client with this number has gone.
    pub(super) fn client_gone(&self, number: u64) {
        locked(&self.0.clients).remove(&number);
    }

    /// The extents from the start of `range` on, which lies within the device, at most `most`.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn extents(&self, range: SectorRange, most: usize) -> Result<Vec<Extent>, DeviceError> {
        let submissions = &self.0.submissions;
        submissions.look(move |driver| {
            // It may have become smaller meanwhile.
            let capacity = driver.capacity();
            let end = range.end().0.min(capacity.0);
            let start = range.start.0.min(end);
            let range = SectorRange::between(Sector(start)..Sector(end));
            extents(driver, range, most)
        })
    }

    /// How it is doing.
    ///
    /// # Errors
    /// If the device does not go on.
    pub fn status(&self) -> Result<DeviceStatus, DeviceError> {
        let look = self.0.submissions.look(|driver| {
            let dirty = driver.dirty_count();
            (driver.capacity(), dirty, driver.has_failed_sync())
        });
        let (capacity, dirty, failed_sync) = look?;
        let statistics = self.0.submissions.statistics();
        let about = &self.0.about;
        let recorder = read_locked(&self.0.recorder);
        Ok(DeviceStatus {
            file: about.path.display().to_string(),
            driver: about.driver.to_owned(),
            defects: about.defects.clone(),
            io: about.io,
            read_only: about.read_only,
            size_bytes: capacity.bytes().0,
            dirty_bytes: dirty.bytes().0,
            failed_sync,
            file_changed: match self.look_at_file() {
                Found::Nothing => None,
                Found::Renamed(words) | Found::Cut(words) => Some(words),
            },
            in_flight: self.0.in_flight.load(Ordering::Relaxed),
            buffered_bytes: self.0.memory.used(),
            requests: statistics.requests,
            syncs: statistics.syncs,
            clients: self.clients(),
            resize: self.0.resizing.status(),
            recording: recorder.as_ref().map(Recorder::status),
        })
    }

    /// Watches the file that the device has now. One that does not go on has none.
    pub(super) fn watch_file(&self) {
        let inner = Arc::clone(&self.0);
        let watch = move |driver: &dyn Driver<File = RealFile>| {
            inner.file.watch(driver.own_file(), end_in_file(driver))
        };
        if let Ok(Err(error)) = self.0.submissions.look(watch) {
            self.tell(&format_args!(
                "{}: what others do to the file is not noticed: {}",
                shown(&self.0.about.path),
                system_words(&error)
            ));
        }
    }

    /// What others have done to the file, which is told once. If it was cut, the server ends.
    pub(super) fn look_at_file(&self) -> Found {
        let mut resizes = None;
        let (found, is_news) = self.0.file.look(|| {
            let before = std::mem::replace(&mut resizes, self.0.resizing.count());
            resizes.is_some() && resizes == before
        });
        match &found {
            Found::Cut(words) if is_news => self.end(Ending::Cut(words.clone())),
            Found::Renamed(words) if is_news => self.tell(words),
            Found::Nothing if is_news => self.tell(&self.0.file.returned()),
            _ => {}
        }
        found
    }

    /// Whether nobody has cut the file.
    ///
    /// # Errors
    /// That somebody has, in words.
    pub(super) fn file_is_whole(&self) -> Result<(), String> {
        match self.look_at_file() {
            Found::Cut(words) => Err(words),
            Found::Nothing | Found::Renamed(_) => Ok(()),
        }
    }

    /// Keeps the file open no longer than the device does.
    pub(super) fn let_file_go(&self) {
        self.0.file.let_go();
    }

    /// Closes when the device's thread has ended.
    pub(super) fn device_end(&self) -> Receiver<Infallible> {
        self.0.submissions.end()
    }

    /// Why the device's thread has ended, if it has.
    pub(super) fn device_ended(&self) -> Option<&DeviceError> {
        self.0.submissions.ended()
    }

    pub(super) fn submissions(&self) -> &Submissions<RealFile> {
        &self.0.submissions
    }

    pub(super) fn resizing(&self) -> &Resizing {
        &self.0.resizing
    }

    fn clients(&self) -> Vec<ClientStatus> {
        let status = |(&number, client): (&u64, &KnownClient)| ClientStatus {
            number,
            name: client.name.clone(),
            requests: client.requests.load(Ordering::Relaxed),
        };
        locked(&self.0.clients).iter().map(status).collect()
    }

    pub(super) fn note_begun(&self, jobs: usize) {
        self.0.in_flight.fetch_add(jobs, Ordering::Relaxed);
    }

    pub(super) fn note_ended(&self, jobs: usize) {
        self.0.in_flight.fetch_sub(jobs, Ordering::Relaxed);
    }

    /// Writes down what clients ask for from now on, in the place of an earlier recording, which
    /// is given back to be finished.
    pub fn record_to(&self, recorder: Option<Recorder>) -> Option<Recorder> {
        std::mem::replace(&mut write_locked(&self.0.recorder), recorder)
    }

    /// The time now, if what is asked for is written down.
    pub(super) fn recording_time(&self) -> Option<Started> {
        let recorder = read_locked(&self.0.recorder);
        recorder.is_some().then(clock::start)
    }

    pub(super) fn record(&self, client: u64, asked: NotedJob, status: Status) {
        let recorder = read_locked(&self.0.recorder);
        if let Some(recorder) = recorder.as_ref() {
            recorder.note(client, asked, status);
        }
    }

    /// How the recording under way is doing.
    pub fn recording(&self) -> Option<RecordingStatus> {
        let recorder = read_locked(&self.0.recorder);
        recorder.as_ref().map(Recorder::status)
    }
}
