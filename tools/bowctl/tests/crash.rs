// SPDX-License-Identifier: GPL-2.0

//! Power cuts during a restore and a commit.
//!
//! Of each random history the restore's writes and flushes are recorded. For each number of them
//! that reached the disk, and for random parts of what was written since the last flush, torn at
//! sectors, the restore must be able to begin again and come to the same end; and so must that
//! one, cut off in turn.

use bow_model::crash;
use bow_model::disk::{Disk, Request, SECTOR};
use bow_model::history::{History, Op};
use bow_model::log::Version;
use bow_model::restore::restore as restore_checked;
use bow_model::strategy::case;
use bow_random::Random;
use bowctl::progress::Progress;
use bowctl::recovery::foreign;
use bowctl::recovery::{self, CheckOptions, RecoveryError};
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of times that a restore that was cut off is cut off again.
const DEPTH: usize = 3;

/// States that a power cut may leave, in all tests of this file.
static STATES: AtomicUsize = AtomicUsize::new(0);

/// Restores as `bowctl restore` does: checks first. Returns whether there was a log.
fn restore(disk: &mut Disk, what: &str) -> bool {
    match recovery::check(
        disk,
        CheckOptions::default(),
        &mut Progress::hidden(),
        |_| (),
    ) {
        Ok(log) => assert_eq!(foreign::traces(disk, &log).unwrap(), [""; 0], "{what}"),
        Err(RecoveryError::NoLog) => return false,
        Err(error) => panic!("{error}: {what}"),
    }
    restore_checked(disk).unwrap();
    // Who is told that it is done may rely on it.
    assert_eq!(disk.requests.last(), Some(&Request::Flush), "{what}");
    true
}

/// Restores `base`, and from each state that a power cut may leave of that again, `subsets` random
/// ones for each request. In each of these, one more random cut, and so on.
fn sweep(history: &History, base: Vec<u8>, subsets: usize, random: &mut Random, what: &str) {
    let mut disk = Disk::new(base.clone());

    restore(&mut disk, what);
    history.assert_rolled_back(&disk.data, what);

    let mut inner = Random::new(random.bits());
    let count = crash::states(&base, &disk.requests, subsets, random, |data, cut| {
        keeps_or_refuses(history, data.clone(), &format!("{what}; {cut}"));
        again(history, data, DEPTH, &mut inner, &format!("{what}; {cut}"));
    });
    STATES.fetch_add(count, Ordering::Relaxed);
}

/// Checks that the new state can be kept until a restore has written anything, and not after.
fn keeps_or_refuses(history: &History, data: Vec<u8>, what: &str) {
    let mut disk = Disk::new(data);

    match recovery::commit(&mut disk) {
        Ok(()) => history.assert(&disk.data, history.kept(), what),
        Err(RecoveryError::Restoring | RecoveryError::NoLog) => assert!(disk.requests.is_empty()),
        Err(error) => panic!("{error}: {what}"),
    }
}

