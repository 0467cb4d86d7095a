//! The bytes of a file as shared pages. A crash image must cost what it touches
//! and not what the file holds, so a page table is a persistent tree: a clone
//! shares everything, and the first write to a shared page copies that page and
//! the path to it. The tree grows with the highest page in use, so that a sparse
//! file may have any length.

use std::hash::Hash;
use std::rc::Rc;
use std::sync::Arc;

use crate::stamp::Content;

use super::page::{Bytes, NOTHING, PAGE_SIZE, Page, SECTORS_A_PAGE, ZEROS};
use super::wide_hash::WideHasher;

const FANOUT: u64 = 16;
const FANOUT_BITS: u32 = FANOUT.trailing_zeros();

/// A sparse array of pages with cheap clones. What has no page reads as zeros.
#[derive(Clone, Default)]
pub(crate) struct Pages {
    root: Option<Rc<Node>>,
    /// Levels of inner nodes above the leaves.
    height: u32,
    allocated: u64,
}

#[derive(Clone)]
enum Node {
    Inner([Option<Rc<Node>>; FANOUT as usize]),
    Leaf([Option<Rc<Page>>; FANOUT as usize]),
}

impl Node {
    fn new(level: u32) -> Self {
        match level {
            0 => Node::Leaf(Default::default()),
            _ => Node::Inner(Default::default()),
        }
    }
}

/// The slot that leads to the page `index` in a node at `level`; leaves are level 0.
fn slot(index: u64, level: u32) -> usize {
    ((index >> (FANOUT_BITS * level)) % FANOUT) as usize
}

impl Pages {
    /// How many pages are allocated.
    pub(crate) fn allocated(&self) -> u64 {
        self.allocated
    }

    /// Fills `buffer` with the bytes from `at`.
    pub(crate) fn read(&self, buffer: &mut [u8], at: u64) {
        for_each_piece(at, buffer.len() as u64, |index, within, done| {
            let target = &mut buffer[done..done + (within.end - within.start)];
            match self.page(index) {
                Some(page) => target.copy_from_slice(&page.bytes()[within]),
                None => target.fill(0),
            }
        });
    }

    /// Whether the bytes from `at` are `expected`.
    pub(crate) fn holds(&self, expected: &[u8], at: u64) -> bool {
        let mut holds = true;
        for_each_piece(at, expected.len() as u64, |index, within, done| {
            let expected = &expected[done..done + (within.end - within.start)];
            holds = holds
                && match self.page(index) {
                    Some(page) => page.bytes()[within] == *expected,
                    None => *expected == ZEROS[..expected.len()],
                };
        });
        holds
    }

    /// What the sectors of a page hold.
    pub(super) fn found(&self, index: u64) -> &[Content; SECTORS_A_PAGE] {
        self.page(index).map_or(&NOTHING, Page::found)
    }

    /// Puts `data` at `at`, allocating what pages it needs.
    pub(crate) fn write(&mut self, data: &[u8], at: u64) {
        for_each_piece(at, data.len() as u64, |index, within, done| {
            let source = &data[done..done + (within.end - within.start)];
            self.store(index, within.start, source);
        });
    }

    /// As [`Pages::write`]. Pages that are written whole share the bytes of `data`.
    pub(crate) fn write_listed(&mut self, data: &Arc<[u8]>, at: u64) {
        for_each_piece(
            at,
            data.len() as u64,
            |index, within, done| match Page::of_write(data, done).filter(|_| within.start == 0) {
                Some(page) => {
                    let (slot, allocated) = self.entry(index);
                    *allocated += u64::from(slot.is_none());
                    *slot = Some(Rc::new(page));
                }
                None => {
                    let source = &data[done..done + (within.end - within.start)];
                    self.store(index, within.start, source);
                }
            },
        );
    }

    /// Makes the `len` bytes from `at` read as zeros and frees whole pages among them.
    pub(crate) fn punch(&mut self, at: u64, len: u64) {
        let end = at.saturating_add(len);
        let mut next = at / PAGE_SIZE;
        // Only pages that exist are visited: the range may be far larger than the file.
        while let Some(index) = self.next_allocated(next) {
            let start = index * PAGE_SIZE;
            if start >= end {
                break;
            }
            if at <= start && end - start >= PAGE_SIZE {
                self.free(index);
            } else {
                let from = at.max(start) - start;
                let to = (end - start).min(PAGE_SIZE);
                self.page_mut(index)[from as usize..to as usize].fill(0);
            }
            next = index + 1;
        }
    }

