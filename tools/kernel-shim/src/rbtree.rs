// SPDX-License-Identifier: GPL-2.0

//! Red-black trees, as `rust/kernel/rbtree.rs`: an ordered map whose nodes are allocated before
//! they are inserted.
//!
//! It is a `BTreeMap` inside. A cursor holds the key that it stands on, which is why keys are
//! counted references; so each of its steps costs a search.

use core::fmt;
use core::ops::Bound;
use std::collections::btree_map;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::alloc::allocator::{Allocator, Kmalloc};
use crate::alloc::Flags;
use crate::error::Result;

/// A red-black tree with owned nodes.
pub struct RBTree<K, V> {
    map: BTreeMap<Arc<K>, V>,
}

impl<K, V> RBTree<K, V> {
    /// Creates a new and empty tree.
    pub fn new() -> Self {
        Self {
            map: BTreeMap::new(),
        }
    }

    /// Returns true if this tree is empty.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Returns an iterator over the tree nodes, sorted by key.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.map.iter())
    }

    /// Returns a mutable iterator over the tree nodes, sorted by key.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        IterMut(self.map.iter_mut())
    }

    /// Returns an iterator over the keys of the nodes in the tree, in sorted order.
    pub fn keys(&self) -> impl Iterator<Item = &'_ K> {
        self.iter().map(|(k, _)| k)
    }

    /// Returns an iterator over the values of the nodes in the tree, sorted by key.
    pub fn values(&self) -> impl Iterator<Item = &'_ V> {
        self.iter().map(|(_, v)| v)
    }

    /// Returns a mutable iterator over the values of the nodes in the tree, sorted by key.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &'_ mut V> {
        self.iter_mut().map(|(_, v)| v)
    }
}

impl<K: Ord, V> RBTree<K, V> {
    /// Returns a cursor over the tree nodes, starting with the smallest key.
    pub fn cursor_front(&self) -> Option<Cursor<'_, K, V>> {
        Cursor::at(&self.map, self.map.first_key_value()?.0)
    }

    /// Returns a mutable cursor over the tree nodes, starting with the smallest key.
    pub fn cursor_front_mut(&mut self) -> Option<CursorMut<'_, K, V>> {
        let key = self.map.first_key_value()?.0.clone();

        Some(CursorMut { tree: self, key })
    }

    /// Returns a cursor over the tree nodes, starting with the largest key.
    pub fn cursor_back(&self) -> Option<Cursor<'_, K, V>> {
        Cursor::at(&self.map, self.map.last_key_value()?.0)
    }

    /// Returns a mutable cursor over the tree nodes, starting with the largest key.
    pub fn cursor_back_mut(&mut self) -> Option<CursorMut<'_, K, V>> {
        let key = self.map.last_key_value()?.0.clone();

        Some(CursorMut { tree: self, key })
    }

    /// Returns a cursor over the tree nodes based on the given key: on that key, or else on the
    /// next larger one.
    pub fn cursor_lower_bound(&self, key: &K) -> Option<Cursor<'_, K, V>> {
        Cursor::at(&self.map, self.map.range::<K, _>(key..).next()?.0)
    }

    /// Returns a mutable cursor over the tree nodes based on the given key: on that key, or else
    /// on the next larger one.
    pub fn cursor_lower_bound_mut(&mut self, key: &K) -> Option<CursorMut<'_, K, V>> {
        let key = self.map.range::<K, _>(key..).next()?.0.clone();

        Some(CursorMut { tree: self, key })
    }

    /// Tries to insert a new value into the tree, and returns the node that it replaces.
    pub fn try_create_and_insert(
        &mut self,
        key: K,
        value: V,
        flags: Flags,
    ) -> Result<Option<RBTreeNode<K, V>>> {
        Ok(self.insert(RBTreeNode::new(key, value, flags)?))
    }

    /// Inserts a new node into the tree, and returns the node that it replaces.
    pub fn insert(&mut self, node: RBTreeNode<K, V>) -> Option<RBTreeNode<K, V>> {
        let old = self.remove_node(&node.key);

        self.map.insert(Arc::new(node.key), node.value);
        old
    }

    /// Returns a reference to the value corresponding to the key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    /// Returns a mutable reference to the value corresponding to the key.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.map.get_mut(key)
    }

    /// Removes the node with the given key from the tree.
    pub fn remove_node(&mut self, key: &K) -> Option<RBTreeNode<K, V>> {
        let (key, value) = self.map.remove_entry(key)?;

        Some(RBTreeNode {
            key: Arc::into_inner(key).expect("no cursor is on a tree that changes"),
            value,
        })
    }

    /// Removes the node with the given key from the tree and returns its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.map.remove(key)
    }
}

impl<K, V> Default for RBTree<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for RBTree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

/// Returns the neighbour of `key` before it.
fn before<'a, K: Ord, V>(map: &'a BTreeMap<Arc<K>, V>, key: &K) -> Option<(&'a Arc<K>, &'a V)> {
    map.range::<K, _>(..key).next_back()
}

