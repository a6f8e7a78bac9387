// SPDX-License-Identifier: GPL-2.0

//! Logs that someone made up.
//!
//! Each must be refused for the right reason, with nothing written, and with no more read than the
//! log itself and a bounded part of the device. What is accepted must restore, and restore to the
//! same end when cut off.

use bow_decisions::log::{Entry, LogError};
use bow_model::crash::states;
use bow_model::disk::{Disk, SECTOR};
use bow_model::hostile::{check, examine, scattered, Log, Sparse};
use bow_model::log::{crc, Version};
use bow_model::restore::restore;
use bow_random::Random;
use bowctl::progress::Progress;
use bowctl::recovery::{self, CheckError, CheckOptions, EntryError, Limits, RecoveryError};
use proptest::prelude::*;

/// Bytes of a block in these logs.
const BLOCK: usize = 1024;
/// Sectors of a block.
const SECTORS: u64 = 2;
/// Blocks of the device.
const BLOCKS: u64 = 64;

/// Returns the smallest good log: the first block is saved in block 9.
fn good() -> Log {
    Log {
        version: Version::V1_1,
        restoring: false,
        sequence: 0,
        sector0: 8 * SECTORS,
        uuid: 1,
        block_size: BLOCK as u32,
        entries: vec![entry(0, 9, 1)],
    }
}

fn with(entries: &[Entry]) -> Log {
    let mut log = good();

    log.entries.extend(entries);
    log
}

/// Writes a log block to a block of the disk.
fn put(log: &Log, disk: &mut Disk, block: u64) {
    let bytes = log.bytes();
    let start = block as usize * BLOCK;

    disk.data[start..start + bytes.len()].copy_from_slice(&bytes);
}

/// Returns an entry in blocks, without a checksum.
fn entry(source: u64, dest: u64, blocks: u64) -> Entry {
    Entry {
        source: source * SECTORS,
        dest: dest * SECTORS,
        size: (blocks * BLOCK as u64) as u32,
        checksum: 0,
    }
}

fn disk(log: &Log) -> Disk {
    let mut disk = Disk::new(Random::new(5).bytes(BLOCKS as usize * BLOCK));

    put(log, &mut disk, 0);
    disk
}

fn invalid(disk: &Disk) -> CheckError {
    match check(disk) {
        Err(RecoveryError::Invalid(invalid)) => invalid,
        other => panic!("{other:?}"),
    }
}

/// Returns the error of the entry that is refused.
fn fault(entries: &[Entry]) -> EntryError {
    match invalid(&disk(&with(entries))) {
        CheckError::Entry { error, .. } => error,
        other => panic!("{other}"),
    }
}

#[test]
fn the_good_one_is_good() {
    check(&disk(&good())).unwrap();
    check(&disk(&with(&[entry(20, 30, 3)]))).unwrap();
}

#[test]
fn entries_beyond_the_device() {
    let size = |size| Entry {
        size,
        ..entry(20, 30, 0)
    };

    assert_eq!(
        fault(&[entry(BLOCKS, 30, 1)]),
        EntryError::SourceBeyondDevice
    );
    assert_eq!(fault(&[entry(20, BLOCKS, 1)]), EntryError::DestBeyondDevice);
    assert_eq!(
        fault(&[entry(BLOCKS - 1, 30, 2)]),
        EntryError::SourceBeyondDevice
    );
    assert_eq!(
        fault(&[size(u32::MAX - 1023)]),
        EntryError::SourceBeyondDevice
    );
    for far in [u64::MAX - 1, u64::MAX / 2 + 1, 1 << 55] {
        let source = Entry {
            source: far,
            ..entry(0, 30, 1)
        };
        let dest = Entry {
            dest: far,
            ..entry(20, 0, 1)
        };

        assert_eq!(fault(&[source]), EntryError::SourceBeyondDevice);
        assert_eq!(fault(&[dest]), EntryError::DestBeyondDevice);
    }
}

