//! Who may read a file, from its owner, its group, its mode and its access control list (ACL).
//! Nothing here asks the system.
//!
//! The kernel's rule: a user that the list names has that entry's rights; any other has those of
//! one of the groups that he is in, if there is an entry for one of them; any other has the others'
//! rights. The mask limits all but the owner and others, and where there is a list, the mode holds
//! the mask in the place of the group's rights. Root may read everything, and so may whoever owns
//! a file, because he can give himself the right.

pub(super) const OWNER: u32 = 0o700;
pub(super) const GROUP: u32 = 0o070;
pub(super) const OTHERS: u32 = 0o007;

/// Reading, of three bits.
const READ: u16 = 4;

/// Entries of a longer list are not looked at: [`AccessList::Unknown`].
const MOST_ENTRIES: usize = 32;

/// The version of the lists that the kernel gives and takes.
const VERSION: u32 = 2;
const ENTRY_LEN: usize = 8;

const TAG_OWNER: u16 = 0x01;
const TAG_USER: u16 = 0x02;
const TAG_OWNING_GROUP: u16 = 0x04;
const TAG_GROUP: u16 = 0x08;
const TAG_MASK: u16 = 0x10;
const TAG_OTHERS: u16 = 0x20;

/// An entry of an access control list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    tag: u16,
    /// Reading, writing, running: three bits.
    rights: u16,
    /// The user or group, where the tag says that there is one.
    id: u32,
}

/// What says more about a file than its mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AccessList {
    /// Nothing does.
    None,
    /// These entries.
    Entries(Vec<Entry>),
    /// Something that cannot be told.
    Unknown,
}

impl AccessList {
    /// What the attribute `system.posix_acl_access` holds.
    pub(super) fn decode(value: &[u8]) -> AccessList {
        let Some((version, entries)) = value.split_first_chunk() else {
            return AccessList::Unknown;
        };
        let (entries, rest) = entries.as_chunks::<ENTRY_LEN>();
        if u32::from_le_bytes(*version) != VERSION
            || !rest.is_empty()
            || entries.len() > MOST_ENTRIES
        {
            return AccessList::Unknown;
        }
        let entry = |&[t0, t1, r0, r1, id @ ..]: &[u8; ENTRY_LEN]| Entry {
            tag: u16::from_le_bytes([t0, t1]),
            rights: u16::from_le_bytes([r0, r1]),
            id: u32::from_le_bytes(id),
        };
        AccessList::Entries(entries.iter().map(entry).collect())
    }
}

/// What the attribute holds for these entries.
pub(super) fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut value = VERSION.to_le_bytes().to_vec();
    for entry in entries {
        value.extend(entry.tag.to_le_bytes());
        value.extend(entry.rights.to_le_bytes());
        value.extend(entry.id.to_le_bytes());
    }
    value
}

/// Whom a file belongs to, and who may do what with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) owner: u32,
    pub(super) group: u32,
    pub(super) mode: u32,
    pub(super) list: AccessList,
}

/// Somebody who may want to read.
#[derive(Clone, Copy)]
struct Reader<'a> {
    /// `None` is a user that no file and no list names.
    user: Option<u32>,
    groups: &'a [u32],
}

impl Rights {
    /// Whether somebody may read the file; `unknown` where that cannot be told.
    fn may_be_read(&self, by: Reader<'_>, unknown: bool) -> bool {
        if by.user == Some(self.owner) {
            return true;
        }
        let is_in = |group| by.groups.contains(&group);
        let others = self.mode as u16 & READ != 0;
        let entries = match &self.list {
            AccessList::None if is_in(self.group) => return (self.mode >> 3) as u16 & READ != 0,
            AccessList::None => return others,
            AccessList::Unknown => return unknown,
            AccessList::Entries(entries) => entries,
        };
        let unmasked = (self.mode >> 3) as u16 & READ != 0;
        let named = |entry: &&Entry| entry.tag == TAG_USER && by.user == Some(entry.id);
        if let Some(entry) = entries.iter().find(named) {
            return unmasked && entry.rights & READ != 0;
        }
        let mut groups = entries.iter().filter(|entry| match entry.tag {
            TAG_OWNING_GROUP => is_in(self.group),
            TAG_GROUP => is_in(entry.id),
            _ => false,
        });
        match groups.next() {
            None => others,
            Some(first) => {
                let may = first.rights & READ != 0 || groups.any(|entry| entry.rights & READ != 0);
                unmasked && may
            }
        }
    }