    /// Makes the `len` bytes from `at` read as zeros, every page of them allocated.
    pub(crate) fn zero(&mut self, at: u64, len: u64) {
        for_each_piece(at, len, |index, within, _| {
            self.page_mut(index)[within].fill(0);
        });
    }

    /// Allocates the pages among the `len` bytes from `at` that there are not yet, and changes no
    /// byte. Until something is written to them they are one page in memory.
    pub(crate) fn reserve(&mut self, at: u64, len: u64) {
        let unwritten = Rc::new(Page::unwritten());
        for_each_piece(at, len, |index, _, _| {
            let (slot, allocated) = self.entry(index);
            *allocated += u64::from(slot.is_none());
            slot.get_or_insert_with(|| Rc::clone(&unwritten));
        });
    }

    /// The first page at `from` or later that something was written to.
    pub(crate) fn next_written(&self, mut from: u64) -> Option<u64> {
        loop {
            let index = self.next_allocated(from)?;
            if self.is_written(index) {
                return Some(index);
            }
            from = index + 1;
        }
    }

    /// Whether something was written to the page.
    pub(crate) fn is_written(&self, index: u64) -> bool {
        self.page(index).is_some_and(Page::is_written)
    }

    /// The first allocated page at `from` or later.
    pub(crate) fn next_allocated(&self, from: u64) -> Option<u64> {
        if from >= self.capacity() {
            return None;
        }
        next_in(self.root.as_deref()?, self.height, from)
    }

    /// Whether the page has been allocated.
    pub(crate) fn is_allocated(&self, index: u64) -> bool {
        self.page(index).is_some()
    }

    /// Whether both read the same everywhere. Shared parts are not looked at, so
    /// comparing a file with what it was earlier costs what was written since.
    pub(crate) fn same_bytes(&self, other: &Pages) -> bool {
        self.same(other, |page| *page.bytes() == ZEROS)
    }

    /// A number that pages which read otherwise do not have, as far as chance goes. Each page is
    /// looked at once, however many files share it.
    pub(crate) fn digest(&self) -> u128 {
        let mut hasher = WideHasher::new();
        let mut next = 0;
        while let Some(index) = self.next_allocated(next) {
            if let Some(digest) = self.page(index).map(Page::digest).filter(|&it| it != 0) {
                (index, digest).hash(&mut hasher);
            }
            next = index + 1;
        }
        hasher.wide()
    }

