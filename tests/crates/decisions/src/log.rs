// SPDX-License-Identifier: GPL-2.0

//! The log's layout, against bytes laid out by hand and against damage.

use crate::decisions::log::*;
use crate::decisions::log_block::{LogBlock, LogBlockFull};
use proptest::prelude::*;

fn crc32(seed: u32, data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(!seed);

    hasher.update(data);
    !hasher.finalize()
}

/// Returns the raw CRC-32, bit by bit.
fn slow_crc32(seed: u32, data: &[u8]) -> u32 {
    data.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>()).prop_map(
        |(source, dest, size, checksum)| Entry {
            source,
            dest,
            size,
            checksum,
        },
    )
}

prop_compose! {
    fn log_block()(
        block_size in prop_oneof![Just(512), Just(1024), Just(2048), Just(4096)],
        uuid in any::<[u8; 16]>(),
        time in any::<u64>(),
        sector0 in any::<u64>(),
        free_map in proptest::option::of((1..u64::MAX, any::<u32>(), any::<u32>())),
        entries in proptest::collection::vec(entry(), 0..=ENTRIES_MAX),
        follows in any::<bool>(),
    ) -> LogBlock {
        let mut log = LogBlock::new(block_size, Identity { uuid, time }, sector0);

        log.set_free_map(free_map.map(|(sector, blocks, checksum)| FreeMap { sector, blocks, checksum }));
        if follows {
            log.succeed(99, 0x1234_5678);
        }
        for entry in entries {
            // The last finds no room if there is one already.
            let _ = log.push(entry);
        }
        log
    }
}

fn encode(log: &LogBlock) -> Sector {
    let mut sector = [0xa5; SECTOR_SIZE];

    log.encode(&mut sector, crc32);
    sector
}

/// Encodes a log block, field by field as the description of the format has them.
fn by_hand(log: &LogBlock) -> Vec<u8> {
    let map = log.free_map();
    let mut bytes = Vec::new();

    bytes.extend([0x42, 0x4f, 0x57, 0x00]);
    bytes.extend([0x02, 0x01]);
    bytes.extend([80, 0]);
    bytes.extend(log.block_size().to_le_bytes());
    bytes.extend((log.entries().len() as u32).to_le_bytes());
    bytes.extend(log.sequence().to_le_bytes());
    bytes.extend(log.sector0().to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(log.identity().uuid);
    bytes.extend(log.identity().time.to_le_bytes());
    bytes.extend(map.map_or(0, |map| map.sector).to_le_bytes());
    bytes.extend(map.map_or(0, |map| map.blocks).to_le_bytes());
    bytes.extend(map.map_or(0, |map| map.checksum).to_le_bytes());
    bytes.extend([log.boot().action, log.boot().tries_left, log.boot().tries]);
    bytes.extend([0; 5]);
    for entry in log.entries() {
        bytes.extend(entry.source.to_le_bytes());
        bytes.extend(entry.dest.to_le_bytes());
        bytes.extend(entry.size.to_le_bytes());
        bytes.extend(entry.checksum.to_le_bytes());
    }

    let checksum = slow_crc32(!0, &bytes);
    bytes[28..32].copy_from_slice(&checksum.to_le_bytes());
    bytes.resize(SECTOR_SIZE, 0);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_layout_is_the_one_described(log in log_block()) {
        prop_assert_eq!(encode(&log).to_vec(), by_hand(&log));
    }

    #[test]
    fn what_is_written_is_read(log in log_block()) {
        let sector = encode(&log);
        let header = Header::parse(&sector, crc32).unwrap();

        prop_assert!(!header.restoring);
        prop_assert_eq!(header.version, VERSION_1_2);
        prop_assert_eq!(header.block_size, log.block_size());
        prop_assert_eq!(header.count, log.count());
        prop_assert_eq!(header.sequence, log.sequence());
        prop_assert_eq!(header.sector0, log.sector0());
        prop_assert_eq!(header.identity, Some(log.identity()));
        prop_assert_eq!(header.free_map, log.free_map());
        prop_assert!(header.entries(&sector).eq(log.entries().iter().copied()));
        prop_assert!(header.entries(&sector).rev().eq(log.entries().iter().rev().copied()));
    }

    /// Whatever byte that counts is damaged, it is found.
    #[test]
    fn damage_is_found(log in log_block(), at in 0..SECTOR_SIZE, flip in 1..=255u8) {
        let mut sector = encode(&log);
        let end = HEADER_SIZE + log.entries().len() * ENTRY_SIZE;

        sector[at] ^= flip;
        let parsed = Header::parse(&sector, crc32);
        // The magic of a restore is a change of four bits in each of two bytes.
        if at < end {
            prop_assert!(parsed.is_err(), "{parsed:?}");
        } else {
            prop_assert!(parsed.is_ok());
        }
    }

    #[test]
    fn a_mark_cuts_the_count_and_no_more(log in log_block(), count in 0..20u32) {
        let mut sector = encode(&log);
        let before = sector;
        let header = Header::parse(&sector, crc32).unwrap();
        let marked = header.mark(&mut sector, count, crc32);
        let parsed = Header::parse(&sector, crc32).unwrap();

        prop_assert_eq!(marked, parsed);
        prop_assert_eq!(parsed, Header { restoring: true, count: count.min(header.count), ..header });
        prop_assert!(parsed.entries(&sector).eq(header.entries(&before).take(count as usize)));
        prop_assert_eq!(&sector[HEADER_SIZE..], &before[HEADER_SIZE..]);
    }

    /// The boot fields can be changed in a log block that is on a device, and nothing else changes.
    #[test]
    fn boot_fields_are_set(log in log_block(), action in 0..3u8, tries_left in any::<u8>(), tries in any::<u8>()) {
        let mut sector = encode(&log);
        let header = Header::parse(&sector, crc32).unwrap();
        let boot = Boot { action, tries_left, tries };
        let mut by_log = log;

        prop_assert!(header.set_boot(&mut sector, boot, crc32));
        by_log.set_boot(boot);
        prop_assert_eq!(sector, encode(&by_log));

        let old = Header { version: VERSION_1_1, ..header };
        let before = sector;
        prop_assert!(!old.set_boot(&mut sector, Boot::default(), crc32));
        prop_assert_eq!(sector, before);
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600), magic in any::<bool>()) {
        let mut bytes = bytes;

        if magic && bytes.len() > 12 {
            bytes[..12].copy_from_slice(&[0x42, 0x4f, 0x57, 0, 0, 1, 28, 0, 0, 16, 0, 0]);
        }
        let _ = probe(&bytes);
        if let Ok(header) = Header::parse(&bytes, crc32) {
            prop_assert_eq!(header.entries(&bytes).count(), header.count as usize);
            header.mark(&mut bytes, 1, crc32);
        }
    }
}

