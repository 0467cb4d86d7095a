//! By what crash images are known that are byte for byte alike.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::carry_out::Tree;
use super::node::{Body, Node};

impl Tree {
    /// A number that a directory does not have in which anybody reads something else: other names,
    /// bytes, links, owners or modes. Times and holes make no difference. Content is looked at
    /// once, however many trees share it.
    pub fn digest(&self) -> u128 {
        let [mut low, mut high] = [DefaultHasher::new(), DefaultHasher::new()];
        1u8.hash(&mut high);
        // The numbers of nodes say nothing; which names stand for one file does.
        let mut places = BTreeMap::new();
        for (place, (path, number)) in self.walk().into_iter().enumerate() {
            let first = *places.entry(number).or_insert(place);
            let Ok(node) = self.node(number) else {
                continue;
            };
            for hasher in [&mut low, &mut high] {
                path.as_os_str().as_encoded_bytes().hash(hasher);
                first.hash(hasher);
                digest_node(node, hasher);
            }
        }
        u128::from(low.finish()) | u128::from(high.finish()) << 64
    }
}

fn digest_node(node: &Node, hasher: &mut DefaultHasher) {
    (node.kind(), node.mode, node.user, node.group).hash(hasher);
    match &node.body {
        Body::File(file) => file.current().digest().hash(hasher),
        Body::SymbolicLink(target) => target.hash(hasher),
        Body::Directory(_) => {}
    }
}
