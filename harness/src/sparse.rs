//! A table with an index of 64 bits that takes memory only for what is in it, and next to none
//! where one thing lies far from the rest: whoever wrote a trace chose the places.

use std::ops::Range;

/// Bits of the index that a node looks at.
const BITS: u32 = 6;

/// Slots of a node.
const SLOTS: usize = 1 << BITS;

/// A tree of nodes that is as high as its largest index wants it: two levels for the first 4096.
#[derive(Debug)]
pub(crate) struct Sparse<T> {
    root: Option<Node<T>>,
    /// The levels below the root.
    height: u32,
}

#[derive(Debug)]
enum Node<T> {
    Inner(Box<[Option<Node<T>>; SLOTS]>),
    Leaf(Box<[Option<T>; SLOTS]>),
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Sparse {
            root: None,
            height: 0,
        }
    }
}

impl<T> Sparse<T> {
    /// Whether the tree is high enough for an index.
    #[inline]
    fn reaches(&self, index: u64) -> bool {
        let rest = index.checked_shr(BITS * (self.height + 1));
        rest.unwrap_or_default() == 0
    }

    /// What is at `index`.
    #[inline]
    pub(crate) fn get(&self, index: u64) -> Option<&T> {
        if !self.reaches(index) {
            return None;
        }
        let (mut node, mut shift) = (self.root.as_ref()?, BITS * self.height);
        loop {
            let slot = (index >> shift) as usize % SLOTS;
            match node {
                Node::Leaf(slots) => return slots[slot].as_ref(),
                Node::Inner(slots) => node = slots[slot].as_ref()?,
            }
            shift -= BITS;
        }
    }

    /// What is at `index`, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, index: u64) -> Option<&mut T> {
        if !self.reaches(index) {
            return None;
        }
        let (mut node, mut shift) = (self.root.as_mut()?, BITS * self.height);
        loop {
            let slot = (index >> shift) as usize % SLOTS;
            match node {
                Node::Leaf(slots) => return slots[slot].as_mut(),
                Node::Inner(slots) => node = slots[slot].as_mut()?,
            }
            shift -= BITS;
        }
    }

    /// What is at `index`, made if there is nothing.
    #[inline]
    pub(crate) fn get_or_insert_with(&mut self, index: u64, make: impl FnOnce() -> T) -> &mut T {
        while !self.reaches(index) {
            self.grow();
        }
        let mut shift = BITS * self.height;
        let mut node = self.root.get_or_insert_with(|| Node::new(shift == 0));
        loop {
            let slot = (index >> shift) as usize % SLOTS;
            match node {
                Node::Leaf(slots) => return slots[slot].get_or_insert_with(make),
                Node::Inner(slots) => {
                    node = slots[slot].get_or_insert_with(|| Node::new(shift == BITS));
                }
            }
            shift -= BITS;
        }
    }

    #[cold]
    fn grow(&mut self) {
        if let Some(old) = self.root.take() {
            let mut slots = Box::new([const { None }; SLOTS]);
            slots[0] = Some(old);
            self.root = Some(Node::Inner(slots));
        }
        self.height += 1;
    }

    /// Takes out everything in a range. Costs what is taken out, not the range's length.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            return;
        };
        if let Some(root) = &mut self.root
            && root.remove(BITS * self.height, 0, range.start, last)
        {
            self.root = None;
        }
    }

    /// The first thing at or past `from`, and its index.
    pub(crate) fn next(&self, from: u64) -> Option<(u64, &T)> {
        self.root.as_ref()?.next(BITS * self.height, 0, from)
    }
}

impl<T> Node<T> {
    fn new(is_leaf: bool) -> Node<T> {
        match is_leaf {
            true => Node::Leaf(Box::new([const { None }; SLOTS])),
            false => Node::Inner(Box::new([const { None }; SLOTS])),
        }
    }

    /// Takes out everything from `first` to `last` in this node, which begins at `base`. Whether
    /// nothing is left.
    fn remove(&mut self, shift: u32, base: u64, first: u64, last: u64) -> bool {
        let starts = |slot: usize| base | (slot as u64) << shift;
        let ends = |slot: usize| starts(slot) | ((1_u64 << shift) - 1);
        match self {
            Node::Leaf(slots) => {
                for (slot, content) in slots.iter_mut().enumerate() {
                    if (first..=last).contains(&starts(slot)) {
                        *content = None;
                    }
                }
                slots.iter().all(Option::is_none)
            }
            Node::Inner(slots) => {
                for (slot, child) in slots.iter_mut().enumerate() {
                    let (start, end) = (starts(slot), ends(slot));
                    let Some(node) = child.as_mut().filter(|_| start <= last && end >= first)
                    else {
                        continue;
                    };
                    let is_whole = first <= start && end <= last;
                    if is_whole || node.remove(shift - BITS, start, first, last) {
                        *child = None;
                    }
                }
                slots.iter().all(Option::is_none)
            }
        }
    }

    fn next(&self, shift: u32, base: u64, from: u64) -> Option<(u64, &T)> {
        let starts = |slot: usize| base | (slot as u64) << shift;
        match self {
            Node::Leaf(slots) => slots.iter().enumerate().find_map(|(slot, content)| {
                let content = content.as_ref().filter(|_| starts(slot) >= from)?;
                Some((starts(slot), content))
            }),
            Node::Inner(slots) => slots.iter().enumerate().find_map(|(slot, child)| {
                let last = starts(slot) | ((1_u64 << shift) - 1);
                let child = child.as_ref().filter(|_| last >= from)?;
                child.next(shift - BITS, starts(slot), from)
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Far apart, and some of them near each other.
    fn any_index() -> impl Strategy<Value = u64> {
        (0..70_u64, 0..64_u32).prop_map(|(low, shift)| (1_u64 << shift).wrapping_add(low))
    }

    proptest! {
        /// Against a map.
        #[test]
        fn a_table_is_a_map(
            steps in proptest::collection::vec((0..4, any_index(), any_index()), 1..60),
        ) {
            let (mut table, mut map) = (Sparse::default(), BTreeMap::new());
            for (number, (kind, a, b)) in steps.into_iter().enumerate() {
                if kind == 0 {
                    let range = a.min(b)..a.max(b);
                    map.retain(|at, _| !range.contains(at));
                    table.remove(range);
                } else {
                    let found = *table.get_or_insert_with(a, || number);
                    prop_assert_eq!(found, *map.entry(a).or_insert(number));
                }
                for at in [a, b, a.wrapping_add(1), 0, u64::MAX] {
                    prop_assert_eq!(table.get(at), map.get(&at));
                    prop_assert_eq!(table.get_mut(at), map.get_mut(&at));
                    let next = map.range(at..).next().map(|(&at, found)| (at, found));
                    prop_assert_eq!(table.next(at), next);
                }
            }
        }
    }

    #[test]
    fn what_is_taken_out_leaves_nothing() {
        let mut table = Sparse::default();
        for at in [0, 1 << 20, u64::MAX - 1] {
            table.get_or_insert_with(at, || at);
        }
        table.remove(0..u64::MAX);
        assert!(table.root.is_none());
    }
}
