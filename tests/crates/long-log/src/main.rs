// SPDX-License-Identifier: GPL-2.0

//! `bow-long-log`: writes to a device what a checkpoint with many entries leaves there when power fails, but
//! for the backups themselves, which a resume does not read. For `make bench`.
//!
//! The first half of the device was in use at the checkpoint, the other was free. Then every other block of the
//! first half was written to.

#![deny(unsafe_code)]

use bow_decisions::batch::{Batch, COPIES_MAX};
use bow_decisions::begin::Memory;
use bow_decisions::block_size::BlockSize;
use bow_decisions::checkpoint::{Checkpoint, Verdict};
use bow_decisions::free_map::MapBlock;
use bow_decisions::log::{Identity, Sector, SECTOR_SIZE};
use bow_decisions::ranges::{Kind, Nodes, RangeTree};
use bowctl::crc::crc32;
use clap::Parser;
use kernel::prelude::GFP_KERNEL;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Writes the log of a checkpoint with many entries to a device, whose contents are lost.
#[derive(Parser)]
#[command(version)]
struct Cli {
    device: PathBuf,
    /// Size of the device in sectors.
    sectors: u64,
    /// Number of entries.
    entries: u64,
}

const BLOCK: BlockSize = BlockSize::MAX;

/// Writes `bytes` from the device's sector `sector` on.
fn write(device: &File, sector: u64, bytes: &[u8]) -> kernel::error::Result {
    let written = device.write_all_at(bytes, sector * SECTOR_SIZE as u64);
    written.map_err(|_| kernel::error::code::EIO)
}

/// Begins a checkpoint, of which nothing but the log block is missing on the device.
fn begin(device: &File, sectors: u64) -> kernel::error::Result<Checkpoint> {
    let identity = Identity {
        uuid: [0x42; 16],
        time: 0,
    };
    let mut nodes = Nodes::new(RangeTree::NODES_PER_SET, GFP_KERNEL)?;
    nodes.fill(GFP_KERNEL)?;
    let mut ranges = RangeTree::new();
    ranges.set(
        BLOCK.down(sectors / 2)..sectors,
        Some(Kind::Free),
        &mut nodes,
    )?;
    let memory = Memory::new(BLOCK, identity, GFP_KERNEL)?;
    let mut checkpoint = Checkpoint::new(ranges, BLOCK, sectors, memory);
    let backup = checkpoint.place_first_block()?;
    let mut map = MapBlock::new(BLOCK, GFP_KERNEL)?;
    checkpoint.write_free_map(&mut map, crc32, |sector, block| {
        write(device, sector, block)
    })?;
    checkpoint.begin(backup, 0);
    Ok(checkpoint)
}

/// Writes all log blocks but the newest, and that one last. Returns the number of entries.
fn fill(
    device: &File,
    checkpoint: &mut Checkpoint,
    sectors: u64,
    entries: u64,
) -> kernel::error::Result<u64> {
    let block = BLOCK.sectors();
    let mut batch = Batch::new(GFP_KERNEL)?;
    let mut source = block;
    let mut done = 1;
    while done < entries {
        checkpoint.replenish(GFP_KERNEL);
        checkpoint.open(&mut batch, COPIES_MAX);
        for _ in 0..COPIES_MAX {
            if source + block > sectors / 2 {
                return Err(kernel::error::code::ENOSPC);
            }
            match checkpoint.prepare(&(source..source + block), Some(&mut batch)) {
                Verdict::Joined => {}
                Verdict::Writable => source += 2 * block,
                Verdict::Later => break,
                Verdict::NoSpace => return Err(kernel::error::code::ENOSPC),
            }
            source += 2 * block;
        }
        checkpoint.close();
        let mut full: Vec<Sector> = Vec::new();
        let appended =
            checkpoint.append(&batch, |_| false, crc32, |_, sector| full.push(*sector))?;
        for (&place, sector) in appended.full_blocks().iter().zip(&full) {
            write(device, place, sector)?;
        }
        done += appended.entries() as u64;
        checkpoint.complete(&batch, &appended, |_| None, |_| ());
        checkpoint.finish(&mut batch);
    }
    let mut log: Sector = [0; SECTOR_SIZE];
    checkpoint.log().encode(&mut log, crc32);
    write(device, 0, &log)?;
    Ok(done)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let made = File::options().write(true).open(&cli.device).map_or_else(
        |error| Err(error.to_string()),
        |device| {
            begin(&device, cli.sectors)
                .and_then(|mut checkpoint| fill(&device, &mut checkpoint, cli.sectors, cli.entries))
                .map_err(|error| format!("{error:?}"))
        },
    );
    match made {
        Ok(entries) => {
            println!("{entries}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", cli.device.display());
            ExitCode::FAILURE
        }
    }
}