/// Restores what a power cut has left, whole, and in another run with a random cut.
fn again(history: &History, data: Vec<u8>, depth: usize, random: &mut Random, what: &str) {
    let mut disk = Disk::new(data.clone());

    restore(&mut disk, what);
    history.assert_rolled_back(&disk.data, what);
    if depth > 0 && !disk.requests.is_empty() {
        let cut = random.index(disk.requests.len()) + 1;
        let cut_off = crash::after(
            &data,
            &disk.requests[..cut],
            crash::Arrived::Sectors,
            random,
        );

        STATES.fetch_add(1, Ordering::Relaxed);
        again(
            history,
            cut_off,
            depth - 1,
            random,
            &format!("{what}; again after {cut}"),
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 120, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default()
    })]

    #[test]
    fn a_restore_can_be_cut_off_anywhere(case in case(120, 60), seed in any::<u64>()) {
        if let Some(history) = case.run() {
            let mut random = Random::new(seed);

            sweep(&history, history.disk.clone(), 2, &mut random, "restore");
            println!("{} states", STATES.load(Ordering::Relaxed));
        }
    }

    /// A restore that is killed, as opposed to one cut off with the power, leaves its last writes
    /// in a cache. One that begins after it must not rely on them.
    #[test]
    fn a_killed_restore_relies_on_nothing(case in case(80, 40), seed in any::<u64>()) {
        let Some(history) = case.run() else { return Ok(()) };
        let mut random = Random::new(seed);
        let mut whole = Disk::new(history.disk.clone());
        restore(&mut whole, "whole");

        for _ in 0..20 {
            let mut killed = Disk::new(history.disk.clone());
            killed.left = Some(random.index(whole.requests.len()));
            let _ = restore_checked(&mut killed);

            // The same disk, with the cache as it is, goes on.
            killed.left = None;
            restore(&mut killed, "after a kill");
            history.assert_rolled_back(&killed.data, "after a kill");
            let base = history.disk.clone();
            for _ in 0..5 {
                let cut = random.index(killed.requests.len()) + 1;
                let data = crash::after(&base, &killed.requests[..cut], crash::Arrived::Sectors, &mut random);

                STATES.fetch_add(1, Ordering::Relaxed);
                again(&history, data, 1, &mut random, &format!("killed, then cut after {cut}"));
            }
        }
    }

    #[test]
    fn a_commit_can_be_cut_off_anywhere(case in case(60, 40), seed in any::<u64>()) {
        let Some(history) = case.run() else { return Ok(()) };
        let mut random = Random::new(seed);
        let mut disk = Disk::new(history.disk.clone());
        // Entries beyond the first sector go with the first write of a commit.
        let rolls_back = case.version != Version::V1_0 || log_fits_sector(&history);

        recovery::commit(&mut disk).unwrap();
        prop_assert_eq!(disk.requests.last(), Some(&Request::Flush));
        history.assert(&disk.data, history.kept(), "commit");
        let count = crash::states(&history.disk, &disk.requests, 10, &mut random, |data, cut| {
            let mut kept = Disk::new(data.clone());

            match recovery::commit(&mut kept) {
                Ok(()) => {
                    if rolls_back {
                        let mut old = Disk::new(data);

                        assert!(restore(&mut old, cut));
                        history.assert_rolled_back(&old.data, cut);
                    }
                }
                Err(RecoveryError::NoLog) => {}
                Err(error) => panic!("{error}: {cut}"),
            }
            history.assert(&kept.data, history.kept(), cut);
        });
        STATES.fetch_add(count, Ordering::Relaxed);
    }
}

/// Returns whether the newest log block has no entries beyond its first sector.
fn log_fits_sector(history: &History) -> bool {
    let count = u32::from_le_bytes(history.disk[12..16].try_into().unwrap());

    28 + count as usize * 24 <= 512
}

/// A chain with whole-block entries, moves, and blocks of 4096: all that may be torn.
#[test]
fn long_logs_of_whole_blocks() {
    for version in Version::ALL {
        let free: Vec<_> = (0..600).map(|block| block % 3 > 0).collect();
        let mut history = History::new(version, 4096, &free, 99).unwrap();
        let ops: Vec<_> = (0..350)
            .map(|i| Op::Write {
                block: i * 131 % 600,
                blocks: 1,
            })
            .collect();

        history.run(&ops);
        assert!(history.log_blocks() >= 2 && history.moves > 20);

        let mut disk = Disk::new(history.disk.clone());
        let mut random = Random::new(3);
        restore(&mut disk, "whole");
        let flushes = disk
            .requests
            .iter()
            .filter(|request| **request == Request::Flush)
            .count();
        assert!(flushes > 8, "the restore has marks");
        for _ in 0..300 {
            let cut = random.index(disk.requests.len()) + 1;
            let data = crash::after(
                &history.disk,
                &disk.requests[..cut],
                crash::Arrived::Sectors,
                &mut random,
            );

            STATES.fetch_add(1, Ordering::Relaxed);
            again(&history, data, 1, &mut random, &format!("cut after {cut}"));
        }
    }
    println!("{} states", STATES.load(Ordering::Relaxed));
}