#[test]
fn a_log_block_takes_18_entries() {
    let identity = Identity {
        uuid: [7; 16],
        time: 1,
    };
    let mut log = LogBlock::new(4096, identity, 8);

    for index in 0..ENTRIES_MAX {
        assert_eq!(log.room(), 18 - index);
        assert_eq!(log.push(Entry::default()), Ok(()));
    }
    let full = log;
    assert_eq!(log.push(Entry::default()), Err(LogBlockFull));
    assert_eq!(log, full);
}

#[test]
fn a_successor_names_the_one_before() {
    let identity = Identity {
        uuid: [7; 16],
        time: 1,
    };
    let mut log = LogBlock::new(4096, identity, 8);
    let map = FreeMap {
        sector: 16,
        blocks: 2,
        checksum: 3,
    };
    log.set_free_map(Some(map));
    let mut next = log;

    next.succeed(24, 5);

    assert_eq!((next.sequence(), next.sector0()), (1, 8));
    assert_eq!((next.identity(), next.free_map()), (identity, Some(map)));
    assert_eq!(
        next.entries(),
        [Entry {
            source: 0,
            dest: 24,
            size: 4096,
            checksum: 5
        }]
    );
}

/// Returns a header of version 1.0 with a field changed.
fn v1_0(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut block = vec![0; 4096];

    block[..4].copy_from_slice(b"BOW\0");
    block[4..8].copy_from_slice(&[0, 1, 28, 0]);
    block[8..12].copy_from_slice(&4096u32.to_le_bytes());
    block[12..16].copy_from_slice(&169u32.to_le_bytes());
    block[20..28].copy_from_slice(&8u64.to_le_bytes());
    change(&mut block);
    block
}

fn error(change: impl FnOnce(&mut [u8])) -> LogError {
    Header::parse(&v1_0(change), crc32).unwrap_err()
}