    /// Whether one is a clone of the other that nobody has changed since.
    pub(crate) fn is_same_as(&self, other: &Pages) -> bool {
        match (&self.root, &other.root) {
            (None, None) => true,
            (Some(one), Some(other)) => Rc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Whether both also have the same pages allocated.
    pub(crate) fn same_pages(&self, other: &Pages) -> bool {
        self.allocated == other.allocated && self.same(other, |_| false)
    }

    fn same(&self, other: &Pages, is_none: impl Fn(&Page) -> bool) -> bool {
        let height = self.height.max(other.height);
        let (one, other) = (self.raised(height), other.raised(height));
        same(one.as_ref(), other.as_ref(), &is_none)
    }

    fn page(&self, index: u64) -> Option<&Page> {
        if index >= self.capacity() {
            return None;
        }
        let mut node = self.root.as_deref()?;
        let mut level = self.height;
        loop {
            match node {
                Node::Leaf(pages) => return pages[slot(index, 0)].as_deref(),
                Node::Inner(nodes) => node = nodes[slot(index, level)].as_deref()?,
            }
            level -= 1;
        }
    }

    /// Pages that a tree of this height can address.
    fn capacity(&self) -> u64 {
        1u64.checked_shl(FANOUT_BITS * (self.height + 1))
            .unwrap_or(u64::MAX)
    }

    fn store(&mut self, index: u64, within: usize, source: &[u8]) {
        let (slot, allocated) = self.entry(index);
        match slot {
            Some(page) if Rc::strong_count(page) == 1 || source.len() < ZEROS.len() => {
                let bytes = Rc::make_mut(page).bytes_mut();
                bytes[within..within + source.len()].copy_from_slice(source);
            }
            _ => {
                *allocated += u64::from(slot.is_none());
                *slot = Some(match <&Bytes>::try_from(source) {
                    // A page that is written whole is not filled with zeros first.
                    Ok(bytes) => Rc::new(Page::new(*bytes)),
                    Err(_) => {
                        let mut bytes = ZEROS;
                        bytes[within..within + source.len()].copy_from_slice(source);
                        Rc::new(Page::new(bytes))
                    }
                });
            }
        }
    }

    fn page_mut(&mut self, index: u64) -> &mut Bytes {
        let (slot, allocated) = self.entry(index);
        *allocated += u64::from(slot.is_none());
        Rc::make_mut(slot.get_or_insert_with(|| Rc::new(Page::new(ZEROS)))).bytes_mut()
    }

    fn free(&mut self, index: u64) {
        let (slot, allocated) = self.entry(index);
        *allocated -= u64::from(slot.take().is_some());
    }

    /// The slot of a page, with the path to it made, and made this tree's own.
    fn entry(&mut self, index: u64) -> (&mut Option<Rc<Page>>, &mut u64) {
        while index >= self.capacity() {
            self.root = self.raised(self.height + 1);
            self.height += 1;
        }
        let mut level = self.height;
        let root = self.root.get_or_insert_with(|| Rc::new(Node::new(level)));
        let mut node = Rc::make_mut(root);
        loop {
            match node {
                Node::Leaf(pages) => return (&mut pages[slot(index, 0)], &mut self.allocated),
                Node::Inner(nodes) => {
                    let next = &mut nodes[slot(index, level)];
                    level -= 1;
                    node = Rc::make_mut(next.get_or_insert_with(|| Rc::new(Node::new(level))));
                }
            }
        }
    }

    /// The root of the same pages in a tree of the given height or higher.
    fn raised(&self, height: u32) -> Option<Rc<Node>> {
        let mut root = self.root.clone()?;
        for _ in self.height..height {
            let mut nodes: [Option<Rc<Node>>; FANOUT as usize] = Default::default();
            nodes[0] = Some(root);
            root = Rc::new(Node::Inner(nodes));
        }
        Some(root)
    }
}

/// Calls `piece(page, bytes within it, bytes done before)` for each page in a range.
fn for_each_piece(at: u64, len: u64, mut piece: impl FnMut(u64, std::ops::Range<usize>, usize)) {
    let mut done = 0;
    while done < len {
        let position = at + done;
        let within = position % PAGE_SIZE;
        let count = (PAGE_SIZE - within).min(len - done);
        let range = within as usize..(within + count) as usize;
        piece(position / PAGE_SIZE, range, done as usize);
        done += count;
    }
}

fn next_in(node: &Node, level: u32, from: u64) -> Option<u64> {
    let first = slot(from, level);
    match node {
        Node::Leaf(pages) => (first..pages.len())
            .find(|&at| pages[at].is_some())
            .map(|at| from - first as u64 + at as u64),
        Node::Inner(nodes) => {
            let span = 1u64 << (FANOUT_BITS * level);
            let base = from & !(span * FANOUT - 1);
            (first..nodes.len()).find_map(|at| {
                let start = from.max(base + at as u64 * span);
                next_in(nodes[at].as_deref()?, level - 1, start)
            })
        }
    }
}

/// Whether two subtrees of the same level have the same pages, where a page is as good as none if
/// `is_none` says so.
fn same(
    one: Option<&Rc<Node>>,
    other: Option<&Rc<Node>>,
    is_none: &impl Fn(&Page) -> bool,
) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(node), None) | (None, Some(node)) => all_none(node, is_none),
        (Some(one), Some(other)) if Rc::ptr_eq(one, other) => true,
        (Some(one), Some(other)) => match (&**one, &**other) {
            (Node::Inner(one), Node::Inner(other)) => {
                let mut nodes = one.iter().zip(other);
                nodes.all(|(one, other)| same(one.as_ref(), other.as_ref(), is_none))
            }
            (Node::Leaf(one), Node::Leaf(other)) => {
                one.iter().zip(other).all(|pages| match pages {
                    (None, None) => true,
                    (Some(page), None) | (None, Some(page)) => is_none(page),
                    (Some(one), Some(other)) => {
                        Rc::ptr_eq(one, other) || one.bytes() == other.bytes()
                    }
                })
            }
            _ => unreachable!("nodes of one level are all leaves or all inner nodes"),
        },
    }
}

