// SPDX-License-Identifier: GPL-2.0

//! Arguments of a table line:
//! `<start> <length> bow <device> [<#args> [block_size:<bytes>] [on_full:<policy>] [low_water:<mark>]
//! [resume[:<uuid>]] [no_discard_passdown]]`.

use super::{
    block_size::BlockSize,
    low_water::LowWater,
    number::number, //
};

/// Minimum number of whole blocks for a checkpoint: the first block, two for copies of it, and the free map.
const BLOCKS_MIN: u64 = 4;

/// Policy for a write for whose backup there is no free space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// `error`: the write fails with `ENOSPC`; rollback stays possible.
    Error,
    /// `commit`: the checkpoint is committed, so the new contents stay, and the write goes on.
    Commit,
    /// `wait`: the write waits for free space, which a discard gives, for a commit, or for another policy.
    Wait,
}

impl OnFull {
    /// Returns the word for the policy in a table line.
    pub const fn word(self) -> &'static str {
        match self {
            OnFull::Error => "error",
            OnFull::Commit => "commit",
            OnFull::Wait => "wait",
        }
    }

    /// Returns the policy that `word` means.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        match word {
            b"error" => Some(OnFull::Error),
            b"commit" => Some(OnFull::Commit),
            b"wait" => Some(OnFull::Wait),
            _ => None,
        }
    }

    /// Returns the number that stands for the policy.
    pub const fn to_raw(self) -> u32 {
        match self {
            OnFull::Error => 0,
            OnFull::Commit => 1,
            OnFull::Wait => 2,
        }
    }

    /// Returns the policy that a number stands for.
    pub const fn from_raw(raw: u32) -> Self {
        match raw {
            1 => OnFull::Commit,
            2 => OnFull::Wait,
            _ => OnFull::Error,
        }
    }
}

/// Optional arguments as given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// Unit of backup.
    pub block_size: Option<BlockSize>,
    /// Policy for writes for whose backup there is no free space.
    pub on_full: Option<OnFull>,
    /// Low-water mark.
    pub low_water: Option<LowWater>,
    /// Set if the checkpoint on the device is to be resumed.
    pub resume: Option<ResumeOf>,
    /// Set if discards are only recorded, and not passed to the underlying device.
    pub no_discard_passdown: bool,
}

/// Checkpoint that is to be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeOf {
    /// `resume`: the one on the device, whichever that is.
    Any,
    /// `resume:<uuid>`: the one with this UUID, and no other.
    Uuid([u8; 16]),
}

/// Error in a table line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentError {
    /// The argument count is not a number.
    CountNotANumber,
    /// There are more or fewer arguments than the count says.
    CountWrong,
    /// An argument has an unknown key.
    Unknown,
    /// `block_size` was given twice.
    BlockSizeRepeated,
    /// `on_full` was given twice.
    OnFullRepeated,
    /// `block_size` is not a power of two from 512 to 4096.
    BlockSize,
    /// `block_size` is smaller than the logical block size of the underlying device.
    BlockSizeTooSmall,
    /// The underlying device has fewer whole blocks than a checkpoint needs.
    DeviceTooSmall,
    /// `on_full` is neither `error` nor `commit` nor `wait`.
    OnFull,
    /// `low_water` is neither a number of bytes nor a percentage.
    LowWater,
    /// `low_water` was given twice.
    LowWaterRepeated,
    /// `resume` was given twice.
    ResumeRepeated,
    /// The word after `resume:` is no UUID.
    Uuid,
    /// `no_discard_passdown` was given twice.
    NoDiscardPassdownRepeated,
}

impl ArgumentError {
    /// Returns the sentence for the kernel's log.
    pub const fn sentence(self) -> &'static core::ffi::CStr {
        match self {
            ArgumentError::CountNotANumber => {
                c"the word after the device must be the number of arguments that follow"
            }
            ArgumentError::CountWrong => c"the number of arguments differs from the one announced",
            ArgumentError::Unknown => {
                c"unknown argument; accepted are block_size:512|1024|2048|4096, on_full:error|commit|wait, low_water:BYTES|N%, resume and no_discard_passdown"
            }
            ArgumentError::BlockSizeRepeated => c"block_size is given twice",
            ArgumentError::OnFullRepeated => c"on_full is given twice",
            ArgumentError::BlockSize => c"block_size must be 512, 1024, 2048 or 4096",
            ArgumentError::BlockSizeTooSmall => {
                c"block_size must not be smaller than the device's logical block size"
            }
            ArgumentError::DeviceTooSmall => c"the device must have at least four blocks of block_size",
            ArgumentError::OnFull => c"on_full must be error, commit or wait",
            ArgumentError::LowWater => {
                c"low_water must be a number of bytes, or a number up to 100 and %"
            }
            ArgumentError::LowWaterRepeated => c"low_water is given twice",
            ArgumentError::NoDiscardPassdownRepeated => c"no_discard_passdown is given twice",
            ArgumentError::ResumeRepeated => c"resume is given twice",
            ArgumentError::Uuid => c"resume: must be followed by a UUID, 32 hexadecimal digits",
        }
    }
}

