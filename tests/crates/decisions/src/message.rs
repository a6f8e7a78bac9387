// SPDX-License-Identifier: GPL-2.0

//! Messages: the words of each, and words that are none.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::decisions::log::Boot;
use crate::decisions::low_water::LowWater;
use crate::decisions::message::Message;
use crate::decisions::state::State;
use crate::decisions::table::OnFull;

fn parse(text: &str) -> Option<Message> {
    Message::parse(text.split_whitespace().map(str::as_bytes))
}

#[test]
fn each_message_is_read() {
    let boot = |action, tries| {
        Some(Message::Boot(Boot {
            action,
            tries_left: tries,
            tries,
        }))
    };

    assert_eq!(parse("checkpoint"), Some(Message::State(State::Checkpoint)));
    assert_eq!(parse("commit"), Some(Message::State(State::Committed)));
    assert_eq!(parse("track"), Some(Message::State(State::Tracking)));
    for policy in [OnFull::Error, OnFull::Commit, OnFull::Wait] {
        let text = format!("on_full {}", policy.word());
        assert_eq!(parse(&text), Some(Message::OnFull(policy)));
        assert_eq!(OnFull::from_raw(policy.to_raw()), policy);
    }
    for (text, mark) in [
        ("low_water 0", LowWater::NONE),
        ("low_water 4096", LowWater::Bytes(4096)),
        ("low_water 10%", LowWater::PerCent(10)),
    ] {
        assert_eq!(parse(text), Some(Message::LowWater(mark)));
        assert_eq!(LowWater::from_raw(mark.to_raw()), mark);
    }
    assert_eq!(parse("boot hold"), boot(0, 0));
    assert_eq!(parse("boot try 3"), boot(Boot::TRY, 3));
    assert_eq!(parse("boot try 255"), boot(Boot::TRY, 255));
    assert_eq!(parse("boot restore"), boot(Boot::RESTORE, 0));
}

#[test]
fn other_words_are_refused() {
    for text in [
        "",
        "check",
        "checkpoint now",
        "on_full",
        "on_full panic",
        "low_water",
        "low_water -1",
        "low_water 1k",
        "low_water 101%",
        "low_water %",
        "low_water 9223372036854775808",
        "on_full wait 3",
        "boot",
        "boot now",
        "boot try",
        "boot try 0",
        "boot try 256",
        "boot try -1",
        "boot try 1 1",
        "boot hold 1",
    ] {
        assert_eq!(parse(text), None, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_words_are_read_or_refused(words in vec(vec(any::<u8>(), 0..8), 0..4)) {
        let _ = Message::parse(words.iter().map(Vec::as_slice));
    }
}
