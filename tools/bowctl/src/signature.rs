// SPDX-License-Identifier: GPL-2.0

//! Signatures of layers and file systems that must not be directly on a dm-bow device.
//!
//! While there is a checkpoint, the log hides the first block of the underlying device, and with it
//! the superblock of most file systems. What is in this table has one elsewhere. After a power cut
//! it is found there and put into use without dm-bow, often by the boot itself, and what is then
//! written has no backup.
//!
//! The table is short and of our own, although `blkid` knows all of these: an initramfs may have no
//! `blkid`, or one that cannot probe; and `blkid` ends at the file system that it finds first. What
//! counts here is what is left to be seen *without* the first block, leftovers of an earlier use
//! included.

use std::io;
use std::path::Path;

use bow_decisions::log::SECTOR_SIZE;

use crate::device::BlockDevice;
use crate::error::{Code, CommandError, Result};

/// A signature that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The layer or file system.
    pub layer: &'static Layer,
    /// Its offset on the device in bytes.
    pub offset: u64,
}

/// A layer or file system that is refused.
#[derive(PartialEq, Eq, Debug)]
pub struct Layer {
    /// Its name.
    pub name: &'static str,
    /// The reason.
    pub why: &'static str,
    /// The arrangement that works.
    pub instead: &'static str,
}

const LUKS2: Layer = Layer {
    name: "a LUKS2 header",
    why:
        "LUKS2 has a second header at 16 KiB. Whoever opens the device after a power cut, or only \
          reads its header, repairs the first one from it, and that overwrites the log",
    instead:
        "Open the LUKS2 device and put dm-bow over it: `bowctl create NAME /dev/mapper/OPENED`",
};

const MD: Layer = Layer {
    name: "a superblock of md (Linux software RAID)",
    why: "after a power cut the array is assembled from the device without dm-bow, and a member \
          that is rolled back no longer agrees with the others",
    instead: "Put dm-bow over the array: `bowctl create NAME /dev/mdN`",
};

const LVM: Layer = Layer {
    name: "a label of LVM",
    why: "after a power cut the volumes can be activated from the device without dm-bow, and a \
          physical volume that is rolled back no longer agrees with the others of its group",
    instead: "Put dm-bow over the logical volume: `bowctl create NAME /dev/GROUP/VOLUME`",
};

const BCACHE: Layer = Layer {
    name: "a superblock of bcache",
    why: "its superblock is at 4 KiB. After a power cut the device is registered without dm-bow, \
          and one that is rolled back no longer agrees with its cache",
    instead: "Put dm-bow over the cached device: `bowctl create NAME /dev/bcacheN`",
};

const BCACHEFS: Layer = Layer {
    name: "a superblock of bcachefs",
    why: "its superblock is at 4 KiB, so that it can be mounted without dm-bow after a power cut; \
          how it takes a rollback has not been tested",
    instead: "Use the snapshots of bcachefs",
};

const NILFS2: Layer = Layer {
    name: "a superblock of NILFS2",
    why: "it has a second superblock at the end of the device, so that it can be mounted without \
          dm-bow after a power cut",
    instead: "Use the checkpoints of NILFS2 (`mkcp`, `chcp`)",
};

const ZFS: Layer = Layer {
    name: "a label of ZFS",
    why:
        "it has labels at the beginning and at the end of the device, so that the pool is imported \
          without dm-bow after a power cut; at an import it goes on to the newest state that it \
          finds, and after a rollback that may be what was to be undone",
    instead: "Use the checkpoint of the pool (`zpool checkpoint`)",
};

/// Refuses a device, opened by `path`, that has one.
///
/// # Errors
///
/// [`Code::State`] says what was found, why that does not go, and what does.
pub fn refuse<D: BlockDevice>(device: &D, path: &Path) -> Result {
    let shown = path.display();
    let found = find(device).map_err(|error| CommandError::io(path.display(), &error))?;

    found.map_or(Ok(()), |Found { layer, offset }| {
        Err(CommandError::new(
            Code::State,
            format!(
                "{shown}: there is {} at byte {offset}, which does not belong on a bow device: \
                 {}. Nothing was changed.",
                layer.name, layer.why
            ),
        )
        .advise(format!(
            "{}. If it is left over from an earlier use, `wipefs` lists and removes it; `--force` \
             goes on in spite of it.",
            layer.instead
        )))
    })
}

