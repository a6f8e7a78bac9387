// SPDX-License-Identifier: GPL-2.0

//! Reading an ext4 on a device that exists only here. Its journal is replayed in memory, as a mount
//! would do.
//!
//! ext4 takes its superblock, of two sectors, to be written wholly or not at all. Where a power cut
//! tears it there is nothing to read, with or without bow.

use crate::device::Device;
use crate::recording::Recording;
use crate::trace::Time;
use ext4_view::{Ext4, Ext4Error, Ext4Read};
use std::error::Error;

/// A device whose contents outlive the recording.
struct Image {
    bytes: Vec<u8>,
}

impl Ext4Read for Image {
    fn read(
        &mut self,
        start: u64,
        to: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        let start = start as usize;
        let from = self
            .bytes
            .get(start..start + to.len())
            .ok_or("beyond the end of the device")?;
        to.copy_from_slice(from);
        Ok(())
    }
}

/// The sectors of the superblock.
const SUPERBLOCK: [u32; 2] = [2, 3];

/// Returns whether the superblock is part of one write and part of another.
pub(crate) fn superblock_is_torn(recording: &Recording, device: &Device<'_>, cut: Time) -> bool {
    let [mut first, second] = SUPERBLOCK.map(|sector| {
        let id = device.sectors[sector as usize];
        let possible = recording.upper.possible(sector, cut);
        possible.filter(move |version| version.id == id)
    });
    !first.any(|first| second.clone().any(|second| first.bio == second.bio))
}

/// Calls `check` with a function that reads a file of the folder `files` of a file system.
pub(crate) fn read<T>(
    bytes: Vec<u8>,
    check: impl FnOnce(&mut dyn FnMut(&str) -> Result<Option<Vec<u8>>, String>) -> Result<T, String>,
) -> Result<T, String> {
    let fs = Ext4::load(Box::new(Image { bytes })).map_err(|error| format!("ext4: {error}"))?;
    check(
        &mut |name| match fs.read(format!("/files/{name}").as_str()) {
            Ok(content) => Ok(Some(content)),
            Err(Ext4Error::NotFound) => Ok(None),
            Err(error) => Err(format!("ext4: {name}: {error}")),
        },
    )
}
