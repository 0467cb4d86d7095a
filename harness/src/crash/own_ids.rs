//! Owners and groups that the user namespace of this process does not have. Linux shows files of
//! theirs as those of one that nobody is, and lets nobody write them, root included.

use crate::sim::tree::{Attributes, Recorded, TreeChange};

/// The numbers of users and of groups that this process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnIds {
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
    own: (u32, u32),
}

impl OwnIds {
    /// Those of the namespace in which this process is.
    pub(super) fn of_this_process() -> OwnIds {
        use rustix::process::{getegid, geteuid};
        let mapped = |list| mapped(&std::fs::read_to_string(list).unwrap_or_default());
        OwnIds {
            users: mapped("/proc/self/uid_map"),
            groups: mapped("/proc/self/gid_map"),
            own: (geteuid().as_raw(), getegid().as_raw()),
        }
    }

    /// Whether both are there.
    pub(super) fn has(&self, (user, group): (u32, u32)) -> bool {
        is_in(&self.users, user) && is_in(&self.groups, group)
    }

    /// Lets the files of a directory that was read belong to this process's user, as far as their
    /// owners are not there.
    pub(super) fn take_over(&self, changes: &mut [Recorded]) {
        for recorded in changes {
            let TreeChange::SetAttributes { attributes, .. } = &mut recorded.change else {
                continue;
            };
            let Attributes { user, group, .. } = attributes;
            for (id, known, own) in [
                (user, &self.users, self.own.0),
                (group, &self.groups, self.own.1),
            ] {
                *id = id.map(|id| if is_in(known, id) { id } else { own });
            }
        }
    }
}

/// The numbers that the kernel's list has, each as the first one and their count.
fn mapped(list: &str) -> Vec<(u32, u32)> {
    let ranges = list.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().map(str::parse::<u32>);
        Some((words.next()?.ok()?, words.nth(1)?.ok()?))
    });
    ranges.collect()
}

/// Without a list there are no namespaces, and so everything is there.
fn is_in(ranges: &[(u32, u32)], id: u32) -> bool {
    let has = |&(first, count): &(u32, u32)| id.checked_sub(first).is_some_and(|at| at < count);
    ranges.is_empty() || ranges.iter().any(has)
}

#[cfg(test)]
mod tests {
    use driver::host::OperationKind;

    use super::*;
    use crate::sim::InodeNumber;
    use crate::sim::tree::Moment;

    #[test]
    fn what_nobody_owns_becomes_the_users_own() {
        let ids = OwnIds {
            users: mapped("         0       1000          1\n"),
            groups: mapped("0 0 4294967295\n"),
            own: (0, 7),
        };
        assert!(ids.has((0, 65534)));
        assert!(!ids.has((65534, 0)));
        let mut changes = [(0, 5), (65534, 5), (1, u32::MAX)].map(|(user, group)| Recorded {
            kind: OperationKind::SetAttributes,
            at: Moment::default(),
            change: TreeChange::SetAttributes {
                node: InodeNumber(1),
                attributes: Attributes {
                    user: Some(user),
                    group: Some(group),
                    ..Attributes::default()
                },
            },
        });
        ids.take_over(&mut changes);
        let owners = changes.map(|recorded| match recorded.change {
            TreeChange::SetAttributes { attributes, .. } => (attributes.user, attributes.group),
            _ => (None, None),
        });
        let expected = [(0, 5), (0, 5), (0, 7)].map(|(user, group)| (Some(user), Some(group)));
        assert_eq!(owners, expected);
    }
}
