//! A file that can fail on demand and lose what was not synced.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use driver::host::{HostError, HostFile, HostResult};
use driver::units::{Bytes, FileOffset, FileRange};

/// What the next operation of a kind suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Error,
    Short(usize),
}

#[derive(Clone, Debug, Default)]
struct Inner {
    content: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written and not synced, in order.
    pending: Vec<(usize, Vec<u8>)>,
    reads: VecDeque<Option<Fault>>,
    writes: VecDeque<Option<Fault>>,
    punches: VecDeque<Option<Fault>>,
    syncs: VecDeque<Option<Fault>>,
    log: Vec<String>,
}

/// A handle; clones are of the same file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Rc<RefCell<Inner>>);

impl Disk {
    pub(crate) fn new(content: Vec<u8>) -> Disk {
        let durable = content.clone();
        Disk(Rc::new(RefCell::new(Inner {
            content,
            durable,
            ..Inner::default()
        })))
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        self.0.borrow().content.clone()
    }

    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().log)
    }

    pub(crate) fn fail_reads(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.0.borrow_mut().reads = faults.into_iter().collect();
    }

    pub(crate) fn fail_writes(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.0.borrow_mut().writes = faults.into_iter().collect();
    }

    pub(crate) fn fail_punches(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.0.borrow_mut().punches = faults.into_iter().collect();
    }

    pub(crate) fn fail_syncs(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.0.borrow_mut().syncs = faults.into_iter().collect();
    }

    pub(crate) fn pending(&self) -> usize {
        self.0.borrow().pending.len()
    }

    /// The disk after a power cut. Of the unsynced sectors those survive it for which `survives`.
    pub(crate) fn after_power_cut(&self, survives: impl Fn(usize) -> bool) -> Disk {
        let inner = self.0.borrow();
        let mut content = inner.durable.clone();
        for (index, (at, data)) in inner.pending.iter().enumerate() {
            if survives(index) {
                put(&mut content, *at, data);
            }
        }
        Disk::new(content)
    }
}

fn put(content: &mut Vec<u8>, at: usize, data: &[u8]) {
    if content.len() < at + data.len() {
        content.resize(at + data.len(), 0);
    }
    content[at..at + data.len()].copy_from_slice(data);
}

impl Inner {
    fn change(&mut self, at: usize, data: &[u8]) {
        put(&mut self.content, at, data);
        let (mut at, mut rest) = (at, data);
        while !rest.is_empty() {
            let len = rest.len().min(512 - at % 512);
            self.pending.push((at, rest[..len].to_vec()));
            at += len;
            rest = &rest[len..];
        }
    }
}

impl HostFile for Disk {
    fn read_at(&self, buffer: &mut [u8], at: FileOffset) -> HostResult<usize> {
        let inner = &mut *self.0.borrow_mut();
        inner.log.push(format!("read {}+{}", at.0, buffer.len()));
        let fault = inner.reads.pop_front().flatten();
        let start = inner.content.len().min(at.0 as usize);
        let mut len = buffer.len().min(inner.content.len() - start);
        match fault {
            Some(Fault::Error) => return Err(HostError::Io),
            Some(Fault::Short(most)) => len = len.min(most.max(1)),
            None => {}
        }
        buffer[..len].copy_from_slice(&inner.content[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, data: &[u8], at: FileOffset) -> HostResult<usize> {
        let inner = &mut *self.0.borrow_mut();
        inner.log.push(format!("write {}+{}", at.0, data.len()));
        let fault = inner.writes.pop_front().flatten();
        let len = match fault {
            Some(Fault::Error) => return Err(HostError::Io),
            Some(Fault::Short(most)) => data.len().min(most),
            None => data.len(),
        };
        inner.change(at.0 as usize, &data[..len]);
        Ok(len)
    }

    fn sync_data(&self) -> HostResult<()> {
        let inner = &mut *self.0.borrow_mut();
        inner.log.push("sync".into());
        let fault = inner.syncs.pop_front().flatten();
        let pending = std::mem::take(&mut inner.pending);
        if fault.is_some() {
            return Err(HostError::Io);
        }
        for (at, data) in pending {
            put(&mut inner.durable, at, &data);
        }
        Ok(())
    }

    fn len(&self) -> HostResult<Bytes> {
        Ok(Bytes(self.0.borrow().content.len() as u64))
    }

    fn set_len(&self, len: Bytes) -> HostResult<()> {
        self.0.borrow_mut().content.resize(len.0 as usize, 0);
        Ok(())
    }

    fn punch_hole(&self, range: FileRange) -> HostResult<()> {
        let inner = &mut *self.0.borrow_mut();
        inner
            .log
            .push(format!("punch {}+{}", range.start.0, range.len.0));
        let fault = inner.punches.pop_front().flatten();
        if fault.is_some() {
            return Err(HostError::Io);
        }
        inner.change(range.start.0 as usize, &vec![0; range.len.0 as usize]);
        Ok(())
    }

    fn zero_range(&self, range: FileRange) -> HostResult<()> {
        self.punch_hole(range)
    }

    fn next_data(&self, _from: FileOffset) -> HostResult<Option<FileRange>> {
        Err(HostError::Unsupported)
    }
}
