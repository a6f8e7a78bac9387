// SPDX-License-Identifier: GPL-2.0

//! Decisions in state 1, carried out on a [device](crate::device) in memory: random writes and discards, copies that
//! fail, space that runs out, power cuts after which the checkpoint is resumed.

use crate::decisions::batch::Batch;
use crate::decisions::checkpoint::Verdict;
use crate::device::{Device, MIB};
use kernel::prelude::GFP_KERNEL;
use std::ops::Range;

/// Runs random writes of all shapes everywhere, discards, and now and then a copy that fails.
fn random_load(block: u32, failures: Option<usize>, free: u64, seed: u64) -> Device {
    let sectors = 4096 + seed % 8;
    let mut device = Device::new(sectors, 4096 - free..sectors, block, seed);
    device.failures = failures;
    load(&mut device);
    device
}

fn load(device: &mut Device) {
    let sectors = device.sectors;
    for step in 0..400 {
        let mut spans: Vec<Range<u64>> = Vec::new();
        for _ in 0..1 + device.random.index(6) {
            let start = device.random.below(sectors);
            let start = match device.random.index(16) {
                0..2 => start % 8,
                2 => sectors - 1 - start % 16,
                _ => start,
            };
            let length = 1 + device.random.below(40);
            // As `map` does: what begins in the first block ends there.
            let limit = if start < device.block.sectors() {
                device.block.sectors()
            } else {
                sectors
            };
            let span = start..(start + length).min(limit);
            // Writes that overlap and are in flight together have no order.
            if spans
                .iter()
                .all(|other| span.end <= other.start || other.end <= span.start)
            {
                spans.push(span);
            }
        }
        let injection = (!device.has_memory).then(kernel::inject::fail_all);
        if device.random.once_in(5) {
            spans.iter().for_each(|span| device.discard(span));
        } else {
            device.write(&spans);
        }
        drop(injection);
        if device.random.once_in(4) {
            device.unflushed.clear();
        }
        if step % 40 == 39 {
            device.check();
        }
        if step % 120 == 119 {
            device.resume_and_compare();
        }
    }
}

#[test]
fn random_loads() {
    for seed in 0..12 {
        for block in [512, 1024, 4096] {
            let device = random_load(block, None, 2048, seed);
            assert!(device.copies > 50 && device.written > 1000);
            let is_cut_off = device.sectors % device.block.sectors() > 0;
            assert_eq!(device.tails > 0, is_cut_off);
        }
    }
}

#[test]
fn random_loads_with_copies_that_fail() {
    for seed in 0..12 {
        for block in [512, 2048] {
            let device = random_load(block, Some(6), 2048, seed);
            assert!(device.copies > 50 && device.written > 1000);
        }
    }
}

/// A batch of grants alone takes no copy, and one that it cannot take costs no free space for its nodes.
#[test]
fn a_batch_of_grants_takes_no_copy() {
    let mut device = Device::new(4096, 2048..4096, 512, 3);
    let mut grants = Batch::of_grants(GFP_KERNEL).unwrap();
    device.write(std::slice::from_ref(&(2400..3600)));
    let injection = kernel::inject::fail_all();
    // Each of these takes nodes, until there are none.
    for sector in (2400..3600).step_by(2) {
        device.discard(&(sector..sector + 1));
    }
    let before = device.checkpoint.free_sectors();
    for sector in 1..100 {
        let span = sector..sector + 1;
        let verdict = device.checkpoint.prepare(&span, Some(&mut grants));
        assert_eq!(verdict, Verdict::Later);
    }
    assert_eq!(
        (grants.entries(), device.checkpoint.free_sectors()),
        (0, before)
    );
    drop(injection);
    device.checkpoint.replenish(GFP_KERNEL);
    let verdict = device.checkpoint.prepare(&(4000..4008), Some(&mut grants));
    assert_eq!((verdict, grants.entries()), (Verdict::Joined, 1));
}

/// After any power cut the checkpoint goes on, and rolls back to its first state.
#[test]
fn random_loads_with_power_cuts() {
    let mut resumed = 0;
    for seed in 0..24 {
        for block in [512, 4096] {
            let sectors = 4096 + seed % 8;
            let free = if seed % 3 == 0 { 600 } else { 2048 };
            let mut device = Device::new(sectors, 4096 - free..sectors, block, seed);
            device.failures = (seed % 4 == 1).then_some(8);
            device.cuts = Some(10);
            load(&mut device);
            resumed += device.resumed;
        }
    }
    println!("resumed {resumed} times");
    assert!(resumed > 400);
}