/// Looks for the first signature that is in the way.
///
/// # Errors
///
/// The device's.
pub fn find<D: BlockDevice>(device: &D) -> io::Result<Option<Found>> {
    let size = device.sectors().saturating_mul(SECTOR_SIZE as u64);

    for (layer, offset, matches) in places(size) {
        let mut data = [0; 2 * SECTOR_SIZE];
        // Offsets of the table are whole sectors.
        let sector = offset / SECTOR_SIZE as u64;
        let sectors = device.sectors().saturating_sub(sector).min(2) as usize;

        device.read_at(sector, &mut data[..sectors * SECTOR_SIZE])?;
        if matches(&data) {
            return Ok(Some(Found { layer, offset }));
        }
    }
    Ok(None)
}

/// Looks at two sectors; those beyond the end of the device are zero.
type Matches = fn(&[u8; 2 * SECTOR_SIZE]) -> bool;

/// Returns the places to look at, on a device of `size` bytes.
fn places(size: u64) -> impl Iterator<Item = (&'static Layer, u64, Matches)> {
    const KIB: u64 = 1024;
    let mut places: Vec<(&'static Layer, u64, Matches)> = vec![(&LUKS2, 0, luks2_first)];
    let from_end = |bytes: u64, align: u64| size.checked_sub(bytes).map(|at| at / align * align);

    // The second header follows the first, which is from 16 KiB to 4 MiB long.
    places.extend((0..9).map(|shift| (&LUKS2, (16 * KIB) << shift, luks2_second as Matches)));
    // Versions 1.2, 1.1, 1.0 and 0.90.
    places.extend([4 * KIB, 0].map(|at| (&MD, at, md as Matches)));
    places.extend(from_end(8 * KIB, 4 * KIB).map(|at| (&MD, at, md as Matches)));
    places.extend(from_end(64 * KIB, 64 * KIB).map(|at| (&MD, at, md as Matches)));
    places.extend((0..4).map(|sector| (&LVM, sector * SECTOR_SIZE as u64, lvm as Matches)));
    places.push((&BCACHE, 4 * KIB, bcache));
    places.push((&BCACHEFS, 4 * KIB, bcachefs));
    places.push((&NILFS2, KIB, nilfs2));
    places.extend(from_end(4 * KIB, 4 * KIB).map(|at| (&NILFS2, at, nilfs2 as Matches)));
    // Each label has a ring of uberblocks in its second half.
    for label in [
        Some(0),
        Some(256 * KIB),
        from_end(512 * KIB, 256 * KIB),
        from_end(256 * KIB, 256 * KIB),
    ]
    .into_iter()
    .flatten()
    {
        places.extend((128..256).map(|at| (&ZFS, label + at * KIB, zfs as Matches)));
    }
    places
        .into_iter()
        .filter(move |(_, at, _)| at + SECTOR_SIZE as u64 <= size)
}

fn luks2_first(data: &[u8; 2 * SECTOR_SIZE]) -> bool {
    // LUKS1 has a single header, which the log hides.
    data.starts_with(b"LUKS\xba\xbe") && data[6..8] != [0, 1]
}

fn luks2_second(data: &[u8; 2 * SECTOR_SIZE]) -> bool {
    data.starts_with(b"SKUL\xba\xbe")
}

fn md(data: &[u8; 2 * SECTOR_SIZE]) -> bool {
    data.starts_with(&[0xfc, 0x4e, 0x2b, 0xa9]) && matches!(data[4..8], [0 | 1, 0, 0, 0])
}

fn lvm(data: &[u8; 2 * SECTOR_SIZE]) -> bool {
    data.starts_with(b"LABELONE")
}

fn bcache(data: &[u8; 2 * SECTOR_SIZE]) -> bool {
    data[24..40] == *b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"
}

fn bcachefs(data: &[u8; 2 * SECTOR_SIZE]) -> bool {
    data[24..40] == *b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"
}

fn nilfs2(data: &[u8; 2 * SECTOR_SIZE]) -> bool {
    // Its revision, then the magic.
    data[..4] == [2, 0, 0, 0] && data[6..8] == [0x34, 0x34]
}

fn zfs(data: &[u8; 2 * SECTOR_SIZE]) -> bool {
    // In the byte order of whoever wrote it.
    data[..8] == 0x00ba_b10c_u64.to_le_bytes() || data[..8] == 0x00ba_b10c_u64.to_be_bytes()
}