/// A device that ends in the middle of one more block.
#[test]
fn a_last_block_that_is_cut_off() {
    let odd = |entries: &[Entry]| {
        let mut disk = disk(&with(entries));
        disk.data.extend(Random::new(6).bytes(SECTOR));
        disk
    };
    let fault = |entry| match invalid(&odd(&[entry])) {
        CheckError::Entry { error, .. } => error,
        other => panic!("{other}"),
    };

    // By itself, and as the end of a longer entry.
    for entry in [entry(BLOCKS, 30, 1), entry(BLOCKS - 2, 30, 3)] {
        let mut disk = odd(&[entry]);
        let old = disk.data.clone();
        let (source, dest) = (entry.source as usize * SECTOR, 30 * BLOCK);
        let length = old.len() - source;

        check(&disk).unwrap();
        restore(&mut disk).unwrap();
        assert_eq!(disk.data.len(), old.len());
        assert_eq!(disk.data[source..], old[dest..dest + length]);
        assert!(examine(&old, 1).restored);
    }
    // Nothing is beyond it, and no backup is in it.
    for beyond in [
        entry(BLOCKS, 30, 2),
        entry(BLOCKS - 2, 30, 4),
        entry(BLOCKS + 1, 30, 1),
    ] {
        assert_eq!(fault(beyond), EntryError::SourceBeyondDevice);
    }
    for beyond in [entry(20, BLOCKS, 1), entry(20, BLOCKS - 2, 3)] {
        assert_eq!(fault(beyond), EntryError::DestBeyondDevice);
    }
    let live = Log {
        sector0: BLOCKS * SECTORS,
        ..good()
    };
    let mut disk = disk(&live);
    disk.data.extend([0; SECTOR]);
    assert!(matches!(invalid(&disk), CheckError::Sector0 { .. }));
}

#[test]
fn entries_that_are_not_whole_blocks() {
    for odd in [
        Entry {
            source: 41,
            ..entry(0, 30, 1)
        },
        Entry {
            dest: 61,
            ..entry(20, 0, 1)
        },
        Entry {
            size: 512,
            ..entry(20, 30, 0)
        },
        Entry {
            size: 1,
            ..entry(20, 30, 0)
        },
        Entry {
            size: u32::MAX,
            ..entry(20, 30, 0)
        },
    ] {
        assert_eq!(fault(&[odd]), EntryError::Unaligned);
    }
}

#[test]
fn entries_that_touch_the_log_or_themselves() {
    assert_eq!(fault(&[entry(0, 30, 1)]), EntryError::SourceIsLog);
    assert_eq!(fault(&[entry(20, 0, 1)]), EntryError::DestIsLog);
    assert_eq!(fault(&[entry(20, 20, 1)]), EntryError::Overlap);
    assert_eq!(fault(&[entry(20, 21, 2)]), EntryError::Overlap);
    assert_eq!(fault(&[entry(21, 20, 2)]), EntryError::Overlap);
    // Neighbours do not overlap; size 0 says nothing at all.
    check(&disk(&with(&[entry(20, 22, 2), entry(30, 28, 2)]))).unwrap();
    let nothing = Entry {
        source: u64::MAX,
        dest: 0,
        size: 0,
        checksum: 7,
    };
    check(&disk(&with(&[nothing]))).unwrap();
}

#[test]
fn a_log_that_does_not_say_what_stood_in_its_place() {
    for entries in [vec![entry(1, 9, 1)], vec![entry(0, 9, 0)]] {
        let log = Log { entries, ..good() };

        let found = invalid(&disk(&log));
        assert!(
            matches!(
                found,
                CheckError::Entry {
                    index: 0,
                    error: EntryError::NotFirstBlock,
                    ..
                }
            ),
            "{found}"
        );
    }
    let empty = Log {
        entries: Vec::new(),
        ..good()
    };
    assert_eq!(invalid(&disk(&empty)), CheckError::Empty { sector: 0 });
}

#[test]
fn a_wrong_checksum_names_the_entry() {
    let entry = Entry {
        checksum: 0xdead_beef,
        ..entry(20, 30, 2)
    };
    let disk = disk(&with(&[entry]));
    let computed = crc(20, &disk.data[30 * BLOCK..32 * BLOCK]);

    assert_eq!(
        invalid(&disk),
        CheckError::Entry {
            sequence: 0,
            index: 1,
            entry,
            error: EntryError::Checksum { computed }
        }
    );
}

#[test]
fn first_blocks_that_are_elsewhere() {
    for sector0 in [0, 1, BLOCKS * SECTORS, u64::MAX, u64::MAX - 1] {
        let log = Log { sector0, ..good() };
        let mut disk = disk(&log);

        assert_eq!(invalid(&disk), CheckError::Sector0 { sector: 0, sector0 });
        assert!(matches!(
            recovery::commit(&mut disk),
            Err(RecoveryError::Invalid(CheckError::Sector0 { .. }))
        ));
        assert!(disk.requests.is_empty());
    }
}

