//! By what crash images are known that are byte for byte alike.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::carry_out::{ROOT, Tree};
use super::node::{Body, Node};

impl Tree {
    /// A number that a directory does not have in which anybody reads something else: other names,
    /// bytes, links, owners or modes. Times and holes make no difference. A node is looked at once,
    /// however many trees share it.
    pub fn digest(&self) -> u128 {
        let mut hashers = hashers();
        let root = self.node(ROOT).ok().map(|root| root.digest_or(digest));
        hashers.iter_mut().for_each(|hasher| root.hash(hasher));
        // The numbers of nodes say nothing; which names stand for one file does.
        let mut places = BTreeMap::new();
        let mut next = VecDeque::from([ROOT]);
        while let Some(directory) = next.pop_front() {
            let Ok((_, entries)) = self.entries(directory) else {
                continue;
            };
            for hasher in &mut hashers {
                entries.len().hash(hasher);
            }
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
                for hasher in &mut hashers {
                    (name.as_encoded_bytes(), first, digest).hash(hasher);
                }
                if node.is_directory() {
                    next.push_back(number);
                }
            }
        }
        finished(hashers)
    }
}

/// Of a node alone.
fn digest(node: &Node) -> u128 {
    let mut hashers = hashers();
    for hasher in &mut hashers {
        (node.kind(), node.mode, node.user, node.group).hash(hasher);
        match &node.body {
            Body::File(file) => file.current().digest().hash(hasher),
            Body::SymbolicLink(target) => target.hash(hasher),
            Body::Directory(_) => {}
        }
    }
    finished(hashers)
}

fn hashers() -> [DefaultHasher; 2] {
    let [low, mut high] = [DefaultHasher::new(), DefaultHasher::new()];
    1u8.hash(&mut high);
    [low, high]
}

fn finished([low, high]: [DefaultHasher; 2]) -> u128 {
    u128::from(low.finish()) | u128::from(high.finish()) << 64
}
