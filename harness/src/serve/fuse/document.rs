//! What `status.json` says. Whoever opens it reads what was so at that moment, however long the
//! reading takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::export::Export;

/// The most times that `status.json` is open at once.
const MOST_OPEN: usize = 256;

/// The device's status now, as a JSON document that ends with a line feed.
///
/// `None` if the device does not go on.
pub(super) fn document(export: &Export) -> Option<Vec<u8>> {
    let status = export.status().ok()?;
    let mut text = serde_json::to_vec_pretty(&status).ok()?;
    text.push(b'\n');
    Some(text)
}

/// The documents that are open.
#[derive(Debug, Default)]
pub(super) struct Documents {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    documents: BTreeMap<u64, Arc<[u8]>>,
}

impl Documents {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a document until it is closed; its number. `None` if too many are open.
    pub(super) fn enter(&self, document: Vec<u8>) -> Option<u64> {
        let mut open = self.open();
        if open.documents.len() >= MOST_OPEN {
            return None;
        }
        open.next += 1;
        let number = open.next;
        open.documents.insert(number, document.into());
        Some(number)
    }

    /// The document of this number.
    pub(super) fn get(&self, number: u64) -> Option<Arc<[u8]>> {
        self.open().documents.get(&number).map(Arc::clone)
    }

    /// The length of the document that was opened last, in bytes, if any is open.
    pub(super) fn latest_len(&self) -> Option<usize> {
        self.open()
            .documents
            .values()
            .next_back()
            .map(|document| document.len())
    }

    /// Nobody reads it any more.
    pub(super) fn close(&self, number: u64) {
        self.open().documents.remove(&number);
    }
}
