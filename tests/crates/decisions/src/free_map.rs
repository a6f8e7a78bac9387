// SPDX-License-Identifier: GPL-2.0

//! The free map: written and read again, damaged, and made up.

use core::ops::Range;

use bow_model::log::crc;
use bow_random::Random;
use kernel::prelude::GFP_KERNEL;
use proptest::prelude::*;

use crate::decisions::block_size::BlockSize;
use crate::decisions::free_map::{MapBlock, MapError, MapReader};
use crate::decisions::log::FreeMap;

/// A map, and the blocks that it is in: their first sectors, and their bytes.
struct Map {
    map: FreeMap,
    blocks: Vec<(u64, Vec<u8>)>,
}

/// Writes the map of `extents`, with blocks at random places of a device of `sectors` sectors.
fn write(extents: &[Range<u64>], block: BlockSize, sectors: u64, random: &mut Random) -> Map {
    let mut writer = MapBlock::new(block, GFP_KERNEL).unwrap();
    let mut blocks = Vec::new();
    let mut next = None;
    let mut start = 0;
    let mut left = extents;

    while !left.is_empty() {
        let place = block.sectors_of(1 + random.below(block.number(sectors) - 1));
        let end = start;

        writer.begin(next, end);
        while let Some((extent, rest)) = left.split_first().filter(|_| writer.has_room()) {
            writer.push(extent);
            start = extent.end;
            left = rest;
        }
        let (bytes, map) = writer.finish(place, next, crc);
        assert_eq!(bytes.len(), block.bytes() as usize);
        blocks.push((place, bytes.to_vec()));
        next = Some(map);
    }
    blocks.reverse();
    Map {
        map: next.unwrap(),
        blocks,
    }
}

/// Reads a map. Returns the extents, in the order in which they are found.
fn read(map: &Map, block: BlockSize, sectors: u64) -> Result<Vec<Range<u64>>, MapError> {
    let mut reader = MapReader::new(map.map, block, sectors)?;
    let mut extents = Vec::new();
    let mut blocks = map.blocks.iter();

    while let Some(sector) = reader.next() {
        let (place, bytes) = blocks.next().unwrap();

        assert_eq!(sector, *place);
        reader.read(bytes, sectors, crc, |extent| {
            extents.push(extent);
            Ok::<_, MapError>(())
        })?;
    }
    assert!(blocks.next().is_none());
    Ok(extents)
}

