// SPDX-License-Identifier: GPL-2.0

//! Any bytes as a log block: what is read of it is what the format's description says, and written
//! again it gives the same bytes.

#![no_main]

use bow_decisions::log::{
    probe, Boot, Entry, Header, LogError, Sector, ENTRY_SIZE, HEADER_SIZE, SECTOR_SIZE,
    VERSION_1_0, VERSION_1_1, VERSION_1_2,
};
use bow_decisions::log_block::LogBlock;
use bow_model::hostile::Log;
use bow_model::log::Version;
use bowctl::crc::crc32;
use bowctl::report::{Block, LogEntry};
use libfuzzer_sys::fuzz_target;

/// Offset of a header's own checksum.
const CHECKSUM: usize = 28;

fuzz_target!(|data: &[u8]| {
    let mut data = data.to_vec();

    // Nobody guesses a checksum.
    if let Err(LogError::Checksum { recorded, computed }) = Header::parse(&data, crc32) {
        assert_ne!(recorded, computed);
        data[CHECKSUM..CHECKSUM + 4].copy_from_slice(&computed.to_le_bytes());
        Header::parse(&data, crc32).unwrap();
    }
    match Header::parse(&data, crc32) {
        Ok(header) => read(&data, &header),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn read(data: &[u8], header: &Header) {
    let entries: Vec<_> = header.entries(data).collect();
    let end = header.end();

    assert!(probe(data).is_some_and(
        |probe| probe.restoring == header.restoring && probe.sequence == header.sequence
    ));
    assert_eq!(entries.len(), header.count as usize);
    assert_eq!(
        end,
        usize::from(header.header_size) + entries.len() * ENTRY_SIZE
    );
    assert!(end <= data.len() && end <= header.block_size as usize);
    assert_eq!(header.has_checksum(), header.version >= VERSION_1_1);
    assert_eq!(header.identity.is_some(), header.has_checksum());
    assert!(!header.has_checksum() || end <= SECTOR_SIZE);
    // What follows the last entry counts for nothing.
    assert_eq!(Header::parse(&data[..end], crc32), Ok(*header));
    if end > usize::from(header.header_size) {
        assert!(Header::parse(&data[..end - 1], crc32).is_err());
    }

    by_hand(data, header, &entries);
    if header.version == VERSION_1_2 && !header.restoring && header.sequence == 0 {
        again(data, header, &entries);
    }
    mark(data, header, &entries);

    // As `bowctl log` prints it.
    let mut block = Block::new(0, header);
    block.entries = (0..)
        .zip(&entries)
        .map(|(i, e)| LogEntry::new(header, i, *e))
        .collect();
    assert!(!block.checkpoint().is_empty());
}

/// Encodes a log block field by field, as the description has them; an encoder that shares no code.
fn by_hand(data: &[u8], header: &Header, entries: &[Entry]) {
    let version = match header.version {
        VERSION_1_0 => Version::V1_0,
        VERSION_1_1 => Version::V1_1,
        _ => Version::V1_2,
    };
    let mut log = Log {
        version,
        restoring: header.restoring,
        block_size: header.block_size,
        sequence: header.sequence,
        sector0: header.sector0,
        uuid: 0,
        entries: entries.to_vec(),
    }
    .bytes();
    let fixed = version.header_size();

    // The header may be longer or of a later minor version, and the rest of it is compared by field.
    log[4..8].copy_from_slice(&data[4..8]);
    assert_eq!(log[..28], data[..28]);
    assert_eq!(log[fixed..], data[header.header_size.into()..header.end()]);
    if let Some(identity) = header.identity {
        assert_eq!(data[32..48], identity.uuid);
        assert_eq!(data[48..56], identity.time.to_le_bytes());
    }
    if version == Version::V1_2 {
        let map = header.free_map;
        assert_eq!(data[56..64], map.map_or(0, |map| map.sector).to_le_bytes());
        if let Some(map) = map {
            assert_eq!(data[64..68], map.blocks.to_le_bytes());
            assert_eq!(data[68..72], map.checksum.to_le_bytes());
        }
        let boot = header.boot;
        assert_eq!(data[72..75], [boot.action, boot.tries_left, boot.tries]);
    } else {
        assert_eq!(header.free_map, None);
        assert_eq!(header.boot, Boot::default());
    }
}

/// Checks that what the target would write gives the same bytes.
fn again(data: &[u8], header: &Header, entries: &[Entry]) {
    let Some(identity) = header.identity else {
        panic!("version 1.2 has an identity");
    };
    let mut log = LogBlock::new(header.block_size, identity, header.sector0);
    log.set_free_map(header.free_map);
    log.set_boot(header.boot);
    for entry in entries {
        log.push(*entry).unwrap();
    }
    let mut sector: Sector = [0xa5; SECTOR_SIZE];
    log.encode(&mut sector, crc32);

    let parsed = Header::parse(&sector, crc32).unwrap();
    assert_eq!(parsed, *header);
    assert_eq!(
        sector[HEADER_SIZE..header.end()],
        data[HEADER_SIZE..header.end()]
    );
    assert!(sector[header.end()..].iter().all(|byte| *byte == 0));
    // The reserved field, and those of a map that is not there, are all that may differ.
    assert_eq!(sector[..CHECKSUM], data[..CHECKSUM]);
    assert_eq!(sector[32..64], data[32..64]);
}

/// Checks that a mark cuts the count to any number, and changes nothing else.
fn mark(data: &[u8], header: &Header, entries: &[Entry]) {
    for count in [0, 1, header.count / 2, header.count, u32::MAX] {
        let mut marked = data.to_vec();
        let result = header.mark(&mut marked, count, crc32);
        let kept = count.min(header.count);

        assert_eq!(Header::parse(&marked, crc32), Ok(result));
        assert_eq!(
            result,
            Header {
                restoring: true,
                count: kept,
                ..*header
            }
        );
        assert!(result
            .entries(&marked)
            .eq(entries.iter().take(kept as usize).copied()));
        assert_eq!(marked.len(), data.len());
        assert_eq!(marked[4..12], data[4..12]);
        // Version 1.0 has no checksum that would change.
        let sum = if header.has_checksum() { 4 } else { 0 };
        assert_eq!(marked[16..CHECKSUM], data[16..CHECKSUM]);
        assert_eq!(marked[CHECKSUM + sum..], data[CHECKSUM + sum..]);
    }
}
