// SPDX-License-Identifier: GPL-2.0

//! Who takes the right to write away, and waits for the tickets, finds all writes done.
//!
//! A ticket is SRCU's (`src/abstractions/srcu.rs`): taking one and giving one back are full barriers, and a drain
//! that has found none is one too. So little of SRCU is relied on; here it is a counter.

use crate::writable_word::Word;
use kernel::sync::atomic::{
    ordering::{Acquire, Full, Relaxed, Release},
    Atomic,
};
use loom::{sync::Arc, thread};

/// Tickets, and whom they let write to what.
struct Device {
    tickets: Atomic<u32>,
    word: Word,
    mode: Atomic<u32>,
    /// Contents of a block: 1 is what the writer writes.
    block: Atomic<u32>,
    drained: Atomic<u32>,
}

const TRACKING: u32 = 0;
const CHANGING: u32 = 1;

impl Device {
    fn new() -> Self {
        let word = Word::new();
        word.set(1);
        Self {
            tickets: Atomic::new(0),
            word,
            mode: Atomic::new(TRACKING),
            block: Atomic::new(0),
            drained: Atomic::new(0),
        }
    }

    /// Writes the block if `may`, asked with a ticket, says so. Returns whether it was written.
    fn write(&self, may: fn(&Self) -> bool) -> bool {
        self.tickets.fetch_add(1, Full);
        let may = may(self);
        if may {
            self.block.store(1, Relaxed);
        }
        self.tickets.fetch_sub(1, Full);
        may
    }

    fn drain(&self) {
        while self.tickets.fetch_add(0, Full) != 0 {
            thread::yield_now();
        }
    }
}

/// Lets a writer write beside a worker that takes the right away with `forbid` and then copies the block: what was
/// written must be in the copy.
fn copy_after(may: fn(&Device) -> bool, forbid: fn(&Device)) {
    loom::model(move || {
        let device = Arc::new(Device::new());
        let writer = {
            let device = device.clone();
            thread::spawn(move || device.write(may))
        };
        forbid(&device);
        let copy = device.block.load(Relaxed);
        if writer.join().expect("a thread panicked") {
            assert_eq!(copy, 1, "a write after the copy");
        }
    });
}

fn is_writable(device: &Device) -> bool {
    device.word.admit(1).is_some()
}

fn is_tracking(device: &Device) -> bool {
    device.mode.load(Acquire) == TRACKING
}

#[test]
fn no_write_passes_a_block_that_is_not_writable_any_more() {
    copy_after(is_writable, |device| {
        device.word.clear(1);
        device.drain();
    });
}

#[test]
fn no_write_of_an_old_mode_is_left_when_it_changes() {
    copy_after(is_tracking, |device| {
        device.mode.store(CHANGING, Release);
        device.drain();
    });
}

// What the tests above can see.
#[test]
#[should_panic(expected = "a write after the copy")]
fn without_waiting_a_write_is_missed() {
    copy_after(is_writable, |device| {
        device.word.clear(1);
    });
}

#[test]
fn a_drain_that_has_ended_shows_what_it_has_seen() {
    loom::model(|| {
        let device = Arc::new(Device::new());
        let drain = {
            let device = device.clone();
            thread::spawn(move || {
                device.block.store(1, Relaxed);
                device.drained.store(1, Release);
            })
        };
        if device.drained.xchg(0, Acquire) != 0 {
            assert_eq!(device.block.load(Relaxed), 1);
        }
        drain.join().expect("a thread panicked");
    });
}
