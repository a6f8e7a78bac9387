// SPDX-License-Identifier: GPL-2.0

//! The log of dm-log-writes: what it says was written, with the data.
//!
//! See drivers/md/dm-log-writes.c. A super block, then for each entry a block with its header and
//! the blocks that were written. A block is a logical block of the device. Writes are logged when
//! the flush that began after their end has ended, those with FUA when they end themselves; and
//! what nobody flushed when the device is removed.

use crate::contents::SECTOR;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// Kind of request that an entry logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Write,
    /// A write with FUA.
    Fua,
    Discard,
    Flush,
}

/// An entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) kind: Kind,
    /// First sector.
    pub(crate) sector: u64,
    /// Length in sectors.
    pub(crate) sectors: u64,
    /// Data that was written.
    pub(crate) data: &'a [u8],
}

fn number(bytes: &[u8], offset: usize) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Reads the entries of a log, without its marks.
pub(crate) fn parse(log: &[u8]) -> Result<Vec<Entry<'_>>, String> {
    let short = || "the log of dm-log-writes is cut off".to_owned();
    if number(log, 0) != Some(MAGIC) || number(log, 8) != Some(1) {
        return Err("not a log of dm-log-writes".into());
    }
    let count = number(log, 16).ok_or_else(short)?;
    let block = (number(log, 24).ok_or_else(short)? & 0xffff_ffff) as usize;
    if block < SECTOR || !block.is_power_of_two() {
        return Err(format!("a log of dm-log-writes with blocks of {block}"));
    }
    let scale = (block / SECTOR) as u64;
    let mut entries = Vec::new();
    let mut at = block;
    for _ in 0..count {
        let sector = number(log, at).ok_or_else(short)? * scale;
        let sectors = number(log, at + 8).ok_or_else(short)? * scale;
        let flags = number(log, at + 16).ok_or_else(short)?;
        at += block;
        if flags & MARK != 0 {
            continue;
        }
        let kind = match (flags & DISCARD, flags & FLUSH, flags & FUA, sectors) {
            (0, 0, 0, _) => Kind::Write,
            (0, 0, _, _) => Kind::Fua,
            // Device mapper splits a flush from the write that it came with.
            (0, _, _, 0) => Kind::Flush,
            (_, 0, 0, _) => Kind::Discard,
            _ => return Err(format!("an entry with flags {flags:#x} at {sector}")),
        };
        let bytes = match kind {
            Kind::Discard | Kind::Flush => 0,
            Kind::Write | Kind::Fua => sectors as usize * SECTOR,
        };
        let data = log.get(at..at + bytes).ok_or_else(short)?;
        at += bytes;
        entries.push(Entry {
            kind,
            sector,
            sectors,
            data,
        });
    }
    Ok(entries)
}
