// SPDX-License-Identifier: GPL-2.0

//! The choice of the next operation and its place: every choice comes from the seed.

use crate::range::Range;
use crate::range::SECTOR;
use bow_random::Random;
use std::fmt;
use std::str::FromStr;

/// The shapes of bio that a load is made of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Read,
    Write,
    /// A write with FUA.
    Fua,
    Flush,
    Discard,
    /// Write zeroes by the BLKZEROOUT ioctl.
    Zero,
    /// Write zeroes by fallocate's ZERO_RANGE.
    ZeroRange,
    /// Write zeroes with unmap, without a fallback to plain writes.
    Punch,
}

const KINDS: [(&str, Kind); 8] = [
    ("read", Kind::Read),
    ("write", Kind::Write),
    ("fua", Kind::Fua),
    ("flush", Kind::Flush),
    ("discard", Kind::Discard),
    ("zero", Kind::Zero),
    ("zerorange", Kind::ZeroRange),
    ("punch", Kind::Punch),
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(_, kind)| kind == self);
        f.write_str(name.map_or("?", |(name, _)| name))
    }
}

/// Weights of the kinds, parsed from `write=4,read=2`.
#[derive(Clone, Debug)]
pub(crate) struct Mix(Vec<(Kind, u64)>);

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part
                .split_once('=')
                .ok_or_else(|| format!("{part}: expected KIND=WEIGHT"))?;
            let kind = KINDS.iter().find(|(known, _)| *known == name).map(|k| k.1);
            let kind = kind.ok_or_else(|| {
                let names: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
                format!("{name}: no such kind; known are {}", names.join(", "))
            })?;
            let weight = weight.parse().map_err(|e| format!("{part}: {e}"))?;
            weights.push((kind, weight));
        }
        if weights.iter().all(|(_, weight)| *weight == 0) {
            return Err("every weight is 0".into());
        }
        Ok(Mix(weights))
    }
}

impl Mix {
    fn pick(&self, rng: &mut Random) -> Kind {
        let total = self.0.iter().map(|(_, weight)| weight).sum();
        let mut ticket = rng.below(total);
        for &(kind, weight) in &self.0 {
            if ticket < weight {
                return kind;
            }
            ticket -= weight;
        }
        unreachable!("the ticket is below the sum of the weights")
    }
}

/// One operation. A flush has no range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) kind: Kind,
    pub(crate) range: Option<Range>,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.range {
            Some(range) => write!(f, "{} {range}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}

/// An endless, reproducible sequence of operations.
pub(crate) struct Plan {
    rng: Random,
    mix: Mix,
    regions: Vec<Range>,
    unit: u64,
    max: u64,
    last: Range,
}

impl Plan {
    /// Begins a plan of operations of `unit` up to `max` sectors, inside `regions`.
    pub(crate) fn new(seed: u64, mix: Mix, regions: Vec<Range>, unit: u64, max: u64) -> Self {
        let last = regions[0];
        Self {
            rng: Random::new(bow_random::mix(seed)),
            mix,
            regions,
            unit,
            max,
            last,
        }
    }

    pub(crate) fn next(&mut self) -> Op {
        let kind = self.mix.pick(&mut self.rng);
        let range = (kind != Kind::Flush).then(|| self.range());
        Op { kind, range }
    }

    /// Draws a range. All sizes are about as likely; the edges of the region, the start above all,
    /// and the neighbourhood of the last operation more than their share.
    fn range(&mut self) -> Range {
        let rng = &mut self.rng;
        let total = self.regions.iter().map(|r| r.len).sum();
        let mut ticket = rng.below(total);
        let mut region = self.regions[0];
        for &candidate in &self.regions {
            region = candidate;
            if ticket < candidate.len {
                break;
            }
            ticket -= candidate.len;
        }

        let units = (self.max.min(region.len) / self.unit).max(1);
        let magnitude = rng.below(u64::from(units.ilog2()) + 1);
        let mut len = (1 + rng.below(1 << magnitude)) * self.unit;
        let latest = region.end() - len;
        let page = (4096 / SECTOR) as u64;
        let mut start = match rng.below(10) {
            0 => region.start + rng.below(2 * page),
            1 => latest,
            2 => self.last.end(),
            3 => (self.last.start + rng.below(self.last.len)).saturating_sub(rng.below(len)),
            _ => region.start + rng.below(region.len),
        };
        // A good part as a file system would do it: whole pages.
        if rng.once_in(4) {
            start -= start % page;
            len = len.next_multiple_of(page).min(region.len);
        }
        let latest = region.end() - len;
        start = start.clamp(region.start, latest);
        start -= (start - region.start) % self.unit;
        self.last = Range::new(start, len);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_in_their_region_and_keep_the_unit() {
        let mix: Mix = "write=1".parse().unwrap();
        for (unit, max) in [(1, 1), (1, 300), (8, 8), (8, 4096)] {
            let regions = vec![
                Range::new(0, 64),
                Range::new(800, 8),
                Range::new(4096, 4096),
            ];
            let mut plan = Plan::new(7, mix.clone(), regions.clone(), unit, max);
            let mut seen = [0; 3];
            for _ in 0..20_000 {
                let range = plan.next().range.unwrap();
                let home = regions.iter().position(|r| r.contains(&range));
                seen[home.expect("inside a region")] += 1;
                assert!(range.len >= unit && range.len <= max.max(8));
                assert_eq!((range.start % unit, range.len % unit), (0, 0));
            }
            assert!(seen[0] > 0 && seen[2] > 0);
        }
    }

    #[test]
    fn block_0_and_every_size_come_up() {
        let regions = vec![Range::new(0, 65536)];
        let mut plan = Plan::new(1, "write=1".parse().unwrap(), regions, 1, 2048);
        let ranges: Vec<_> = (0..2000).map(|_| plan.next().range.unwrap()).collect();
        assert!(ranges.iter().filter(|r| r.start < 8).count() > 50);
        assert!(ranges.iter().filter(|r| r.len == 1).count() > 50);
        assert!(ranges.iter().filter(|r| r.len > 1024).count() > 20);
        assert!(ranges.iter().any(|r| r.end() == 65536));
    }

    #[test]
    fn a_bad_mix_is_refused() {
        for bad in ["", "write", "write=x", "trim=1", "write=0"] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }
}
