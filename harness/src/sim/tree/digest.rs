//! By what crash images are known that are alike.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::Hash;

use super::super::wide_hash::WideHasher;
use super::carry_out::{ROOT, Tree};
use super::node::{Body, Node};

impl Tree {
    /// A number that a directory does not have in which anybody reads something else: other names,
    /// bytes, links, owners, modes, or times of files that were given to them. Times that the
    /// system keeps by itself, and holes, make no difference. A node is looked at once, however
    /// many trees share it.
    pub fn digest(&self) -> u128 {
        let mut hasher = WideHasher::new();
        let root = self.node(ROOT).ok().map(|root| root.digest_or(digest));
        root.hash(&mut hasher);
        // The numbers of nodes say nothing; which names stand for one file does.
        let mut places = BTreeMap::new();
        let mut next = VecDeque::from([ROOT]);
        let mut seen = BTreeSet::from([ROOT]);
        while let Some(directory) = next.pop_front() {
            let Ok((_, entries)) = self.entries(directory) else {
                continue;
            };
            entries.len().hash(&mut hasher);
            for (name, number, _) in entries {
                let Ok(node) = self.node(number) else {
                    continue;
                };
                let place = places.len();
                let first = match node.links {
                    1 => None,
                    _ => Some(*places.entry(number).or_insert(place)),
                };
                let digest = node.digest_or(digest);
                (name.as_encoded_bytes(), first, digest).hash(&mut hasher);
                if node.is_directory() && seen.insert(number) {
                    next.push_back(number);
                }
            }
        }
        hasher.wide()
    }
}

/// Of a node alone.
fn digest(node: &Node) -> u128 {
    let mut hasher = WideHasher::new();
    (node.kind(), node.mode, node.user, node.group).hash(&mut hasher);
    match &node.body {
        Body::File(file) => {
            file.current().digest().hash(&mut hasher);
            let given = node.modified_is_given.then_some(node.modified.0);
            given.hash(&mut hasher);
        }
        Body::SymbolicLink(target) => target.hash(&mut hasher),
        Body::Directory(_) => {}
    }
    hasher.wide()
}
