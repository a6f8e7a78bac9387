// SPDX-License-Identifier: GPL-2.0

//! States: their order, and the words that ask for them.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::decisions::state::State;

#[test]
fn states_come_one_after_the_other() {
    assert_eq!(State::Tracking.next(), State::Checkpoint);
    assert_eq!(State::Checkpoint.next(), State::Committed);
    assert_eq!(State::Committed.next(), State::Tracking);
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
    }
}