/// Returns the neighbour of `key` after it.
fn after<'a, K: Ord, V>(map: &'a BTreeMap<Arc<K>, V>, key: &K) -> Option<(&'a Arc<K>, &'a V)> {
    map.range::<K, _>((Bound::Excluded(key), Bound::Unbounded))
        .next()
}

/// A bidirectional cursor over the tree nodes, sorted by key.
pub struct Cursor<'a, K, V> {
    map: &'a BTreeMap<Arc<K>, V>,
    current: (&'a K, &'a V),
}

impl<K, V> Clone for Cursor<'_, K, V> {
    fn clone(&self) -> Self {
        Self {
            map: self.map,
            current: self.current,
        }
    }
}

impl<'a, K: Ord, V> Cursor<'a, K, V> {
    fn at(map: &'a BTreeMap<Arc<K>, V>, key: &K) -> Option<Self> {
        let (key, value) = map.get_key_value(key)?;

        Some(Self {
            map,
            current: (key, value),
        })
    }

    /// Returns the current node.
    pub fn current(&self) -> (&K, &V) {
        self.current
    }

    /// Accesses the previous node without moving the cursor.
    pub fn peek_prev(&self) -> Option<(&K, &V)> {
        before(self.map, self.current.0).map(|(k, v)| (&**k, v))
    }

    /// Accesses the next node without moving the cursor.
    pub fn peek_next(&self) -> Option<(&K, &V)> {
        after(self.map, self.current.0).map(|(k, v)| (&**k, v))
    }
}

/// A bidirectional mutable cursor over the tree nodes, sorted by key.
pub struct CursorMut<'a, K, V> {
    tree: &'a mut RBTree<K, V>,
    /// A key of the tree.
    key: Arc<K>,
}

impl<K: Ord, V> CursorMut<'_, K, V> {
    /// Returns the current node.
    pub fn current(&self) -> (&K, &V) {
        let (key, value) = self
            .tree
            .map
            .get_key_value(&*self.key)
            .expect("a cursor is on a node");

        (key, value)
    }

    /// Returns the current node, with a mutable value.
    pub fn current_mut(&mut self) -> (&K, &mut V) {
        let value = self
            .tree
            .map
            .get_mut(&*self.key)
            .expect("a cursor is on a node");

        (&self.key, value)
    }

    /// Removes the current node from the tree.
    ///
    /// Returns a tuple where the first element is a cursor to the next node, if it exists, else the
    /// previous node, else `None` (if the tree becomes empty). The second element is the removed
    /// node.
    pub fn remove_current(self) -> (Option<Self>, RBTreeNode<K, V>) {
        let Self { tree, key } = self;
        let neighbor = after(&tree.map, &key)
            .or_else(|| before(&tree.map, &key))
            .map(|(key, _)| key.clone());
        let (own, value) = tree.map.remove_entry(&*key).expect("a cursor is on a node");

        drop(own);
        let node = RBTreeNode {
            key: Arc::into_inner(key).expect("the tree has let go of the key"),
            value,
        };
        (neighbor.map(|key| Self { tree, key }), node)
    }

    /// Removes the previous node, returning it if it exists.
    pub fn remove_prev(&mut self) -> Option<RBTreeNode<K, V>> {
        let key = before(&self.tree.map, &self.key)?.0.clone();

        self.remove_neighbor(key)
    }

    /// Removes the next node, returning it if it exists.
    pub fn remove_next(&mut self) -> Option<RBTreeNode<K, V>> {
        let key = after(&self.tree.map, &self.key)?.0.clone();

        self.remove_neighbor(key)
    }

    fn remove_neighbor(&mut self, key: Arc<K>) -> Option<RBTreeNode<K, V>> {
        let (own, value) = self.tree.map.remove_entry(&*key)?;

        drop(own);
        Some(RBTreeNode {
            key: Arc::into_inner(key).expect("the tree has let go of the key"),
            value,
        })
    }

    /// Moves the cursor to the previous node, returning `None` if it doesn't exist.
    pub fn move_prev(self) -> Option<Self> {
        let key = before(&self.tree.map, &self.key)?.0.clone();

        Some(Self { key, ..self })
    }

    /// Moves the cursor to the next node, returning `None` if it doesn't exist.
    pub fn move_next(self) -> Option<Self> {
        let key = after(&self.tree.map, &self.key)?.0.clone();

        Some(Self { key, ..self })
    }

    /// Accesses the previous node without moving the cursor.
    pub fn peek_prev(&self) -> Option<(&K, &V)> {
        before(&self.tree.map, &self.key).map(|(k, v)| (&**k, v))
    }

    /// Accesses the next node without moving the cursor.
    pub fn peek_next(&self) -> Option<(&K, &V)> {
        after(&self.tree.map, &self.key).map(|(k, v)| (&**k, v))
    }

    /// Accesses the previous node mutably without moving the cursor.
    pub fn peek_prev_mut(&mut self) -> Option<(&K, &mut V)> {
        let (key, value) = self.tree.map.range_mut::<K, _>(..&*self.key).next_back()?;

        Some((key, value))
    }

    /// Accesses the next node mutably without moving the cursor.
    pub fn peek_next_mut(&mut self) -> Option<(&K, &mut V)> {
        let range = (Bound::Excluded(&*self.key), Bound::Unbounded);
        let (key, value) = self.tree.map.range_mut::<K, _>(range).next()?;

        Some((key, value))
    }
}