/// The C driver writes the entry that moves the relocated first block, and only with the next write of the log where
/// that is now. In between, the file system may write to the old place.
#[test]
fn a_first_block_that_is_being_moved() {
    let moving = |version, moved| Log {
        version,
        ..with(&[entry(20, 30, 1), moved])
    };
    let checked = Entry {
        checksum: 1,
        ..entry(8, 12, 1)
    };

    for (log, wanted) in [
        (moving(Version::V1_0, entry(8, 12, 1)), 12),
        (moving(Version::V1_1, entry(8, 12, 1)), 8),
        (moving(Version::V1_0, entry(7, 12, 1)), 8),
        (moving(Version::V1_0, checked), 8),
    ] {
        let mut disk = disk(&log);
        let block = |disk: &Disk, block: usize| disk.data[block * BLOCK..][..BLOCK].to_vec();
        let first = block(&disk, wanted);

        recovery::commit(&mut disk).unwrap();
        assert_eq!(block(&disk, 0), first, "{log:?}");
    }
}

/// The entry that says where the relocated first block is may be one that the first write of a commit overwrites.
#[test]
fn a_first_block_that_is_being_moved_and_power_cuts() {
    let mut entries: Vec<_> = (0..24).map(|index| entry(16 + index, 12, 1)).collect();
    entries.push(entry(8, 13, 1));
    let log = Log {
        version: Version::V1_0,
        ..with(&entries)
    };
    assert!(log.bytes().len() > SECTOR);
    let disk = disk(&log);
    let mut done = Disk::new(disk.data.clone());
    recovery::commit(&mut done).unwrap();
    assert_eq!(done.data[..BLOCK], disk.data[13 * BLOCK..][..BLOCK]);

    states(
        &disk.data,
        &done.requests,
        64,
        &mut Random::new(1),
        |data, when| {
            let mut again = Disk::new(data);

            match recovery::commit(&mut again) {
                Ok(()) | Err(RecoveryError::NoLog) => {}
                Err(error) => panic!("{when}: {error}"),
            }
            assert!(again.data == done.data, "{when}");
        },
    );
}

/// Makes a chain: the newest in block 0 says that the one before was saved in block 12.
fn chain(newest: &Log, older: &Log) -> Disk {
    let mut disk = disk(newest);

    put(older, &mut disk, 12);
    disk
}

fn newest(sequence: u32) -> Log {
    Log {
        sequence,
        entries: vec![entry(0, 12, 1)],
        ..good()
    }
}

#[test]
fn chains() {
    let sector = 12 * SECTORS;

    check(&chain(&newest(1), &good())).unwrap();
    // A sequence that does not count down, so that a chain cannot be circular.
    for found in [1, 2, 5, u32::MAX] {
        let older = Log {
            sequence: found,
            ..good()
        };

        assert_eq!(
            invalid(&chain(&newest(1), &older)),
            CheckError::Sequence {
                sector,
                found,
                expected: 0
            }
        );
    }
    let stale = Log { uuid: 2, ..good() };
    assert_eq!(
        invalid(&chain(&newest(1), &stale)),
        CheckError::Identity { sector }
    );
    let other = Log {
        block_size: 512,
        ..good()
    };
    assert_eq!(
        invalid(&chain(&newest(1), &other)),
        CheckError::BlockSize {
            sector,
            found: 512,
            expected: 1024
        }
    );
    assert!(matches!(
        invalid(&disk(&newest(1))),
        CheckError::Block {
            sector: 24,
            error: LogError::Magic(_)
        }
    ));
    // Its own block: the sequence is wrong. More log blocks than blocks: not even looked for.
    assert_eq!(
        invalid(&disk(&newest(BLOCKS as u32))),
        CheckError::TooLong {
            sequence: BLOCKS as u32,
            blocks: BLOCKS
        }
    );
    assert!(matches!(
        invalid(&disk(&newest(u32::MAX))),
        CheckError::TooLong { .. }
    ));
    // A log block's backup is one block.
    let wide = Log {
        entries: vec![entry(0, 12, 2)],
        ..newest(1)
    };
    assert!(matches!(
        invalid(&chain(&wide, &good())),
        CheckError::Entry {
            error: EntryError::NotFirstBlock,
            ..
        }
    ));
}

/// A circle through moves: what the restore would find where the chain goes on is the newest again.
#[test]
fn a_chain_into_a_place_that_is_overwritten() {
    let log = Log {
        entries: vec![entry(0, 12, 1), entry(12, 30, 1)],
        ..newest(1)
    };

    assert!(matches!(
        invalid(&chain(&log, &good())),
        CheckError::Block { sector: 60, .. }
    ));
}

#[test]
fn truncated_devices() {
    let whole = disk(&with(&[entry(20, 60, 1)]));

    for sectors in 0..121 {
        let mut cut = whole.clone();

        cut.data.truncate(sectors * SECTOR);
        assert!(check(&cut).is_err(), "{sectors} sectors");
        let kept = recovery::commit(&mut cut);
        assert_eq!(kept.is_ok(), sectors >= 18, "{sectors} sectors: {kept:?}");
    }
}