fn all_none(node: &Node, is_none: &impl Fn(&Page) -> bool) -> bool {
    match node {
        Node::Inner(nodes) => (nodes.iter().flatten()).all(|node| all_none(node, is_none)),
        Node::Leaf(pages) => pages.iter().flatten().all(|page| is_none(page)),
    }
}

#[cfg(test)]
mod tests {
    use driver::units::Sector;

    use super::*;
    use crate::stamp::Stamp;

    fn bytes(pages: &Pages, at: u64, len: usize) -> Vec<u8> {
        let mut buffer = vec![0xee; len];
        pages.read(&mut buffer, at);
        buffer
    }

    #[test]
    fn a_write_across_pages_reads_back_and_the_rest_is_zero() {
        let mut pages = Pages::default();
        pages.write(&[7; 5000], 4000);
        assert_eq!(
            bytes(&pages, 3999, 5002),
            [&[0][..], &[7; 5000], &[0]].concat()
        );
        assert_eq!(pages.allocated(), 3);
    }

    #[test]
    fn a_clone_does_not_see_later_writes_and_shares_what_they_spare() {
        let mut pages = Pages::default();
        pages.write(&[1; 64 * 4096], 0);
        let before = pages.clone();
        pages.write(&[2], 5 * 4096);
        assert_eq!(bytes(&before, 5 * 4096, 2), [1, 1]);
        assert_eq!(bytes(&pages, 5 * 4096, 2), [2, 1]);
        let pointer = |pages: &Pages, index| pages.page(index).map(|page| page.bytes().as_ptr());
        assert_eq!(pointer(&before, 6), pointer(&pages, 6));
        assert_ne!(pointer(&before, 5), pointer(&pages, 5));
    }

    #[test]
    fn whole_pages_of_a_listed_write_are_not_copied_until_they_change() {
        let data: Arc<[u8]> = (0..3 * 4096 + 200).map(|n| (n % 251) as u8).collect();
        let mut pages = Pages::default();
        pages.write_listed(&data, 4096 - 100);
        assert_eq!(pages.allocated(), 5);
        assert_eq!(bytes(&pages, 4096 - 100, data.len()), *data);
        assert_eq!(Arc::strong_count(&data), 1 + 3);
        let before = pages.clone();
        pages.write(&[1], 2 * 4096);
        assert_eq!(bytes(&pages, 2 * 4096, 2), [1, data[4197]]);
        assert_eq!(bytes(&before, 2 * 4096, 2), data[4196..4198]);
        pages.punch(0, 1 << 20);
        drop(before);
        assert_eq!(Arc::strong_count(&data), 1);
    }

    #[test]
    fn what_is_found_in_a_page_follows_every_change_of_it() {
        let found = |pages: &Pages| {
            let expected = bytes(pages, 0, PAGE_SIZE as usize);
            let expected = expected.chunks(512).map(Content::of);
            assert!(pages.found(0).iter().copied().eq(expected));
            pages.found(0)[1]
        };
        let (first, second) = (Stamp(7), Stamp(8));
        let mut sector = [0; 512];
        let mut pages = Pages::default();
        assert_eq!(found(&pages), Content::Zeros);
        first.fill(Sector(3), &mut sector);
        pages.write(&sector, 512);
        assert_eq!(found(&pages), Content::Stamped(first, Sector(3)));
        let before = pages.clone();
        second.fill(Sector(3), &mut sector);
        pages.write(&sector, 512);
        assert_eq!(found(&pages), Content::Stamped(second, Sector(3)));
        assert_eq!(found(&before), Content::Stamped(first, Sector(3)));
        pages.write(&[1], 700);
        assert_eq!(found(&pages), Content::Foreign);
        pages.punch(512, 512);
        assert_eq!(found(&pages), Content::Zeros);
        let mut page = [0; PAGE_SIZE as usize];
        second.fill(Sector(2), &mut page);
        pages.write(&page, 0);
        assert_eq!(found(&pages), Content::Stamped(second, Sector(3)));
        pages.zero(0, 1024);
        assert_eq!(found(&pages), Content::Zeros);
    }

