// SPDX-License-Identifier: GPL-2.0

//! Sets of sectors.

use std::ops::Range;

/// Set of sectors.
///
/// # Invariants
///
/// The spans are not empty, ascend, and do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SectorSet(Vec<Range<u64>>);

impl FromIterator<Range<u64>> for SectorSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(spans: I) -> Self {
        let mut spans: Vec<_> = spans.into_iter().filter(|span| !span.is_empty()).collect();
        let mut set: Vec<Range<u64>> = Vec::new();

        spans.sort_unstable_by_key(|span| span.start);
        for span in spans {
            match set.last_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => set.push(span),
            }
        }
        // INVARIANT: Sorted by their starts, and one that touches the last has been added to it.
        Self(set)
    }
}

impl IntoIterator for SectorSet {
    type Item = Range<u64>;
    type IntoIter = std::vec::IntoIter<Range<u64>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl SectorSet {
    /// Returns the spans, lowest first.
    pub fn spans(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Returns the number of sectors.
    pub fn sectors(&self) -> u64 {
        self.0.iter().map(|span| span.end - span.start).sum()
    }

    /// Returns the sectors that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();

        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let span = a.start.max(b.start)..a.end.min(b.end);

            // Only the one that ends first has nothing more in common with the other set.
            if a.end <= b.end {
                left.next();
            } else {
                right.next();
            }
            if !span.is_empty() {
                both.push(span);
            }
        }
        // INVARIANT: Two of these that touched would lie in two spans of one of the sets, which do not.
        Self(both)
    }

    /// Returns the sectors that are in this set and not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        let mut others = other.0.iter().peekable();
        let mut rest = Vec::new();

        for span in &self.0 {
            let mut start = span.start;

            while let Some(hole) = others.peek().filter(|hole| hole.start < span.end) {
                if start < hole.start {
                    rest.push(start..hole.start);
                }
                start = start.max(hole.end);
                if hole.end > span.end {
                    // It may reach into the next span.
                    break;
                }
                others.next();
            }
            if start < span.end {
                rest.push(start..span.end);
            }
        }
        // INVARIANT: Parts of a span have a hole between them, and spans do not touch.
        Self(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spans() -> impl Strategy<Value = Vec<Range<u64>>> {
        let span = (0..60_u64, 0..8_u64).prop_map(|(start, length)| start..start + length);

        proptest::collection::vec(span, 0..12)
    }

    fn has(spans: &[Range<u64>], sector: u64) -> bool {
        spans.iter().any(|span| span.contains(&sector))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sets_are_sets(a in spans(), b in spans()) {
            let sets = [&a, &b].map(|spans| spans.iter().cloned().collect::<SectorSet>());
            let both = sets[0].intersection(&sets[1]);
            let rest = sets[0].difference(&sets[1]);

            for set in [&sets[0], &both, &rest] {
                prop_assert!(set.spans().iter().all(|span| !span.is_empty()));
                prop_assert!(set.spans().windows(2).all(|two| two[0].end < two[1].start));
            }
            for sector in 0..80 {
                let (in_a, in_b) = (has(&a, sector), has(&b, sector));

                prop_assert_eq!(has(sets[0].spans(), sector), in_a);
                prop_assert_eq!(has(both.spans(), sector), in_a && in_b);
                prop_assert_eq!(has(rest.spans(), sector), in_a && !in_b);
            }
            prop_assert_eq!(both.sectors() + rest.sectors(), sets[0].sectors());
        }
    }
}
