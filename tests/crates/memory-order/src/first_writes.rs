// SPDX-License-Identifier: GPL-2.0

//! Writers and the worker change the bits of the same blocks.

use crate::writable_word::{FirstWrites, Word};
use loom::{sync::Arc, thread};

/// Runs `writers`, each in a thread of its own, and `worker` beside them on one word that `prepare` has made. Gives
/// the word, and what they returned, to `check`.
fn beside<W, R>(
    prepare: fn(&Word),
    writers: &'static [fn(&Word) -> W],
    worker: fn(&Word) -> R,
    check: fn(&Word, Vec<W>, R),
) where
    W: Send + 'static,
    R: 'static,
{
    loom::model(move || {
        let word = Arc::new(Word::new());
        prepare(&word);
        let threads: Vec<_> = writers
            .iter()
            .map(|&writer| {
                let word = word.clone();
                thread::spawn(move || writer(&word))
            })
            .collect();
        let result = worker(&word);
        let results = threads
            .into_iter()
            .map(|thread| thread.join().expect("a thread panicked"))
            .collect();
        check(&word, results, result);
    });
}

fn grant_two(word: &Word) {
    assert_eq!(word.set_granted(0b11), 0b11);
}

#[test]
fn a_granted_block_is_written_or_taken_back_and_never_both() {
    beside(
        grant_two,
        &[
            |word| word.admit(0b01).is_some(),
            |word| word.admit(0b10).is_some(),
        ],
        |word| word.take_back(0b11),
        |word, written, taken| {
            // Both blocks go together: where one writer was faster, neither is taken, and all writes pass.
            assert_eq!(written.contains(&true), !taken);
            assert_eq!(written[0], written[1]);
            assert_eq!(word.granted(), 0);
        },
    );
}

#[test]
fn each_first_write_is_counted_once() {
    beside(
        |word| {
            word.set(0b011);
            word.set_prefetched(0b011);
            word.set_granted(0b100);
        },
        &[|word| word.admit(0b011), |word| word.admit(0b110)],
        |word| word.clear(0b010),
        |word, counted, waiting| {
            let mut all = waiting;
            for first in counted.into_iter().flatten() {
                all.add(first);
            }
            all.add(word.clear(0b111));
            assert_eq!(
                all,
                FirstWrites {
                    prefetched: 2,
                    granted: 1
                }
            );
        },
    );
}

#[test]
fn what_the_worker_sets_takes_no_first_write_away() {
    beside(
        |word| {
            word.set_granted(0b01);
        },
        &[|word| word.admit(0b01)],
        |word| {
            word.set(0b11);
            word.set_prefetched(0b10);
        },
        |word, counted, ()| {
            let granted = FirstWrites {
                prefetched: 0,
                granted: 1,
            };
            assert_eq!(counted, [Some(granted)]);
            let prefetched = FirstWrites {
                prefetched: 1,
                granted: 0,
            };
            assert_eq!(word.admit(0b11), Some(prefetched));
        },
    );
}
