//! A pool of threads, each of which reads one block after the other.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::block::Block;
use super::{Files, Place, read};

/// Blocks that are to be read.
struct List {
    places: Arc<[Place]>,
    /// The first that no thread has taken.
    next: AtomicUsize,
}

/// Threads that wait for lists of blocks. Each takes the next block of the list from a counter that
/// they share: nobody hands blocks out, and nobody is told of each that was read.
#[derive(Debug)]
pub struct Pool {
    lists: Vec<Sender<Arc<List>>>,
    sums: Receiver<io::Result<u64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts `depth` threads for blocks of `len` bytes.
    ///
    /// # Errors
    /// If the operating system does not give all of them.
    pub fn start(files: &Files, depth: usize, len: usize) -> io::Result<Pool> {
        let (to_pool, sums) = channel();
        let (lists, threads) = (Vec::new(), Vec::new());
        let mut pool = Pool {
            lists,
            sums,
            threads,
        };
        for _ in 0..depth {
            let (list, from_pool) = channel::<Arc<List>>();
            let (files, to_pool) = (Arc::clone(files), to_pool.clone());
            let thread = std::thread::Builder::new().spawn(move || {
                let mut block = Block::new(len);
                for list in from_pool {
                    // A pool that does not listen any more is gone.
                    let _ = to_pool.send(share(&files, &list, &mut block));
                }
            })?;
            pool.lists.push(list);
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Reads the blocks at these places.
    ///
    /// # Errors
    /// Of a read that fails; the thread of that read reads no others.
    pub fn read(&mut self, places: &Arc<[Place]>) -> io::Result<u64> {
        let list = Arc::new(List {
            places: Arc::clone(places),
            next: AtomicUsize::new(0),
        });
        for thread in &self.lists {
            thread.send(Arc::clone(&list)).map_err(|_| died())?;
        }
        let ended = self.lists.iter().map(|_| self.sums.recv());
        // The sums of all threads belong to this list, also where one of them is an error.
        let ended: Result<Vec<_>, _> = ended.collect();
        ended.map_err(|_| died())?.into_iter().sum()
    }
}

fn died() -> io::Error {
    io::Error::other("a thread that reads blocks has ended")
}

/// Reads blocks until none is left. The sum of those that this thread has read.
fn share(files: &Files, list: &List, block: &mut Block) -> io::Result<u64> {
    let mut sum = 0;
    loop {
        let next = list.next.fetch_add(1, Ordering::Relaxed);
        let Some(&place) = list.places.get(next) else {
            return Ok(sum);
        };
        sum += read(files, place, block)?;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lists.clear();
        for thread in self.threads.drain(..) {
            // What it has come to was told in its sum.
            let _ = thread.join();
        }
    }
}
