// SPDX-License-Identifier: GPL-2.0

//! The arguments of a table line.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::decisions::block_size::BlockSize;
use crate::decisions::table::{ArgumentError, Arguments, OnFull, ResumeOf};

fn parse(line: &str) -> Result<Arguments, ArgumentError> {
    Arguments::parse(line.split_ascii_whitespace().map(str::as_bytes)).map_err(|(fault, _)| fault)
}

#[test]
fn what_is_accepted() {
    let size = BlockSize::from_bytes(1024);

    assert_eq!(parse(""), Ok(Arguments::default()));
    assert_eq!(parse("0"), Ok(Arguments::default()));
    assert_eq!(parse("1 block_size:1024").unwrap().block_size, size);
    for line in [
        "2 block_size:1024 on_full:commit",
        "2 on_full:commit block_size:1024",
    ] {
        let arguments = parse(line).unwrap();

        assert_eq!(arguments.block_size, size);
        assert_eq!(arguments.on_full, Some(OnFull::Commit));
        assert_eq!(arguments.resume, None);
        assert!(!arguments.no_discard_passdown);
    }
    let uuid = *b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef";
    for (word, resume) in [
        ("resume", ResumeOf::Any),
        (
            "resume:0123456789abcdef0123456789ABCDEF",
            ResumeOf::Uuid(uuid),
        ),
        (
            "resume:01234567-89ab-cdef-0123-456789abcdef",
            ResumeOf::Uuid(uuid),
        ),
    ] {
        let line = format!("2 no_discard_passdown {word}");
        let arguments = parse(&line).unwrap();

        assert_eq!(arguments.resume, Some(resume));
        assert!(arguments.no_discard_passdown);
    }
}

#[test]
fn what_is_refused() {
    for (line, fault) in [
        ("x", ArgumentError::CountNotANumber),
        ("-1", ArgumentError::CountNotANumber),
        ("4294967296", ArgumentError::CountNotANumber),
        ("block_size:512", ArgumentError::CountNotANumber),
        ("1", ArgumentError::CountWrong),
        ("0 block_size:512", ArgumentError::CountWrong),
        ("2 block_size:512", ArgumentError::CountWrong),
        ("1 block_size:512 on_full:error", ArgumentError::CountWrong),
        ("1 size:512", ArgumentError::Unknown),
        ("1 block_size", ArgumentError::Unknown),
        ("1 BLOCK_SIZE:512", ArgumentError::Unknown),
        (
            "2 block_size:512 block_size:512",
            ArgumentError::BlockSizeRepeated,
        ),
        (
            "2 on_full:error on_full:error",
            ArgumentError::OnFullRepeated,
        ),
        ("1 block_size:", ArgumentError::BlockSize),
        ("1 block_size:0", ArgumentError::BlockSize),
        ("1 block_size:256", ArgumentError::BlockSize),
        ("1 block_size:513", ArgumentError::BlockSize),
        ("1 block_size:8192", ArgumentError::BlockSize),
        ("1 block_size:+512", ArgumentError::BlockSize),
        ("1 block_size:99999999999", ArgumentError::BlockSize),
        (
            "2 no_discard_passdown no_discard_passdown",
            ArgumentError::NoDiscardPassdownRepeated,
        ),
        ("2 resume resume", ArgumentError::ResumeRepeated),
        ("1 resumed", ArgumentError::Unknown),
        ("1 resume:", ArgumentError::Uuid),
        (
            "1 resume:0123456789abcdef0123456789abcde",
            ArgumentError::Uuid,
        ),
        (
            "1 resume:0123456789abcdef0123456789abcdef0",
            ArgumentError::Uuid,
        ),
        (
            "1 resume:0123456789abcdef0123456789abcdeg",
            ArgumentError::Uuid,
        ),
        ("1 on_full:", ArgumentError::OnFull),
        ("1 on_full:panic", ArgumentError::OnFull),
    ] {
        assert_eq!(parse(line), Err(fault), "{line}");
    }
}

#[test]
fn the_default_is_4096_whatever_the_size() {
    let default = Arguments::default();
    let chosen = |sectors, logical| {
        default
            .block_size_for(sectors, logical)
            .map(BlockSize::bytes)
    };

    for sectors in [32, 39, 131_071, 131_072, u64::MAX] {
        for logical in [512, 1024, 2048, 4096] {
            assert_eq!(chosen(sectors, logical), Ok(4096));
        }
    }
    assert_eq!(chosen(131_072, 8192), Err(ArgumentError::BlockSizeTooSmall));
    // A checkpoint takes four blocks.
    for sectors in [0, 1, 7, 8, 24, 31] {
        assert_eq!(chosen(sectors, 512), Err(ArgumentError::DeviceTooSmall));
    }

    let given = parse("1 block_size:2048").unwrap();
    let chosen = |sectors, logical| given.block_size_for(sectors, logical);
    assert_eq!(chosen(131_071, 512), Ok(given.block_size.unwrap()));
    assert_eq!(chosen(16, 512), Ok(given.block_size.unwrap()));
    assert_eq!(chosen(15, 512), Err(ArgumentError::DeviceTooSmall));
    assert_eq!(chosen(131_072, 4096), Err(ArgumentError::BlockSizeTooSmall));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_words_do_no_harm(words in vec(vec(any::<u8>(), 0..20), 0..6)) {
        let _ = Arguments::parse(words.iter().map(Vec::as_slice));
    }
}
