// SPDX-License-Identifier: GPL-2.0

//! The time of a check and restore on a disk that takes time, as a ratio to the floor: reading all
//! saved data for the check, reading and writing it for the restore, at the disk's full speed.
//!
//! It measures wall time, so that it is only run by hand:
//! `scripts/cargo test -p bowctl --test speed -- --ignored --nocapture`.

use bow_decisions::log::{entry_seed, Entry, Identity, SECTOR_SIZE};
use bow_decisions::log_block::LogBlock;
use bowctl::crc::crc32;
use bowctl::device::buffer::Buffer;
use bowctl::device::copy::{CopyBack, TransferError};
use bowctl::device::queue::{Queue, SharedDevice};
use bowctl::device::BlockDevice;
use bowctl::progress::Progress;
use bowctl::recovery::{self, CheckOptions};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

/// Time of a request beside that of its bytes.
const LATENCY: Duration = Duration::from_micros(80);

/// Bytes a second, of all requests together.
const BYTES_PER_SECOND: u64 = 260 << 20;

const BLOCK: usize = 4096;

/// A disk in memory. Any number of requests wait at the same time, and share its speed.
#[derive(Debug)]
struct Slow {
    data: RwLock<Vec<u8>>,
    /// When all requests so far have had their bytes.
    busy_until: Mutex<Instant>,
}

impl Slow {
    fn wait(&self, bytes: usize) {
        let time = Duration::from_nanos(bytes as u64 * 1_000_000_000 / BYTES_PER_SECOND);
        let end = {
            let mut busy_until = self.busy_until.lock().unwrap();

            *busy_until = Instant::now().max(*busy_until) + time;
            *busy_until + LATENCY
        };
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
    }
}

impl SharedDevice for Slow {
    fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()> {
        let at = sector as usize * SECTOR_SIZE;

        data.copy_from_slice(&self.data.read().unwrap()[at..at + data.len()]);
        self.wait(data.len());
        Ok(())
    }

    fn write_at(&self, sector: u64, data: &[u8]) -> io::Result<()> {
        let at = sector as usize * SECTOR_SIZE;

        self.data.write().unwrap()[at..at + data.len()].copy_from_slice(data);
        self.wait(data.len());
        Ok(())
    }
}

/// The same as the command sees it.
struct Disk(Queue<Slow>);

impl BlockDevice for Disk {
    fn sectors(&self) -> u64 {
        (self.0.device().data.read().unwrap().len() / SECTOR_SIZE) as u64
    }

    fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()> {
        self.0.device().read_at(sector, data)
    }

    fn write_at(&mut self, sector: u64, data: &[u8]) -> io::Result<()> {
        self.0.device().write_at(sector, data)
    }

    fn zero(&mut self, _: u64, _: u64) -> io::Result<()> {
        // The logs of this file have no free map.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.device().wait(0);
        Ok(())
    }

    fn read_all(&self, reads: Vec<Range<u64>>) -> impl Iterator<Item = io::Result<Buffer>> {
        self.0.read_all(reads)
    }

    fn copy_all(
        &mut self,
        copies: Vec<CopyBack>,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), TransferError> {
        self.0.copy_all(copies, done)
    }
}

/// Returns a disk with a log of `count` entries of `blocks` blocks: their data is together in the upper
/// half, and belongs `stride` blocks apart in the lower half.
fn disk(count: usize, blocks: usize, stride: usize) -> Vec<u8> {
    let half = (count + 1) * stride * BLOCK;
    let mut disk = vec![0; 2 * half + count * BLOCK];
    let mut free = half;
    let sector = |at: usize| (at / SECTOR_SIZE) as u64;
    let mut save = |disk: &mut [u8], source: usize, data: &[u8]| {
        let at = free;

        free += data.len();
        disk[at..free].copy_from_slice(data);
        Entry {
            source: sector(source),
            dest: sector(at),
            size: data.len() as u32,
            checksum: crc32(entry_seed(sector(source), BLOCK as u32), data),
        }
    };
    let identity = Identity {
        uuid: [1; 16],
        time: 0,
    };
    let mut log = LogBlock::new(BLOCK as u32, identity, sector(half));

    log.push(save(&mut disk, 0, &[1; BLOCK])).unwrap();
    for index in 1..=count {
        if log.room() == 0 {
            let mut full = [0; BLOCK];

            log.encode((&mut full[..SECTOR_SIZE]).try_into().unwrap(), crc32);
            let entry = save(&mut disk, 0, &full);
            log.succeed(entry.dest, entry.checksum);
        }
        let data = vec![index as u8; blocks * BLOCK];

        log.push(save(&mut disk, index * stride * BLOCK, &data))
            .unwrap();
    }
    log.encode((&mut disk[..SECTOR_SIZE]).try_into().unwrap(), crc32);
    disk
}

/// Returns the part of the speed of the floor that a check and restore have.
fn measure(count: usize, blocks: usize, stride: usize) -> f64 {
    let mut disk = Disk(Queue::new(Slow {
        data: RwLock::new(disk(count, blocks, stride)),
        busy_until: Mutex::new(Instant::now()),
    }));
    let start = Instant::now();

    let log = recovery::check(
        &disk,
        CheckOptions::default(),
        &mut Progress::hidden(),
        |_| (),
    )
    .unwrap();
    let checked = start.elapsed();
    recovery::restore(&mut disk, &log, &mut Progress::hidden()).unwrap();
    let restored = start.elapsed();

    let data = disk.0.device().data.read().unwrap();
    for index in 1..=count {
        let at = index * stride * BLOCK;

        assert!(data[at..at + blocks * BLOCK]
            .iter()
            .all(|byte| *byte == index as u8));
    }
    let bytes = (count * blocks * BLOCK) as f64;
    let floor = 3.0 * bytes / BYTES_PER_SECOND as f64;
    let part = floor / restored.as_secs_f64();

    println!(
        "{count} x {} KiB: check {checked:.0?}, in all {restored:.0?}, {part:.2} of the floor",
        blocks * BLOCK / 1024,
    );
    part
}

#[test]
#[ignore = "measures wall time"]
fn a_restore_is_near_its_floor() {
    let large = measure(64, 256, 256);
    let windows = measure(1024, 7, 9);
    let scattered = measure(2048, 1, 3);

    assert!(large >= 0.8);
    // These wait for flushes, eight requests for each log block.
    assert!(windows > 0.3 && scattered > 0.05);
}
