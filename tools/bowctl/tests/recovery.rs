// SPDX-License-Identifier: GPL-2.0

//! Restoring and committing random histories, undisturbed.

use bow_model::disk::Disk;
use bow_model::history::History;
use bow_model::log::Version;
use bow_model::restore::restore;
use bow_model::strategy::{case, Case};
use bowctl::progress::Progress;
use bowctl::recovery::{self, CheckOptions, RecoveryError};
use proptest::prelude::*;

fn check(disk: &Disk) -> Result<bowctl::recovery::Summary, RecoveryError> {
    recovery::check(
        disk,
        CheckOptions::default(),
        &mut Progress::hidden(),
        |_| (),
    )
    .map(|checked| checked.summary)
}

fn rolls_back(history: &History) {
    let mut disk = Disk::new(history.disk.clone());
    let summary = check(&disk).unwrap();

    assert_eq!(summary.blocks, history.log_blocks());
    assert_eq!(summary.entries, history.total_entries);
    assert!(disk.requests.is_empty(), "a check writes nothing");
    restore(&mut disk).unwrap();
    history.assert_rolled_back(&disk.data, "after the restore");
    assert!(matches!(check(&disk), Err(RecoveryError::NoLog)));
}

fn commits(history: &History) {
    let mut disk = Disk::new(history.disk.clone());

    recovery::commit(&mut disk).unwrap();
    history.assert(&disk.data, history.kept(), "after the commit");
    assert!(matches!(check(&disk), Err(RecoveryError::NoLog)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_histories(case in case(250, 150)) {
        if let Some(history) = case.run() {
            rolls_back(&history);
            commits(&history);
        }
    }
}

/// The random histories are worth something: they have chains and moves.
#[test]
fn histories_have_chains_and_moves() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let cases: Vec<Case> = (0..200)
        .map(|_| case(250, 150).new_tree(&mut runner).unwrap().current())
        .collect();
    let histories: Vec<History> = cases.iter().filter_map(Case::run).collect();

    let chains = histories.iter().filter(|h| h.log_blocks() > 2).count();
    let moves = histories.iter().filter(|h| h.moves > 10).count();

    let maps = histories.iter().filter(|h| h.map.1 > 2).count();
    let grants = histories.iter().filter(|h| h.grants > 5).count();

    println!(
        "of {}: {chains} with chains, {moves} with moves, {maps} with maps of several blocks, {grants} with grants",
        histories.len()
    );
    assert!(chains > 25 && moves > 50 && maps > 25 && grants > 50);
}

/// A device of some size with a log of several blocks.
#[test]
fn a_long_chain() {
    for version in Version::ALL {
        let free: Vec<_> = (0..2000).map(|block| block % 5 > 1).collect();
        let mut history = History::new(version, 1024, &free, 7).unwrap();
        let ops: Vec<_> = (0..1500)
            .map(|i| bow_model::history::Op::Write {
                block: i * 977 % 2000,
                blocks: 1 + i % 3,
            })
            .collect();

        history.run(&ops);
        assert!(history.log_blocks() > 10);
        rolls_back(&history);
        commits(&history);
    }
}

/// Each allocation that fails ends the check or the restore, and the next restore is as good.
#[test]
fn allocations_that_fail() {
    let free: Vec<_> = (0..150).map(|block| block % 5 > 1).collect();
    let mut history = History::new(Version::V1_2, 512, &free, 8).unwrap();
    let ops: Vec<_> = (0..70)
        .map(|i| bow_model::history::Op::Write {
            block: i * 31 % 150,
            blocks: 2,
        })
        .collect();
    let mut sites = 0;

    history.run(&ops);
    for nth in 0.. {
        let disk = Disk::new(history.disk.clone());
        let injection = kernel::inject::fail_nth(nth);
        let result = check(&disk);

        if !injection.hit() {
            result.unwrap();
            break;
        }
        assert!(matches!(result, Err(RecoveryError::NoMemory)), "{result:?}");
        sites += 1;
    }
    for nth in 0.. {
        let mut disk = Disk::new(history.disk.clone());
        let options = CheckOptions::default();
        let log = recovery::check(&disk, options, &mut Progress::hidden(), |_| ()).unwrap();
        let injection = kernel::inject::fail_nth(nth);
        let result = recovery::restore(&mut disk, &log, &mut Progress::hidden());
        let hit = injection.hit();

        drop(injection);
        if hit {
            assert!(matches!(result, Err(RecoveryError::NoMemory)), "{result:?}");
            restore(&mut disk).unwrap();
            sites += 1;
        }
        history.assert_rolled_back(&disk.data, "after the restore");
        if !hit {
            break;
        }
    }
    println!("{sites} allocations failed");
    assert!(sites > 50);
}
