// SPDX-License-Identifier: GPL-2.0

//! States: their order, and the words that ask for them.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::decisions::message::Message;
use crate::decisions::state::State;

#[test]
fn states_come_one_after_the_other() {
    let next = |state: State| state.next().map(State::number);

    assert_eq!(next(State::Tracking), Some(1));
    assert_eq!(next(State::Checkpoint), Some(2));
    assert_eq!(next(State::Committed), None);
    for (word, state) in [("0", 0), ("1\n", 1), ("2", 2)] {
        assert_eq!(
            State::from_text(word.as_bytes()).map(State::number),
            Some(state)
        );
    }
    for word in ["", "\n", "3", "01", "1 ", " 1", "1\n\n", "-1", "one"] {
        assert_eq!(State::from_text(word.as_bytes()), None, "{word}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_word_does_no_harm(word in vec(any::<u8>(), 0..20)) {
        let _ = State::from_text(&word);
        let _ = Message::parse(std::iter::once(&word[..]));
    }
}