impl Arguments {
    /// Parses the words that follow the device.
    ///
    /// # Errors
    ///
    /// An [`ArgumentError`], and the word that is at fault.
    pub fn parse<'a>(
        mut words: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, (ArgumentError, &'a [u8])> {
        let mut arguments = Self::default();
        let Some(count) = words.next() else {
            return Ok(arguments);
        };
        let mut left: u32 = number(count).ok_or((ArgumentError::CountNotANumber, count))?;
        for word in words {
            left = left
                .checked_sub(1)
                .ok_or((ArgumentError::CountWrong, count))?;
            arguments.take(word).map_err(|fault| (fault, word))?;
        }
        if left > 0 {
            return Err((ArgumentError::CountWrong, count));
        }
        Ok(arguments)
    }

    /// Parses one argument.
    fn take(&mut self, word: &[u8]) -> Result<(), ArgumentError> {
        if let Some(value) = word.strip_prefix(b"block_size:") {
            let size = number(value)
                .and_then(BlockSize::from_bytes)
                .ok_or(ArgumentError::BlockSize)?;
            if self.block_size.replace(size).is_some() {
                return Err(ArgumentError::BlockSizeRepeated);
            }
        } else if let Some(value) = word.strip_prefix(b"on_full:") {
            let policy = OnFull::from_word(value).ok_or(ArgumentError::OnFull)?;
            if self.on_full.replace(policy).is_some() {
                return Err(ArgumentError::OnFullRepeated);
            }
        } else if let Some(value) = word.strip_prefix(b"low_water:") {
            let mark = LowWater::from_word(value).ok_or(ArgumentError::LowWater)?;
            if self.low_water.replace(mark).is_some() {
                return Err(ArgumentError::LowWaterRepeated);
            }
        } else if word == b"no_discard_passdown" {
            if core::mem::replace(&mut self.no_discard_passdown, true) {
                return Err(ArgumentError::NoDiscardPassdownRepeated);
            }
        } else if let Some(value) = word.strip_prefix(b"resume") {
            let resume = match value.strip_prefix(b":") {
                Some(text) => ResumeOf::Uuid(uuid(text).ok_or(ArgumentError::Uuid)?),
                None if value.is_empty() => ResumeOf::Any,
                None => return Err(ArgumentError::Unknown),
            };
            if self.resume.replace(resume).is_some() {
                return Err(ArgumentError::ResumeRepeated);
            }
        } else {
            return Err(ArgumentError::Unknown);
        }
        Ok(())
    }

    /// Returns the block size for a device of `sectors` sectors with logical blocks of `logical` bytes: the
    /// given one, or else the largest there is. The block size need not divide the device.
    ///
    /// # Errors
    ///
    /// [`ArgumentError::BlockSizeTooSmall`] or [`ArgumentError::DeviceTooSmall`].
    pub fn block_size_for(&self, sectors: u64, logical: u32) -> Result<BlockSize, ArgumentError> {
        let size = self.block_size.unwrap_or(BlockSize::MAX);
        if size.bytes() < logical {
            Err(ArgumentError::BlockSizeTooSmall)
        } else if size.number(sectors) < BLOCKS_MIN {
            Err(ArgumentError::DeviceTooSmall)
        } else {
            Ok(size)
        }
    }
}

/// Parses a UUID: 32 hexadecimal digits, with or without hyphens.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut uuid = [0; 16];
    let mut digits = text.iter().filter(|&&byte| byte != b'-');
    for byte in &mut uuid {
        for _ in 0..2 {
            let digit = char::from(*digits.next()?).to_digit(16)?;
            *byte = (*byte << 4) | digit as u8;
        }
    }
    digits.next().is_none().then_some(uuid)
}