/// An iterator over the nodes of a [`RBTree`].
pub struct Iter<'a, K, V>(btree_map::Iter<'a, Arc<K>, V>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(k, v)| (&**k, v))
    }
}

impl<'a, K, V> IntoIterator for &'a RBTree<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A mutable iterator over the nodes of a [`RBTree`].
pub struct IterMut<'a, K, V>(btree_map::IterMut<'a, Arc<K>, V>);

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(k, v)| (&**k, v))
    }
}

impl<'a, K, V> IntoIterator for &'a mut RBTree<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

/// A memory reservation for a red-black tree node.
pub struct RBTreeNodeReservation<K, V> {
    _type: core::marker::PhantomData<fn() -> (K, V)>,
}

impl<K, V> RBTreeNodeReservation<K, V> {
    /// Allocates memory for a node to be eventually initialised and inserted into the tree.
    pub fn new(_flags: Flags) -> Result<Self> {
        // A node's links are three words.
        Kmalloc::allow(size_of::<(K, V, [usize; 3])>())?;
        Ok(Self {
            _type: core::marker::PhantomData,
        })
    }

    /// Initialises a node reservation.
    pub fn into_node(self, key: K, value: V) -> RBTreeNode<K, V> {
        RBTreeNode { key, value }
    }
}

/// A red-black tree node.
pub struct RBTreeNode<K, V> {
    key: K,
    value: V,
}

impl<K, V> RBTreeNode<K, V> {
    /// Allocates and initialises a node that can be inserted into the tree.
    pub fn new(key: K, value: V, flags: Flags) -> Result<Self> {
        Ok(RBTreeNodeReservation::new(flags)?.into_node(key, value))
    }

    /// Gets the key and value from inside the node.
    pub fn to_key_value(self) -> (K, V) {
        (self.key, self.value)
    }

    /// Drops the key and value, but keeps the allocation.
    pub fn into_reservation(self) -> RBTreeNodeReservation<K, V> {
        RBTreeNodeReservation {
            _type: core::marker::PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    fn tree() -> RBTree<u32, u32> {
        let mut tree = RBTree::new();

        for key in [20, 10, 30] {
            let old = tree.try_create_and_insert(key, key * 10, GFP_KERNEL);
            assert!(matches!(old, Ok(None)));
        }
        tree
    }

    #[test]
    fn lower_bound_finds_the_key_or_the_next_larger() {
        let mut tree = tree();

        for (key, found) in [(0, Some(10)), (10, Some(10)), (11, Some(20)), (31, None)] {
            assert_eq!(tree.cursor_lower_bound(&key).map(|c| *c.current().0), found);
            let cursor = tree.cursor_lower_bound_mut(&key);
            assert_eq!(cursor.map(|c| *c.current().0), found);
        }
    }

    #[test]
    fn cursors_walk_and_remove() {
        let mut tree = tree();
        let mut cursor = tree.cursor_front_mut().unwrap().move_next().unwrap();

        assert_eq!(cursor.peek_prev(), Some((&10, &100)));
        assert_eq!(cursor.peek_next_mut(), Some((&30, &mut 300)));
        *cursor.current_mut().1 = 201;
        let (cursor, node) = cursor.remove_current();
        assert_eq!(node.to_key_value(), (20, 201));
        let (cursor, _) = cursor.unwrap().remove_current();
        // No next one: the previous.
        let cursor = cursor.unwrap();
        assert_eq!(cursor.current(), (&10, &100));
        assert!(cursor.remove_current().0.is_none());
        assert!(tree.is_empty());
    }

    #[test]
    fn insert_replaces() {
        let mut tree = tree();
        let old = tree.try_create_and_insert(20, 1, GFP_KERNEL).unwrap();

        assert_eq!(old.unwrap().to_key_value(), (20, 200));
        assert_eq!(tree.get(&20), Some(&1));
        assert_eq!(
            tree.iter().map(|(k, _)| *k).collect::<std::vec::Vec<_>>(),
            [10, 20, 30]
        );
    }

    #[test]
    fn allocations_fail_when_told() {
        let injection = crate::inject::fail_nth(1);

        assert!(RBTreeNodeReservation::<u32, u32>::new(GFP_KERNEL).is_ok());
        assert_eq!(
            RBTreeNodeReservation::<u32, u32>::new(GFP_KERNEL).err(),
            Some(ENOMEM)
        );
        assert!(injection.hit());
        assert!(RBTreeNodeReservation::<u32, u32>::new(GFP_KERNEL).is_ok());
    }

    #[test]
    fn kmalloc_has_a_limit_that_kvmalloc_has_not() {
        assert!(KVec::<u8>::with_capacity((4 << 20) + 1, GFP_KERNEL).is_err());
        assert!(KVVec::<u8>::with_capacity((4 << 20) + 1, GFP_KERNEL).is_ok());
    }
}
