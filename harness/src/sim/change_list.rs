//! The list of a file's changes that are not settled. Each snapshot of the host has one, and a
//! request that is carried out in hundreds of writes makes a snapshot before each of them. So the
//! lists share what is older: a snapshot costs memory and time for its latest changes, and one
//! pointer for each [`SHARED_TOGETHER`] of the others.

use std::rc::Rc;

/// The changes that are shared together.
const SHARED_TOGETHER: usize = 128;

/// A list that grows at its end, and whose clones share what is in it.
#[derive(Clone)]
pub(crate) struct ChangeList<T> {
    /// Each has [`SHARED_TOGETHER`] items.
    shared: Vec<Rc<[T]>>,
    /// The latest, fewer than that.
    latest: Vec<T>,
}

impl<T> Default for ChangeList<T> {
    fn default() -> Self {
        ChangeList {
            shared: Vec::new(),
            latest: Vec::new(),
        }
    }
}

impl<T: Clone> ChangeList<T> {
    pub(crate) fn push(&mut self, item: T) {
        self.latest.push(item);
        if self.latest.len() == SHARED_TOGETHER {
            let full = std::mem::take(&mut self.latest);
            self.shared.push(full.into());
        }
    }

    pub(crate) fn clear(&mut self) {
        self.shared.clear();
        self.latest.clear();
    }

    /// All items, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let shared = self.shared.iter().flat_map(|items| items.iter());
        shared.chain(&self.latest)
    }

    /// What a clone of it holds for itself: items, and pointers to items that are shared.
    pub(crate) fn cost_of_a_clone(&self) -> u64 {
        (self.shared.len() + self.latest.len()) as u64
    }

    /// Changes it as a whole, after which it shares nothing with the clones before. A sync does
    /// that after one that has failed, where it may drop what that one left.
    /// [`Self::cost_of_a_clone`] does not count it: a step has few syncs beside its writes.
    pub(crate) fn edit(&mut self, edit: impl FnOnce(&mut Vec<T>)) {
        let mut items: Vec<T> = self.iter().cloned().collect();
        edit(&mut items);
        self.clear();
        items.into_iter().for_each(|item| self.push(item));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_shares_all_but_the_latest_and_goes_its_own_way() {
        let mut list = ChangeList::default();
        let count = 3 * SHARED_TOGETHER + 5;
        (0..count).for_each(|number| list.push(number));
        assert_eq!(list.cost_of_a_clone(), 3 + 5);
        let before = list.clone();
        (count..2 * count).for_each(|number| list.push(number));
        assert!(before.iter().copied().eq(0..count));
        assert!(list.iter().copied().eq(0..2 * count));
    }

    #[test]
    fn an_edit_of_the_whole_leaves_clones_as_they_are() {
        let mut list = ChangeList::default();
        (0..300).for_each(|number| list.push(number));
        let before = list.clone();
        list.edit(|items| items.retain(|item| item % 2 == 0));
        assert!(list.iter().copied().eq((0..300).step_by(2)));
        assert!(before.iter().copied().eq(0..300));
        list.clear();
        assert_eq!((list.iter().count(), list.cost_of_a_clone()), (0, 0));
    }
}
