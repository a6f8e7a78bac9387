// SPDX-License-Identifier: GPL-2.0

//! Contents of sectors, each kept once. A device is then a list of numbers, and a state costs no
//! more than a copy of that list.

use std::collections::HashMap;

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;

/// Number of a content.
pub(crate) type Id = u32;

/// Zeroes: what a new device holds.
pub(crate) const ZEROES: Id = 0;

/// Contents that a device may return for a sector that was discarded. Nobody writes it.
pub(crate) const GARBAGE: Id = 1;

/// All contents of a recording.
pub(crate) struct Contents {
    data: Vec<[u8; SECTOR]>,
    index: HashMap<u64, Vec<Id>>,
}

impl Contents {
    pub(crate) fn new() -> Self {
        let mut contents = Self {
            data: Vec::new(),
            index: HashMap::new(),
        };
        assert_eq!(contents.intern(&[0; SECTOR]), ZEROES);
        assert_eq!(contents.intern(&[0xdb; SECTOR]), GARBAGE);
        contents
    }

    /// Returns the number of `sector`, which is new if nobody wrote it yet.
    pub(crate) fn intern(&mut self, sector: &[u8; SECTOR]) -> Id {
        let hash = hash(sector);
        let known = self.index.entry(hash).or_default();
        if let Some(id) = known.iter().find(|id| self.data[**id as usize] == *sector) {
            return *id;
        }
        let id = self.data.len() as Id;
        known.push(id);
        self.data.push(*sector);
        id
    }

    /// Returns the number of `sector` if it is in the recording.
    pub(crate) fn find(&self, sector: &[u8; SECTOR]) -> Option<Id> {
        let known = self.index.get(&hash(sector))?;
        known
            .iter()
            .copied()
            .find(|id| self.data[*id as usize] == *sector)
    }

    pub(crate) fn get(&self, id: Id) -> Option<&[u8; SECTOR]> {
        self.data.get(id as usize)
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }
}

/// Returns a hash, cheap and good enough: equality is always checked.
fn hash(sector: &[u8; SECTOR]) -> u64 {
    let mut lanes = [0x9e37_79b9_7f4a_7c15u64, 1, 2, 3];
    for words in sector.chunks_exact(32) {
        for (lane, word) in lanes.iter_mut().zip(words.chunks_exact(8)) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            *lane = (*lane ^ word)
                .wrapping_mul(0x2545_f491_4f6c_dd1d)
                .rotate_left(29);
        }
    }
    lanes.iter().fold(0u64, |sum, lane| {
        (sum ^ lane)
            .wrapping_mul(0xff51_afd7_ed55_8ccd)
            .rotate_left(31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contents_have_one_number() {
        let mut contents = Contents::new();
        let mut sector = [7; SECTOR];
        let first = contents.intern(&sector);
        sector[511] = 8;
        let second = contents.intern(&sector);
        assert_ne!(first, second);
        assert_eq!(contents.intern(&[7; SECTOR]), first);
        assert_eq!(contents.find(&sector), Some(second));
        assert_eq!(contents.find(&[9; SECTOR]), None);
        assert_eq!(contents.get(second), Some(&sector));
    }
}
