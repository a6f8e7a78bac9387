// SPDX-License-Identifier: GPL-2.0

//! Short list of sector ranges that covers everything added to it, and perhaps more.

use core::ops::Range as Span;

/// Maximum number of spans in a list.
const SPANS_MAX: usize = 16;

/// Spans that cover everything that was added. When the list is full, its last span grows.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    spans: [Span<u64>; SPANS_MAX],
    count: usize,
}

impl Spans {
    /// Adds a span.
    pub(super) fn add(&mut self, span: Span<u64>) {
        let touches = |last: &&mut Span<u64>| span.start <= last.end && last.start <= span.end;
        let last = self
            .count
            .checked_sub(1)
            .and_then(|last| self.spans.get_mut(last));
        if let Some(last) = last.filter(touches) {
            *last = last.start.min(span.start)..last.end.max(span.end);
        } else if let Some(place) = self.spans.get_mut(self.count) {
            *place = span;
            self.count += 1;
        } else if let Some(last) = self.spans.last_mut() {
            *last = last.start.min(span.start)..last.end.max(span.end);
        }
    }

    /// Returns the spans. They may overlap.
    pub(super) fn spans(&self) -> &[Span<u64>] {
        self.spans.get(..self.count).unwrap_or_default()
    }
}