/// The relocated first block in a place that was in use at the checkpoint, was backed up, and was then discarded:
/// the place is zeroed while the log can still give its contents back, and not after that.
#[test]
fn a_first_block_in_a_place_that_was_in_use() {
    let free: Vec<_> = (0..40).map(|block| block > 4).collect();
    let mut found = 0;

    for seed in 0..64 {
        let mut history = History::new(Version::V1_2, 1024, &free, seed).unwrap();
        let place = (history.sector0() / 2) as usize;
        let write = |block| Op::Write { block, blocks: 1 };

        history.run(&[
            write(0),
            write(1),
            Op::Discard { block: 1 },
            write(place),
            write(0),
        ]);
        if history.sector0() == 2 && history.log_blocks() == 1 {
            sweep(
                &history,
                history.disk.clone(),
                4,
                &mut Random::new(seed),
                &format!("seed {seed}"),
            );
            found += 1;
        }
    }
    assert!(found > 4, "{found}");
}

/// The cover after the log stays until the last log block is replaced: a boot loader finds the file system by it.
/// If it is to be hidden meanwhile, it is zero from the first mark on.
#[test]
fn what_stands_after_the_log_stays_or_is_hidden() {
    const LEN: usize = 4096;
    let free: Vec<_> = (0..600).map(|block| block % 3 > 0).collect();

    for version in [Version::V1_1, Version::V1_2] {
        let mut history = History::new(version, LEN, &free, 5).unwrap();
        let ops: Vec<_> = (0..100)
            .map(|i| Op::Write {
                block: i * 131 % 600,
                blocks: 1,
            })
            .collect();
        history.run(&ops);
        assert!(history.log_blocks() >= 2);
        let cover = [0xc5; LEN - SECTOR];
        let mut base = history.disk.clone();
        base[SECTOR..LEN].copy_from_slice(&cover);

        for hides in [false, true] {
            let mut disk = Disk::new(base.clone());
            let mut progress = Progress::hidden();
            let log =
                recovery::check(&disk, CheckOptions::default(), &mut progress, |_| ()).unwrap();
            recovery::restore_hiding(&mut disk, &log, hides, &mut progress).unwrap();
            history.assert_rolled_back(&disk.data, "restored");

            let writes: Vec<_> = disk
                .requests
                .iter()
                .filter_map(|request| match request {
                    Request::Write { sector: 0, data } => Some(data),
                    _ => None,
                })
                .collect();
            // The last two put the old contents back, after the log and then all.
            let (marks, last) = writes.split_at(writes.len() - 2);
            assert!(marks.len() as u64 > history.log_blocks());
            for data in marks {
                let wanted = if hides { [0; LEN - SECTOR] } else { cover };

                assert_eq!(data.len(), LEN);
                assert!(data[SECTOR..] == wanted, "{version:?}");
            }
            assert!(last[0][SECTOR..] == last[1][SECTOR..]);
            assert!(last[0][..4] == *b"WOB\0" && last[1][..4] != *b"WOB\0");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 30, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default()
    })]

    /// A restore that hides the file system can be cut off as well.
    #[test]
    fn a_restore_that_hides_can_be_cut_off_anywhere(case in case(80, 40), seed in any::<u64>()) {
        let Some(history) = case.run() else { return Ok(()) };
        let mut random = Random::new(seed);
        let mut disk = Disk::new(history.disk.clone());
        let mut progress = Progress::hidden();
        let log = recovery::check(&disk, CheckOptions::default(), &mut progress, |_| ()).unwrap();

        recovery::restore_hiding(&mut disk, &log, true, &mut progress).unwrap();
        history.assert_rolled_back(&disk.data, "restored");
        let count = crash::states(&history.disk, &disk.requests, 2, &mut random, |data, cut| {
            again(&history, data, 1, &mut Random::new(seed), cut);
        });
        STATES.fetch_add(count, Ordering::Relaxed);
    }
}
