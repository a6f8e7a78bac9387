// SPDX-License-Identifier: GPL-2.0

//! The size of copies.

use crate::decisions::block_size::BlockSize;
use crate::decisions::window::Window;

/// Sectors of a MiB.
const MIB: u64 = (1 << 20) / 512;

/// However much of it there is already.
#[test]
fn a_long_stream_is_copied_ahead_as_a_short_one() {
    let block = BlockSize::MAX;
    let mut window = Window::new();
    // No more trials.
    window.miss(block.sectors(), MIB, block);
    let ahead = |before| window.around(&(8 * MIB..8 * MIB + 8), before, 1024 * MIB, MIB);
    assert_eq!(ahead(8), None);
    assert_eq!(ahead(64), Some(8 * MIB..8 * MIB + 72));
    assert_eq!(ahead(512 * MIB), Some(8 * MIB..9 * MIB));
}

/// While the log is written the writes wait anyway, and a single long one may have waited for others.
#[test]
fn more_is_copied_for_a_log_write_that_takes_long() {
    let mut window = Window::new();
    let fast = window.size_for(16);
    window.log_write_took(80);
    assert_eq!(window.size_for(16), fast);
    window.log_write_took(1_000_000);
    assert!(window.size_for(16) <= 2 * fast);
    for _ in 0..4 {
        window.log_write_took(2000);
    }
    let slow = window.size_for(16);
    assert!(slow > 3 * fast && slow < 5 * fast);
    for _ in 0..64 {
        window.log_write_took(u64::MAX);
    }
    assert_eq!(window.size_for(2), MIB);
    window.log_write_took(80);
    assert_eq!(window.size_for(16), fast);
}