prop_compose! {
    /// Extents of free blocks, block size and sectors of a device.
    fn device()(
        bits in proptest::collection::vec(any::<bool>(), 2..3000),
        scale in 1..2000u64,
        block_size in prop_oneof![3 => Just(512), 1 => Just(1024), 1 => Just(4096)],
        tail in 0..8u64,
    ) -> (Vec<Range<u64>>, BlockSize, u64) {
        let block = BlockSize::from_bytes(block_size).unwrap();
        let mut extents: Vec<Range<u64>> = Vec::new();

        for (index, _) in (1..).zip(&bits).filter(|(index, free)| *index == 1 || **free) {
            let span = block.sectors_of(index * scale)..block.sectors_of((index + 1) * scale);
            match extents.last_mut() {
                Some(last) if last.end == span.start => last.end = span.end,
                _ => extents.push(span),
            }
        }
        let sectors = block.sectors_of((bits.len() as u64 + 1) * scale) + tail % block.sectors();
        (extents, block, sectors)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_map_is_read_as_it_was_written((extents, block, sectors) in device(), seed in any::<u64>()) {
        let map = write(&extents, block, sectors, &mut Random::new(seed));
        let mut found = read(&map, block, sectors).unwrap();

        prop_assert_eq!(map.map.blocks as usize, map.blocks.len());
        found.sort_by_key(|extent| extent.start);
        prop_assert_eq!(found, extents);
    }

    #[test]
    fn damage_is_noticed((extents, block, sectors) in device(), seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut map = write(&extents, block, sectors, &mut random);
        let index = random.index(map.blocks.len());
        let (sector, bytes) = &mut map.blocks[index];
        let at = random.index(bytes.len());
        bytes[at] ^= 1 << random.index(8);
        let sector = *sector;

        prop_assert_eq!(read(&map, block, sectors), Err(MapError::Checksum { sector }));
    }

    /// Whatever a block of a map has in it, if its checksum is right: an extent is whole blocks of the device, and
    /// not the first; the extents of a block are above those of the next.
    #[test]
    fn maps_that_somebody_made_up(
        bytes in proptest::collection::vec(prop_oneof![0..4u8, 0x7e..=0x82u8, any::<u8>()], 488),
        (next, count, start) in (0..64u64, 0..300u32, 0..80u64),
        blocks in 0..5u32,
        sectors in 1..70u64,
    ) {
        let block = BlockSize::from_bytes(512).unwrap();
        let mut data = Vec::new();
        // It goes on to itself, as no good map does; the checksum of that is not asked for.
        data.extend(next.to_le_bytes());
        data.extend(0u32.to_le_bytes());
        data.extend(count.to_le_bytes());
        data.extend(start.to_le_bytes());
        data.extend(bytes);
        let map = FreeMap { sector: 7, blocks, checksum: crc(7, &data) };
        let Ok(mut reader) = MapReader::new(map, block, sectors) else {
            return Ok(());
        };
        let mut last = 1;
        let mut limit = sectors;
        let mut reads = 0;

        prop_assert!(blocks > 0 && u64::from(blocks) <= sectors && sectors > 7);
        while let Some(sector) = reader.next() {
            prop_assert!(sector > 0 && sector < sectors);
            // Any block passes, so that what is after the first is looked at too.
            let sum = if reads == 0 { crc(7, &data) } else { 0 };
            let any_sum: fn(u32, &[u8]) -> u32 = if sum == 0 { |_, _| 0 } else { crc };
            let result = reader.read(&data, sectors, any_sum, |extent| {
                assert!(last <= extent.start && extent.start < extent.end && extent.end <= limit);
                last = extent.end;
                Ok::<_, MapError>(())
            });

            reads += 1;
            prop_assert!(reads <= blocks);
            // So no chain of blocks is a ring.
            prop_assert!(result.is_err() || start < limit);
            if let Err(error) = result {
                prop_assert!(!error.to_string().is_empty());
                break;
            }
            limit = limit.min(start);
            last = 1;
        }
    }
}

/// A block of a map byte by byte, as the description of the format has it.
#[test]
fn the_layout_is_the_one_described() {
    let block = BlockSize::from_bytes(1024).unwrap();
    let mut writer = MapBlock::new(block, GFP_KERNEL).unwrap();
    let next = FreeMap {
        sector: 0x1234,
        blocks: 4,
        checksum: 0xabcd_ef01,
    };

    // Blocks 10 to 11, and 511 to 17000.
    writer.begin(Some(next), 6);
    writer.push(&(20..22));
    writer.push(&(1022..34000));
    let (bytes, map) = writer.finish(0x40, Some(next), crc);
    let mut wanted = vec![
        0x34, 0x12, 0, 0, 0, 0, 0, 0, // next
        0x01, 0xef, 0xcd, 0xab, // its checksum
        2, 0, 0, 0, // count
        3, 0, 0, 0, 0, 0, 0, 0, // start
        7, 1, // 10 - 3, 1
        0xf4, 0x03, // 511 - 11 = 3 * 128 + 116
        0xe9, 0x80, 0x01, // 17000 - 511 = 1 * 16384 + 0 * 128 + 105
    ];
    wanted.resize(1024, 0);

    assert_eq!(bytes, wanted);
    assert_eq!(map.sector, 0x40);
    assert_eq!(map.blocks, 5);
    assert_eq!(map.checksum, crc(0x20, &wanted));
}
