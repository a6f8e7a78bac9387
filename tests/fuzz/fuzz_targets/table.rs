// SPDX-License-Identifier: GPL-2.0

//! Any bytes as the arguments of a table line.

#![no_main]

use bow_decisions::block_size::BlockSize;
use bow_decisions::table::{ArgumentError, Arguments, ResumeOf};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (device, line) = data.split_at(data.len().min(4));
    let words = || {
        line.split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
    };

    match Arguments::parse(words()) {
        Ok(arguments) => {
            accepted(&arguments, words().collect());
            if let [sectors @ .., logical] = device {
                let sectors = sectors
                    .iter()
                    .fold(0, |number, byte| number << 8 | u64::from(*byte));

                fits(&arguments, sectors, 512 << (logical % 4));
                fits(&arguments, u64::MAX - sectors, 512 << (logical % 4));
            }
        }
        Err((fault, word)) => {
            assert!(!fault.sentence().is_empty());
            assert!(words().any(|found| std::ptr::eq(found, word)));
        }
    }
});

/// Checks that the words are their number, and then one each for what was understood.
fn accepted(arguments: &Arguments, words: Vec<&[u8]>) {
    let mut left: Vec<_> = words.into_iter().skip(1).collect();
    let take = |left: &mut Vec<&[u8]>, key: &[u8], value: &[u8]| {
        let at = left
            .iter()
            .position(|word| {
                word.strip_prefix(key)
                    .is_some_and(|found| same(found, value))
            })
            .unwrap();
        left.remove(at);
    };

    if let Some(size) = arguments.block_size {
        take(
            &mut left,
            b"block_size:",
            size.bytes().to_string().as_bytes(),
        );
    }
    if let Some(policy) = arguments.on_full {
        take(&mut left, b"on_full:", policy.word().as_bytes());
    }
    if let Some(mark) = arguments.low_water {
        take(&mut left, b"low_water:", mark.to_string().as_bytes());
    }
    if arguments.no_discard_passdown {
        take(&mut left, b"no_discard_passdown", b"");
    }
    match arguments.resume {
        None => {}
        Some(ResumeOf::Any) => take(&mut left, b"resume", b""),
        Some(ResumeOf::Uuid(uuid)) => {
            let digits: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
            let at = left
                .iter()
                .position(|word| {
                    let text = word.strip_prefix(b"resume:").unwrap_or_default();
                    let found: Vec<u8> =
                        text.iter().copied().filter(|byte| *byte != b'-').collect();
                    found.eq_ignore_ascii_case(digits.as_bytes())
                })
                .unwrap();
            left.remove(at);
        }
    }
    assert!(left.is_empty());
}

/// Returns whether `found` is the number `value`, with or without zeroes before it.
fn same(found: &[u8], value: &[u8]) -> bool {
    found
        .strip_suffix(value)
        .is_some_and(|zeroes| zeroes.iter().all(|byte| *byte == b'0'))
}

/// Checks that the block size is the one given, or the largest, and that the device has four such
/// blocks.
fn fits(arguments: &Arguments, sectors: u64, logical: u32) {
    let wanted = match arguments.block_size.map_or(4096, BlockSize::bytes) {
        bytes if bytes < logical => Err(ArgumentError::BlockSizeTooSmall),
        bytes if sectors < u64::from(4 * bytes / 512) => Err(ArgumentError::DeviceTooSmall),
        bytes => Ok(bytes),
    };

    assert_eq!(
        arguments
            .block_size_for(sectors, logical)
            .map(BlockSize::bytes),
        wanted
    );
}
