// SPDX-License-Identifier: GPL-2.0

//! Random numbers that a seed repeats, on any machine and in any later version: a printed seed must
//! make the same run again.

#![forbid(unsafe_code)]

/// A SplitMix64 generator.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Returns the output function of SplitMix64 for a state; one bit of `state` changes half of the result's.
pub fn mix(state: u64) -> u64 {
    let mut z = state;

    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// Begins with a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number below `n`; 0 if that is 0. The bias of a remainder does not matter to a test.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits().checked_rem(n).unwrap_or(0)
    }

    /// Returns an index of a list of `len`; 0 if that is 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Returns true `part` times in `whole`.
    pub fn chance(&mut self, part: usize, whole: usize) -> bool {
        self.index(whole) < part
    }

    /// Returns true once in `n` times.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.chance(1, n)
    }

    /// Returns `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);

        while bytes.len() < len {
            bytes.extend(self.bits().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference values of SplitMix64.
    #[test]
    fn the_sequence_stays() {
        let mut random = Random::new(1_234_567);
        let bits: Vec<_> = (0..3).map(|_| random.bits()).collect();

        assert_eq!(
            bits,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }
}