    #[test]
    fn positions_up_to_the_last_one_work() {
        let mut pages = Pages::default();
        let far = i64::MAX as u64 - 9;
        pages.write(&[1], 0);
        pages.write(&[2; 10], far);
        assert_eq!(bytes(&pages, far - 1, 11), [&[0][..], &[2; 10]].concat());
        assert_eq!(bytes(&pages, 0, 2), [1, 0]);
        assert_eq!(pages.next_allocated(1), Some(far / PAGE_SIZE));
        assert_eq!(pages.next_allocated(far / PAGE_SIZE + 1), None);
        pages.punch(1, u64::MAX);
        assert_eq!(pages.allocated(), 1);
    }

    #[test]
    fn what_is_reserved_is_allocated_and_neither_written_nor_changed() {
        let mut pages = Pages::default();
        pages.write(&[7; 10], 4096);
        let before = pages.clone();
        pages.reserve(100, 4 * 4096);
        assert_eq!(pages.allocated(), 5);
        assert!(pages.same_bytes(&before) && pages.digest() == before.digest());
        assert_eq!(pages.next_written(2), None);
        pages.write(&[8], 3 * 4096 + 5);
        assert_eq!(pages.next_written(2), Some(3));
        // The others have kept their zeros.
        assert_eq!(bytes(&pages, 2 * 4096 + 5, 1), [0]);
        assert_eq!(pages.allocated(), 5);
        pages.punch(0, 1 << 20);
        assert_eq!(pages.allocated(), 0);
    }

    #[test]
    fn a_punch_frees_whole_pages_and_zeroes_the_edges() {
        let mut pages = Pages::default();
        pages.write(&[9; 4 * 4096], 0);
        pages.punch(4096 - 512, 4096 + 1024);
        assert_eq!(pages.allocated(), 3);
        assert_eq!(pages.next_allocated(1), Some(2));
        assert_eq!(bytes(&pages, 4096 - 513, 2), [9, 0]);
        assert_eq!(bytes(&pages, 2 * 4096 + 511, 2), [0, 9]);
    }

    #[test]
    fn the_next_page_is_found_across_nodes_of_every_level() {
        let mut pages = Pages::default();
        let indices = [0, 1, 15, 16, 255, 256, 4095, 70_000, 1_000_000];
        for index in indices {
            pages.write(&[1], index * PAGE_SIZE);
        }
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(index) = pages.next_allocated(from) {
            found.push(index);
            from = index + 1;
        }
        assert_eq!(found, indices);
    }

    #[test]
    fn a_digest_is_of_bytes_and_forgotten_when_they_change() {
        let (mut one, mut other) = (Pages::default(), Pages::default());
        other.zero(1 << 30, 4096);
        assert_eq!(one.digest(), other.digest());
        one.write(&[1, 2], 4095);
        let before = one.digest();
        assert_ne!(before, other.digest());
        other.write(&[1, 2], 4095);
        assert_eq!(before, other.digest());
        one.write(&[3], 4096);
        assert_ne!(one.digest(), before);
        let mut moved = Pages::default();
        moved.write(&[1, 2], 4095 + 8192);
        assert_ne!(moved.digest(), before);
    }

    #[test]
    fn equality_is_of_bytes_not_of_pages_or_heights() {
        let (mut small, mut tall) = (Pages::default(), Pages::default());
        assert!(small.same_bytes(&tall));
        tall.zero(1 << 30, 4096);
        assert!(small.same_bytes(&tall) && tall.same_bytes(&small));
        assert!(!small.same_pages(&tall) && !tall.same_pages(&small));
        let mut other = Pages::default();
        other.zero(0, 4096);
        assert!(!other.same_pages(&tall) && !tall.same_pages(&other));
        small.write(&[1, 2], 4095);
        assert!(!small.same_bytes(&tall) && !tall.same_bytes(&small));
        tall.write(&[1, 2], 4095);
        assert!(small.same_bytes(&tall) && tall.same_bytes(&small));
        tall.punch(1 << 30, 4096);
        assert!(small.same_pages(&tall) && tall.same_pages(&small));
    }
}