    /// Whether somebody may read this file who may not read `source`. To tell, it takes the users
    /// that either names and one whom neither does, each in at most two groups: one that gives the
    /// right to this file, and one that takes it at the source.
    pub(super) fn shows(&self, source: &Rights) -> bool {
        let (mut users, mut groups) = (vec![None], Vec::new());
        for rights in [self, source] {
            users.push(Some(rights.owner));
            groups.push(rights.group);
            if let AccessList::Entries(entries) = &rights.list {
                let of = |tag| move |entry: &&Entry| entry.tag == tag;
                users.extend(entries.iter().filter(of(TAG_USER)).map(|it| Some(it.id)));
                groups.extend(entries.iter().filter(of(TAG_GROUP)).map(|it| it.id));
            }
        }
        users.retain(|&user| user != Some(0));
        let shows = |user, groups: &[u32]| {
            let reader = Reader { user, groups };
            self.may_be_read(reader, true) && !source.may_be_read(reader, false)
        };
        users.iter().any(|&user| {
            let pairs = |&one: &u32| groups.iter().any(|&other| shows(user, &[one, other]));
            shows(user, &[]) || groups.iter().any(pairs)
        })
    }

    /// What `group` and others may do with the file, as bits of a mode without a list. Another
    /// group than the file's may do what both its group and others may: its members can be either.
    /// Where there is a list, nobody may do anything: it can take from anybody what the mode gives.
    pub(super) fn of_group_and_others(&self, group: u32) -> u32 {
        if self.list != AccessList::None {
            return 0;
        }
        if group == self.group {
            return self.mode & (GROUP | OTHERS);
        }
        let both = self.mode & OTHERS & (self.mode >> 3);
        both << 3 | both
    }

    /// The rights to a new file, of those that any new one gets there, `usual`: without what
    /// `sources`, the files that its content comes from, keep from anybody. A list that the
    /// directory gives to new files stays where it shows the content to nobody new.
    pub(super) fn of_new(usual: Rights, sources: &[Rights]) -> Rights {
        let group = usual.group;
        if usual.list != AccessList::None && !sources.iter().any(|source| usual.shows(source)) {
            let bits = sources.iter().map(|source| match source.list {
                AccessList::None => source.of_group_and_others(group),
                _ => source.mode,
            });
            let bits = bits.fold(GROUP | OTHERS, |all, bits| all & bits);
            return Rights {
                mode: usual.mode & (OWNER | bits),
                ..usual
            };
        }
        let bits = sources
            .iter()
            .map(|source| source.of_group_and_others(group));
        let bits = bits.fold(GROUP | OTHERS, |all, bits| all & bits);
        Rights {
            mode: usual.mode_without_list() & (OWNER | bits),
            list: AccessList::None,
            ..usual
        }
    }

    /// The mode that gives the owner, the group and others what they have, without the list.
    fn mode_without_list(&self) -> u32 {
        let entries = match &self.list {
            AccessList::None => return self.mode,
            AccessList::Unknown => return self.mode & !(GROUP | OTHERS),
            AccessList::Entries(entries) => entries,
        };
        let group = entries.iter().find(|entry| entry.tag == TAG_OWNING_GROUP);
        let group = u32::from(group.map_or(0, |entry| entry.rights)) << 3;
        self.mode & (!GROUP | group)
    }