/// A log that would keep its reader busy: the most that is read is a fixed multiple of the device.
#[test]
fn reading_is_bounded() {
    let device = BLOCKS * BLOCK as u64;
    let half = BLOCKS / 2;
    let mut log = Log {
        sequence: 63,
        ..good()
    };
    // Every log block of the chain has its data read in full.
    log.entries = vec![entry(0, 1, 1)];
    for _ in 0..17 {
        log.entries.push(Entry {
            checksum: 1,
            ..entry(half, half - 1, 1)
        });
    }
    let mut disk = disk(&log);
    for block in 1..BLOCKS {
        log.sequence = 63 - block as u32;
        log.entries[0] = entry(0, block + 1, 1);
        put(&log, &mut disk, block);
    }
    assert!(check(&disk).is_err());

    // One log block whose entries are as large as can be.
    let mut log = good();
    for _ in 0..17 {
        log.entries.push(entry(10, 33, 23));
    }
    for entry in &mut log.entries[1..] {
        let data = &disk.data[33 * BLOCK..56 * BLOCK];
        entry.checksum = crc(10, data);
    }
    put(&log, &mut disk, 0);
    disk.bytes_read.set(0);
    check(&disk).unwrap();
    assert!(disk.bytes_read.get() < recovery::BUDGET_FACTOR * device);

    // The same with less budget.
    let options = CheckOptions {
        limits: Some(Limits {
            bytes: device,
            ..Limits::NONE
        }),
        ..CheckOptions::default()
    };
    disk.bytes_read.set(0);
    let result = recovery::check(&disk, options, &mut Progress::hidden(), |_| ());
    assert!(matches!(
        result,
        Err(RecoveryError::Invalid(CheckError::Entry {
            error: EntryError::Budget { .. },
            ..
        }))
    ));
    assert!(disk.bytes_read.get() <= device + 4096);
}

/// Following such a log to the end would take a node for each block of a large device.
#[test]
fn memory_is_bounded() {
    let mut first = scattered(4).bytes();
    first.resize(4096, 0);
    let device = Sparse {
        first,
        sectors: 1 << 32,
    };

    for verify in [true, false] {
        let options = CheckOptions {
            verify,
            ..CheckOptions::default()
        };
        let result = recovery::check(&device, options, &mut Progress::hidden(), |_| ()).map(|_| ());

        assert!(
            matches!(
                result,
                Err(RecoveryError::Invalid(CheckError::Entry {
                    error: EntryError::Scattered { .. },
                    ..
                }))
            ),
            "{result:?}"
        );
    }
}

/// Draws entries at random, many of which a target would never write.
fn any_log() -> impl Strategy<Value = Vec<Entry>> {
    proptest::collection::vec(
        (1..BLOCKS, 1..BLOCKS, 0..5u64).prop_map(|(source, dest, blocks)| {
            let blocks = blocks.min(BLOCKS - source.max(dest));
            let apart = source.abs_diff(dest);

            entry(source, dest, blocks.min(apart))
        }),
        0..17,
    )
}

/// The random logs are worth something: most are accepted.
#[test]
fn random_logs_are_good() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let good = (0..200)
        .map(|_| any_log().new_tree(&mut runner).unwrap().current())
        .filter(|entries| examine(&disk(&with(entries)).data, 1).restored)
        .count();

    println!("of 200: {good} are good");
    assert!(good > 100);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// A restore carries out what a check accepts, and comes to the same end when cut off.
    #[test]
    fn what_is_accepted_restores(
        older in any_log(),
        newer in proptest::option::of(any_log()),
        seed in any::<u64>(),
    ) {
        let disk = match newer {
            None => disk(&with(&older)),
            Some(entries) => {
                let mut log = newest(1);

                log.entries.extend(entries);
                chain(&log, &with(&older))
            }
        };
        examine(&disk.data, seed);
    }

    /// Damage to a log of version 1.0, which has no checksum of its own, does no harm.
    #[test]
    fn damaged_logs_of_version_1_0(
        entries in any_log(),
        damage in proptest::collection::vec((0..460usize, any::<u8>()), 1..4),
        seed in any::<u64>(),
    ) {
        let log = with(&entries);
        let mut disk = disk(&log);
        let mut bytes = log.bytes();

        // To version 1.0: without what its header does not have.
        bytes.drain(28..80);
        bytes[4..8].copy_from_slice(&[0, 1, 28, 0]);
        bytes.resize(BLOCK, 0);
        for (at, value) in damage {
            bytes[at] = value;
        }
        disk.data[..BLOCK].copy_from_slice(&bytes);
        examine(&disk.data, seed);
    }
}
