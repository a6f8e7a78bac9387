// SPDX-License-Identifier: GPL-2.0

//! The arguments of a table line:
//! `<start> <length> bow <device> [<#args> [block_size:<bytes>] [on_full:<policy>]]`.

use super::block_size::BlockSize;

/// The whole blocks that a checkpoint takes at least: the first, and two for copies of it.
const BLOCKS_MIN: u64 = 3;

/// What happens to a write for whose backup there is no free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// `error`: it fails with `ENOSPC`; rollback stays possible.
    Error,
    /// `commit`: the checkpoint is given up, the new state stays, and the write goes on.
    Commit,
}

impl OnFull {
    /// The word that stands for it in a table line.
    pub const fn word(self) -> &'static str {
        match self {
            OnFull::Error => "error",
            OnFull::Commit => "commit",
        }
    }
}

/// The optional arguments as they were given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// The unit of backup.
    pub block_size: Option<BlockSize>,
    /// The policy.
    pub on_full: Option<OnFull>,
}

/// What is wrong with a table line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The number of arguments is not a number.
    CountNotANumber,
    /// There are more or fewer arguments than their number says.
    CountWrong,
    /// An argument has a key that there is not.
    Unknown,
    /// `block_size` was given twice.
    BlockSizeRepeated,
    /// `on_full` was given twice.
    OnFullRepeated,
    /// `block_size` is no power of two from 512 to 4096.
    BlockSize,
    /// `block_size` is smaller than the logical block of the device.
    BlockSizeTooSmall,
    /// The device has fewer whole blocks than a checkpoint takes.
    DeviceTooSmall,
    /// `on_full` is neither `error` nor `commit`.
    OnFull,
}

impl Fault {
    /// The sentence for the log.
    pub const fn sentence(self) -> &'static core::ffi::CStr {
        match self {
            Fault::CountNotANumber => {
                c"the word after the device must be the number of arguments that follow"
            }
            Fault::CountWrong => c"the number of arguments differs from the one announced",
            Fault::Unknown => {
                c"unknown argument; accepted are block_size:512|1024|2048|4096 and on_full:error|commit"
            }
            Fault::BlockSizeRepeated => c"block_size is given twice",
            Fault::OnFullRepeated => c"on_full is given twice",
            Fault::BlockSize => c"block_size must be 512, 1024, 2048 or 4096",
            Fault::BlockSizeTooSmall => {
                c"block_size must not be smaller than the device's logical block size"
            }
            Fault::DeviceTooSmall => c"the device must have at least three blocks of block_size",
            Fault::OnFull => c"on_full must be error or commit",
        }
    }
}

impl Arguments {
    /// Reads the words that follow the device.
    ///
    /// # Errors
    ///
    /// What is wrong, and the word that is.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<Self, (Fault, &'a [u8])> {
        let mut arguments = Self::default();
        let Some(count) = words.next() else {
            return Ok(arguments);
        };
        let mut left = number(count).ok_or((Fault::CountNotANumber, count))?;
        for word in words {
            left = left.checked_sub(1).ok_or((Fault::CountWrong, count))?;
            arguments.take(word).map_err(|fault| (fault, word))?;
        }
        if left > 0 {
            return Err((Fault::CountWrong, count));
        }
        Ok(arguments)
    }

    /// Reads one argument.
    fn take(&mut self, word: &[u8]) -> Result<(), Fault> {
        if let Some(value) = word.strip_prefix(b"block_size:") {
            let size = number(value)
                .and_then(BlockSize::from_bytes)
                .ok_or(Fault::BlockSize)?;
            if self.block_size.replace(size).is_some() {
                return Err(Fault::BlockSizeRepeated);
            }
        } else if let Some(value) = word.strip_prefix(b"on_full:") {
            let policy = match value {
                b"error" => OnFull::Error,
                b"commit" => OnFull::Commit,
                _ => return Err(Fault::OnFull),
            };
            if self.on_full.replace(policy).is_some() {
                return Err(Fault::OnFullRepeated);
            }
        } else {
            return Err(Fault::Unknown);
        }
        Ok(())
    }

    /// Returns the block size for a device of `sectors` sectors with logical blocks of `logical`
    /// bytes: the one given, or else the largest there is. It need not divide the device.
    ///
    /// # Errors
    ///
    /// The device has no such blocks, or too few.
    pub fn block_size_for(&self, sectors: u64, logical: u32) -> Result<BlockSize, Fault> {
        let size = self.block_size.unwrap_or(BlockSize::MAX);
        if size.bytes() < logical {
            Err(Fault::BlockSizeTooSmall)
        } else if size.number(sectors) < BLOCKS_MIN {
            Err(Fault::DeviceTooSmall)
        } else {
            Ok(size)
        }
    }
}

/// A decimal number without sign or surroundings.
fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}