    /// The entries of the list, limited to what the mode gives.
    pub(super) fn entries(&self) -> Option<Vec<Entry>> {
        let AccessList::Entries(entries) = &self.list else {
            return None;
        };
        let limited = |entry: &Entry| {
            let limit = match entry.tag {
                TAG_OWNER => self.mode >> 6,
                TAG_MASK => self.mode >> 3,
                TAG_OTHERS => self.mode,
                _ => return *entry,
            };
            let rights = entry.rights & (limit & 7) as u16;
            Entry { rights, ..*entry }
        };
        Some(entries.iter().map(limited).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: u32 = 100;
    const STAFF: u32 = 50;

    fn rights(group: u32, mode: u32) -> Rights {
        Rights {
            owner: 1,
            group,
            mode,
            list: AccessList::None,
        }
    }

    /// With a list: of the owning group, and of these users and groups.
    fn listed(mode: u32, group: u16, users: &[(u32, u16)], groups: &[(u32, u16)]) -> Rights {
        let entry = |tag, rights, id| Entry { tag, rights, id };
        let mut entries = vec![entry(TAG_OWNER, 6, u32::MAX)];
        entries.extend(
            users
                .iter()
                .map(|&(id, rights)| entry(TAG_USER, rights, id)),
        );
        entries.push(entry(TAG_OWNING_GROUP, group, u32::MAX));
        entries.extend(
            groups
                .iter()
                .map(|&(id, rights)| entry(TAG_GROUP, rights, id)),
        );
        entries.push(entry(TAG_MASK, (mode >> 3 & 7) as u16, u32::MAX));
        entries.push(entry(TAG_OTHERS, (mode & 7) as u16, u32::MAX));
        Rights {
            list: AccessList::Entries(entries),
            ..rights(7, mode)
        }
    }

    #[test]
    fn nobody_may_do_more_with_a_copy_than_with_its_source() {
        for (mode, own_group, another) in [
            (0o100_600, 0o000, 0o000),
            (0o100_644, 0o044, 0o044),
            (0o100_640, 0o040, 0o000),
            (0o100_664, 0o064, 0o044),
            (0o100_604, 0o004, 0o000),
            (0o060_660, 0o060, 0o000),
        ] {
            assert_eq!(rights(7, mode).of_group_and_others(7), own_group);
            assert_eq!(rights(7, mode).of_group_and_others(8), another);
            let with_list = listed(mode, 4, &[(ALICE, 0)], &[]);
            assert_eq!(with_list.of_group_and_others(7), 0);
        }
    }

    #[test]
    fn a_file_shows_another_to_whoever_may_read_only_the_one() {
        let shows = |to: u32, from: u32| rights(7, to).shows(&rights(7, from));
        for (to, from, shown) in [
            (0o644, 0o600, true),
            (0o640, 0o600, true),
            (0o600, 0o600, false),
            (0o644, 0o644, false),
            (0o644, 0o640, true),
            (0o622, 0o600, false),
        ] {
            assert_eq!(shows(to, from), shown, "{to:o} of {from:o}");
        }
        // Another group's members, and another owner.
        assert!(rights(8, 0o640).shows(&rights(7, 0o640)));
        let owned_by = |owner| Rights {
            owner,
            ..rights(7, 0o600)
        };
        assert!(owned_by(2).shows(&rights(7, 0o640)));
        assert!(!owned_by(2).shows(&rights(7, 0o644)));
        assert!(!owned_by(0).shows(&rights(7, 0o600)));
    }

    #[test]
    fn a_list_on_either_side_is_seen() {
        let alice_may = listed(0o640, 0, &[(ALICE, 4)], &[]);
        let alice_may_not = listed(0o644, 4, &[(ALICE, 0)], &[]);
        let masked = listed(0o600, 0, &[(ALICE, 4)], &[]);
        let staff_may = listed(0o640, 0, &[], &[(STAFF, 4)]);
        let staff_may_not = listed(0o644, 4, &[], &[(STAFF, 0)]);
        for (to, from, shown) in [
            (&alice_may, &rights(7, 0o600), true),
            (&alice_may, &rights(7, 0o640), true),
            (&alice_may, &rights(7, 0o644), false),
            (&alice_may, &alice_may, false),
            (&masked, &rights(7, 0o600), false),
            (&rights(7, 0o644), &alice_may_not, true),
            (&rights(7, 0o640), &alice_may_not, true),
            (&rights(7, 0o600), &alice_may_not, false),
            (&rights(7, 0o640), &alice_may, true),
            (&staff_may, &rights(7, 0o640), true),
            (&rights(7, 0o644), &staff_may_not, true),
            // Who is in both groups has the right of either.
            (&rights(7, 0o640), &staff_may_not, false),
            (&rights(STAFF, 0o640), &staff_may, false),
        ] {
            assert_eq!(to.shows(from), shown, "{to:?} of {from:?}");
        }
        let unknown = Rights {
            list: AccessList::Unknown,
            ..rights(7, 0o600)
        };
        assert!(unknown.shows(&rights(7, 0o600)));
        assert!(!unknown.shows(&rights(7, 0o644)));
        assert!(rights(7, 0o640).shows(&unknown));
    }

    #[test]
    fn a_new_file_has_the_directorys_list_unless_that_shows_a_source() {
        let usual = listed(0o664, 4, &[(ALICE, 6)], &[]);
        let of = |sources: &[Rights]| Rights::of_new(usual.clone(), sources);
        assert_eq!(of(&[]), usual);
        let public = of(&[rights(7, 0o644)]);
        assert_eq!((public.mode, &public.list), (0o644, &usual.list));
        assert_eq!(of(std::slice::from_ref(&usual)), usual, "of its like");
        for (sources, mode) in [
            (&[rights(7, 0o600)][..], 0o600),
            (&[rights(7, 0o640)], 0o640),
            (&[rights(7, 0o644), rights(7, 0o640)], 0o640),
            (&[listed(0o644, 4, &[(ALICE + 1, 0)], &[])], 0o600),
        ] {
            assert_eq!(of(sources), rights(7, mode), "of {sources:?}");
        }
        // The mode has the mask in the place of what the group may.
        let no_group = listed(0o660, 0, &[(ALICE, 6)], &[]);
        let given = Rights::of_new(no_group, &[rights(7, 0o640)]);
        assert_eq!(given, rights(7, 0o600));
    }

    #[test]
    fn a_list_comes_through_the_attribute_as_it_was() {
        let rights = listed(0o640, 0, &[(ALICE, 4)], &[(STAFF, 6)]);
        let entries = rights.entries().unwrap();
        let value = encode(&entries);
        assert_eq!(AccessList::decode(&value), rights.list);
        let narrowed = Rights {
            mode: 0o600,
            ..rights
        };
        assert_eq!(
            narrowed.entries().unwrap(),
            listed(0o600, 0, &[(ALICE, 4)], &[(STAFF, 6)])
                .entries()
                .unwrap()
        );
        let long = [
            &VERSION.to_le_bytes()[..],
            &[0; ENTRY_LEN * (MOST_ENTRIES + 1)],
        ]
        .concat();
        for odd in [&value[..3], &value[..value.len() - 1], &[9; 12], &long] {
            assert_eq!(AccessList::decode(odd), AccessList::Unknown);
        }
    }
}