#[test]
fn version_1_0_fills_the_whole_block() {
    let header = Header::parse(&v1_0(|_| ()), crc32).unwrap();

    assert_eq!((header.count, header.end()), (169, 28 + 169 * 24));
    assert_eq!((header.identity, header.free_map), (None, None));
    // Its first sector does not hold all of it.
    assert_eq!(
        Header::parse(&v1_0(|_| ())[..512], crc32),
        Err(LogError::Short {
            len: 512,
            need: 28 + 169 * 24
        })
    );
}

#[test]
fn errors_name_the_field() {
    let count = |count: u32| move |b: &mut [u8]| b[12..16].copy_from_slice(&count.to_le_bytes());

    assert_eq!(error(|b| b[0] = 0x43), LogError::Magic(0x0057_4f43));
    assert_eq!(error(|b| b[5] = 2), LogError::Version(0x0200));
    assert_eq!(error(|b| b[5] = 0), LogError::Version(0x0000));
    assert_eq!(error(|b| b[6] = 27), LogError::HeaderSize(27));
    assert_eq!(error(|b| b[4] = 1), LogError::HeaderSize(28));
    assert_eq!(error(|b| b[9] = 3), LogError::BlockSize(768));
    assert_eq!(error(|b| b[9] = 1), LogError::BlockSize(256));
    assert_eq!(error(|b| b[9] = 32), LogError::BlockSize(8192));
    assert_eq!(error(|b| b[9] = 0), LogError::BlockSize(0));
    assert_eq!(
        error(count(170)),
        LogError::Count {
            count: 170,
            max: 169
        }
    );
    assert_eq!(
        error(count(u32::MAX)),
        LogError::Count {
            count: u32::MAX,
            max: 169
        }
    );
    for header_size in [79, 81] {
        let change = |b: &mut [u8]| {
            b[4] = 1;
            b[6] = header_size;
        };

        assert_eq!(error(change), LogError::HeaderSize(header_size.into()));
    }
}

/// A later minor version may have a longer header, as long as the entries stay in the first
/// sector.
#[test]
fn a_longer_header_is_skipped() {
    let longer = v1_0(|b| {
        b[6] = 64;
        b[12..16].copy_from_slice(&100u32.to_le_bytes());
    });
    assert_eq!(
        Header::parse(&longer, crc32).map(|h| h.end()),
        Ok(64 + 100 * 24)
    );

    let later = |header_size: u16, count: u32| {
        let mut block = v1_0(|b| {
            b[4] = 7;
            b[6..8].copy_from_slice(&header_size.to_le_bytes());
            b[12..16].copy_from_slice(&count.to_le_bytes());
        });
        let end = usize::from(header_size) + count as usize * 24;

        if end <= 4096 {
            let sum = slow_crc32(!0, &block[..end]);
            block[28..32].copy_from_slice(&sum.to_le_bytes());
        }
        Header::parse(&block, crc32)
    };

    assert_eq!(later(80, 18).map(|h| h.count), Ok(18));
    assert_eq!(later(128, 16).map(|h| h.end()), Ok(512));
    assert_eq!(later(512, 0).map(|h| h.count), Ok(0));
    assert_eq!(later(128, 17), Err(LogError::Count { count: 17, max: 16 }));
    assert_eq!(later(513, 0), Err(LogError::HeaderSize(513)));
}

#[test]
fn a_probe_is_generous() {
    let found = Probe {
        restoring: false,
        sequence: 0,
    };

    assert_eq!(probe(&v1_0(|_| ())), Some(found));
    // Damaged, but a log; of a later version, but a log.
    assert_eq!(probe(&v1_0(|b| b[12] = 255)), Some(found));
    assert_eq!(probe(&v1_0(|b| b[5] = 2)), Some(found));
    let restoring = probe(&v1_0(|b| b[..3].copy_from_slice(b"WOB")));
    assert!(restoring.is_some_and(|probe| probe.restoring));
    assert_eq!(probe(&v1_0(|b| b[0] = 0)), None);
    assert_eq!(probe(&v1_0(|b| b[9] = 3)), None);
    assert_eq!(probe(b"BOW"), None);
}

#[test]
fn seeds_count_blocks() {
    assert_eq!(entry_seed(8, 4096), 1);
    assert_eq!(entry_seed(8, 512), 8);
    assert_eq!(entry_seed(8, 1024), 4);
    // Cut to 32 bits.
    assert_eq!(entry_seed((1 << 32) | 5, 512), 5);
    assert_eq!(entry_seed(u64::MAX, 4096), u32::MAX);
}
