//! Whose each request of a device's thread is, by the tag that it has on the device.
//!
//! A tag names a place, and says how often the place has been given away before. So a request is
//! found without a search, and a late second completion of it does not pass for that of another.

use driver::blk::Tag;

use super::known::SubmitterNumber;

/// Whose a request is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) submitter: SubmitterNumber,
    /// The tag that it came with.
    pub(super) tag: Tag,
    /// It waits for a sync.
    pub(super) syncs: bool,
}

struct Place {
    /// The tag of the request that has it, or of the next one.
    tag: Tag,
    owner: Option<Owner>,
}

/// The owners of all requests that are not completed.
#[derive(Default)]
pub(super) struct Owners {
    places: Vec<Place>,
    free: Vec<usize>,
}

/// The bits of a tag that say which place.
const PLACE_BITS: u32 = 32;

impl Owners {
    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// The tag that this owner's request has on the device. Its place gets it again after four
    /// billion others.
    pub(super) fn add(&mut self, owner: Owner) -> Tag {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = self.places.len();
            let tag = Tag(index as u64);
            self.places.push(Place { tag, owner: None });
            index
        });
        let place = &mut self.places[index];
        place.owner = Some(owner);
        place.tag
    }

    /// Whose the request with this tag is, which has completed. `None` if none under way has it.
    pub(super) fn remove(&mut self, tag: Tag) -> Option<Owner> {
        let index = (tag.0 & ((1 << PLACE_BITS) - 1)) as usize;
        let place = self.places.get_mut(index)?;
        if place.tag != tag {
            return None;
        }
        let owner = place.owner.take()?;
        place.tag = Tag(tag.0.wrapping_add(1 << PLACE_BITS));
        self.free.push(index);
        Some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(number: u64) -> Owner {
        Owner {
            submitter: number,
            tag: Tag(number),
            syncs: false,
        }
    }

    #[test]
    fn each_is_found_once_whatever_the_order() {
        let mut owners = Owners::default();
        let tags = [1, 2, 3].map(|number| owners.add(owner(number)));
        for index in [1, 2, 0] {
            let number = index as u64 + 1;
            assert!(!owners.is_empty());
            assert_eq!(owners.remove(tags[index]), Some(owner(number)));
            assert_eq!(owners.remove(tags[index]), None);
        }
        assert!(owners.is_empty());
        assert_eq!(owners.remove(Tag(u64::MAX)), None);
    }

    #[test]
    fn no_tag_of_a_request_that_is_over_is_that_of_a_later_one() {
        let mut owners = Owners::default();
        let mut over = Vec::new();
        for number in 0..1000 {
            let tag = owners.add(owner(number));
            assert!(over.iter().all(|&tag| owners.remove(tag).is_none()));
            assert_eq!(owners.remove(tag), Some(owner(number)));
            over.push(tag);
        }
        assert_eq!(owners.places.len(), 1);
    }
}