/// Tree nodes are what copies that fail need, in the middle of a batch, and must not run out.
#[test]
fn random_loads_without_memory_and_with_copies_that_fail() {
    for seed in 0..12 {
        for block in [512, 4096] {
            let sectors = 4096 + seed % 8;
            let mut device = Device::new(sectors, 2048..sectors, block, seed);
            device.failures = Some(3);
            device.has_memory = false;
            load(&mut device);
            assert!(device.copies > 50);
        }
    }
}

#[test]
fn random_loads_with_little_space() {
    for seed in 0..12 {
        for block in [512, 4096] {
            let device = random_load(block, None, 400, seed);
            assert!(device.refused > 0);
        }
    }
}

/// Returns a device of which 128 MiB are free.
fn large() -> Device {
    Device::new(320 * MIB, 192 * MIB..320 * MIB, 4096, 5)
}

/// Does first writes of 4 KiB to `range`, `count` of them in random order, `depth` at a time.
fn scatter(device: &mut Device, range: Range<u64>, count: usize, depth: usize) {
    let mut blocks: Vec<u64> = range.step_by(8).collect();
    for index in (1..blocks.len()).rev() {
        blocks.swap(index, device.random.index(index + 1));
    }
    for some in blocks[..count].chunks(depth) {
        let spans: Vec<_> = some.iter().map(|&start| start..start + 8).collect();
        device.write(&spans);
    }
}

/// If everything is written in the end, most of it is copied by few large copies: the fewer, the
/// fewer writes wait for them. Of 32 writes at a time each has the smallest window, 24 KiB, of which
/// the 16 MiB hold 683; a tenth more are copies from before the load is known to be dense.
#[test]
fn a_dense_load_is_copied_in_large_pieces() {
    for (depth, most) in [(1, 250), (8, 550), (32, 750)] {
        let mut device = large();
        scatter(&mut device, 16 * MIB..32 * MIB, 4096, depth);
        println!(
            "{} copies for 4096 writes, {depth} at a time",
            device.copies
        );
        assert!(device.copies < most);
        // Windows may reach over the ends of what is written.
        assert!(device.prefetched.len() < 32);
    }
}

/// A journal goes through its space in small writes.
#[test]
fn a_stream_is_copied_in_large_pieces() {
    let mut device = large();
    // What is prefetched in vain leaves nothing for trials.
    for start in 0..40 {
        let span = start * 4 * MIB + MIB..start * 4 * MIB + MIB + 8;
        device.write(std::slice::from_ref(&span));
    }
    let before = device.copies;
    for start in (170 * MIB + 24..172 * MIB).step_by(16) {
        device.write(std::slice::from_ref(&(start..start + 16)));
    }
    println!("{} copies for 254 writes", device.copies - before);
    assert!(device.copies - before < 25);
}

/// Free space is taken piece by piece, and a piece seldom ends where a window does.
#[test]
fn a_copy_takes_what_is_left_of_a_piece_of_free_space() {
    let mut device = large();
    for start in (16 * MIB..40 * MIB).step_by(8) {
        device.write(std::slice::from_ref(&(start..start + 8)));
    }
    println!("{} copies for 24 MiB", device.copies);
    assert!(device.copies < 40);
}

/// If little is written, no more than a few windows are copied in vain.
#[test]
fn a_sparse_load_is_copied_as_it_comes() {
    let mut device = large();
    scatter(&mut device, 16 * MIB..136 * MIB, 4096, 32);
    let vain = device.prefetched.len() as u64 * 8;
    println!(
        "{} copies for 4096 writes, {} KiB in vain",
        device.copies,
        vain / 2
    );
    assert!(vain < 4 * MIB);
}

/// The range that a dense load has shown is soon forgotten.
#[test]
fn a_sparse_load_after_a_dense_one_is_copied_as_it_comes() {
    for depth in [4, 32] {
        let mut device = large();
        scatter(&mut device, MIB..17 * MIB, 4096, depth);
        scatter(&mut device, 32 * MIB..152 * MIB, 4096, depth);
        let vain = device.prefetched.len() as u64 * 8;
        println!("{} KiB in vain, {depth} at a time", vain / 2);
        assert!(vain < 4 * MIB);
    }
}
