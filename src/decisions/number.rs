// SPDX-License-Identifier: GPL-2.0

//! Decimal numbers in table lines and messages.

use core::str::FromStr;

/// Parses a decimal number without sign or white space. Returns [`None`] if `text` is not one or is too
/// large.
pub(super) fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}
