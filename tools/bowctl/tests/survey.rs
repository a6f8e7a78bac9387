// SPDX-License-Identifier: GPL-2.0

//! Surveys of devices with made-up logs of version 1.2, against a naive list of blocks and against
//! what the kernel module would resume.

use std::io;

use bow_decisions::block_size::BlockSize;
use bow_decisions::free_map::MapBlock;
use bow_decisions::log::{Entry, FreeMap, Identity};
use bow_decisions::log_block::LogBlock;
use bow_decisions::ranges;
use bow_decisions::resume::Resume;
use bow_random::Random;
use bowctl::crc::crc32;
use bowctl::device::BlockDevice;
use bowctl::survey::{free_at_checkpoint, Kind, Survey};

const SECTOR: usize = 512;

/// A disk in memory, which is only read.
struct Memory(Vec<u8>);

impl BlockDevice for Memory {
    fn sectors(&self) -> u64 {
        (self.0.len() / SECTOR) as u64
    }

    fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()> {
        let at = sector as usize * SECTOR;

        data.copy_from_slice(&self.0[at..at + data.len()]);
        Ok(())
    }

    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn zero(&mut self, _: u64, _: u64) -> io::Result<()> {
        panic!("zeroed");
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A device in state 1. Numbers are those of blocks.
struct Device {
    disk: Vec<u8>,
    size: usize,
    log: LogBlock,
    kinds: Vec<Kind>,
    /// Blocks that were free.
    free: Vec<bool>,
    random: Random,
}

impl Device {
    fn new(size: usize, blocks: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let free: Vec<_> = (0..blocks)
            .map(|block| block > 0 && (block / 9 + seed as usize) % 3 > 0)
            .collect();
        let identity = Identity {
            uuid: [7; 16],
            time: 1_700_000_000,
        };
        let kinds = free
            .iter()
            .map(|free| match free {
                true => Kind::Free,
                false => Kind::Unchanged,
            })
            .collect();
        let mut device = Self {
            disk: random.bytes(size * blocks),
            size,
            log: LogBlock::new(size as u32, identity, 0),
            kinds,
            free,
            random,
        };
        let first = device.take(Kind::Log).unwrap();
        let backup = device.take(Kind::Backup).unwrap();

        device.kinds[0] = Kind::Log;
        device.log.set_sector0(device.sector(first));
        device.write_map();
        device.push(0, backup);
        device
    }

    fn sector(&self, block: usize) -> u64 {
        (block * self.size / SECTOR) as u64
    }

    /// Takes a free block for something.
    fn take(&mut self, kind: Kind) -> Option<usize> {
        let start = self.random.index(self.kinds.len());
        let block = (0..self.kinds.len())
            .map(|index| (start + index) % self.kinds.len())
            .find(|block| self.kinds[*block] == Kind::Free)?;

        self.kinds[block] = kind;
        Some(block)
    }

    fn write(&mut self, block: usize, data: &[u8]) {
        self.disk[block * self.size..][..data.len()].copy_from_slice(data);
    }

    /// Writes the free map, in two blocks.
    fn write_map(&mut self) {
        let block = BlockSize::from_bytes(self.size as u32).unwrap();
        let mut map: Option<FreeMap> = None;
        let mut buffer = MapBlock::new(block, kernel::alloc::flags::GFP_KERNEL).unwrap();
        let middle = self.free.len() / 2;

        for range in [0..middle, middle..self.free.len()] {
            let place = self.take(Kind::Log).unwrap();

            buffer.begin(map, self.sector(range.start));
            for free in range.filter(|block| self.free[*block]) {
                assert!(buffer.has_room());
                buffer.push(&(self.sector(free)..self.sector(free + 1)));
            }
            let (data, next) = buffer.finish(self.sector(place), map, crc32);
            let data = data.to_vec();

            self.write(place, &data);
            map = Some(next);
        }
        self.log.set_free_map(map);
    }

    /// Appends an entry, whose saved data is not verified.
    fn push(&mut self, source: usize, dest: usize) {
        self.append(Entry {
            source: self.sector(source),
            dest: self.sector(dest),
            size: self.size as u32,
            checksum: 0,
        });
    }

    fn append(&mut self, entry: Entry) {
        self.log.push(entry).unwrap();
        self.write_log(0);
    }

    fn write_log(&mut self, block: usize) {
        let mut first = [0; SECTOR];

        self.log.encode(&mut first, crc32);
        self.write(block, &first);
    }

    /// Has one thing happen. Returns whether there was room for it.
    fn step(&mut self) -> bool {
        if self.log.room() < 2 {
            let Some(place) = self.take(Kind::Log) else {
                return false;
            };

            self.write_log(place);
            self.log.succeed(self.sector(place), 0);
            self.write_log(0);
        }
        let block = self.random.index(self.kinds.len());
        match self.kinds[block] {
            Kind::Unchanged => {
                let Some(dest) = self.take(Kind::Backup) else {
                    return false;
                };

                self.kinds[block] = Kind::Changed;
                self.push(block, dest);
            }
            // What is in a granted block moves away when the file system writes there.
            Kind::Backup | Kind::Log if block > 0 => {
                let Some(dest) = self.take(self.kinds[block]) else {
                    return false;
                };
                let data = self.disk[block * self.size..][..self.size].to_vec();

                self.write(dest, &data);
                self.kinds[block] = Kind::Granted;
                if self.log.sector0() == self.sector(block) {
                    self.log.set_sector0(self.sector(dest));
                }
                self.push(block, dest);
                // Nothing has to be there any more.
                let garbage = self.random.bytes(self.size);
                self.write(block, &garbage);
            }
            Kind::Free => {
                let end = (block + 4).min(self.kinds.len());

                for kind in &mut self.kinds[block..end] {
                    if *kind == Kind::Free {
                        *kind = Kind::Granted;
                    }
                }
                self.append(Entry::grant(&(self.sector(block)..self.sector(end))));
            }
            _ => {}
        }
        true
    }

    fn assert(&self) {
        let device = Memory(self.disk.clone());
        let survey = Survey::new(&device).unwrap();

        assert!(survey.has_map, "{:?}", survey.map_error);
        for (block, kind) in self.kinds.iter().enumerate() {
            let sector = self.sector(block);
            let found = survey
                .extents
                .iter()
                .find(|extent| extent.sectors.contains(&sector))
                .unwrap();

            assert_eq!(found.kind, *kind, "block {block}");
        }
        assert_covers(&survey, device.sectors());
        assert_resumes(&survey, &device);
    }
}

/// Checks that the extents are in order, without gaps, and as long as they can be.
fn assert_covers(survey: &Survey, sectors: u64) {
    let mut end = 0;
    let mut last = None;

    for extent in &survey.extents {
        assert_eq!(extent.sectors.start, end);
        assert!(!extent.sectors.is_empty());
        assert_ne!(last, Some(extent.kind));
        end = extent.sectors.end;
        last = Some(extent.kind);
    }
    assert_eq!(end, sectors);
}

/// Checks that the kernel module, which does not tell all kinds apart, would find the same.
fn assert_resumes(survey: &Survey, device: &Memory) {
    let mut resume = Resume::new(&device.0[..4096], device.sectors(), crc32).unwrap();

    resume
        .read_all(|sector, bytes| device.read_at(sector, bytes))
        .unwrap()
        .unwrap();
    let ranges = resume.finish().unwrap();
    for extent in &survey.extents {
        // The module keeps the first block apart.
        for sector in extent.sectors.clone() {
            if sector < u64::from(survey.log.header.block_size) / 512 {
                continue;
            }
            let same = match ranges.run_at(sector).kind {
                None => extent.kind == Kind::Unchanged,
                Some(ranges::Kind::Free) => extent.kind == Kind::Free,
                Some(ranges::Kind::Writable) => {
                    matches!(extent.kind, Kind::Changed | Kind::Granted)
                }
                Some(ranges::Kind::Backup) => matches!(extent.kind, Kind::Backup | Kind::Log),
                Some(ranges::Kind::FirstBlock) => extent.kind == Kind::Log,
                Some(_) => false,
            };

            assert!(same, "sector {sector} is {:?}", extent.kind);
        }
    }
}

#[test]
fn a_survey_has_the_kind_of_each_block() {
    for seed in 0..40 {
        let size = [512, 1024, 4096][seed as usize % 3];
        let mut device = Device::new(size, 300, seed);
        let mut steps = 0;

        device.assert();
        while steps < 400 && device.step() {
            steps += 1;
            if steps % 40 == 0 {
                device.assert();
            }
        }
        assert!(steps > 20, "{steps}");
        device.assert();
    }
}

#[test]
fn what_was_free_is_read_from_the_map_alone() {
    let device = Device::new(1024, 300, 5);
    let memory = Memory(device.disk.clone());
    let survey = Survey::new(&memory).unwrap();
    let free = device.free.iter().filter(|free| **free).count() as u64;

    assert_eq!(
        free_at_checkpoint(&memory, &survey.log.header),
        Some(free * 2)
    );
    // All that was free is something else now, or still free.
    let kinds = [Kind::Free, Kind::Granted, Kind::Backup, Kind::Log];
    let sum: u64 = kinds.iter().map(|kind| survey.total(*kind)).sum();
    assert_eq!(sum, free * 2 + 2, "and the first block");
}

/// A map that has been written to is not believed, and the rest is shown without it.
#[test]
fn a_damaged_map() {
    let mut device = Device::new(1024, 300, 6);
    let map = device.log.free_map().unwrap();

    device.disk[map.sector as usize * SECTOR + 30] ^= 1;
    let survey = Survey::new(&Memory(device.disk.clone())).unwrap();
    assert!(!survey.has_map);
    let error = survey.map_error.as_deref().unwrap();
    assert!(error.contains("checksum"), "{error}");
    assert_eq!(survey.total(Kind::Unchanged), 0);
    assert!(survey.total(Kind::Unknown) > 0);
    assert_eq!(survey.extents[0].kind, Kind::Log);
}
