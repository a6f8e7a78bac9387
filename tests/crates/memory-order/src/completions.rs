// SPDX-License-Identifier: GPL-2.0

//! Bios of a batch complete on several CPUs, while the worker looks whether all have.

use crate::{
    abstractions::block::bio::Status,
    decisions::batch::CopyError,
    flight::{Flight, Part},
};
use loom::{sync::Arc, thread};

/// Lets `parts` fail, each in a thread of its own, after the submitter has sent them. `look` is called by the
/// worker once, at any moment.
fn fail_all(parts: &'static [Part], look: fn(&Flight)) {
    loom::model(move || {
        let flight = Arc::new(Flight::new());
        flight.reset();
        flight.launch();
        let completions: Vec<_> = parts
            .iter()
            .map(|&part| {
                flight.add();
                let flight = flight.clone();
                thread::spawn(move || {
                    flight.record(part, Status::IOERR);
                    flight.landed()
                })
            })
            .collect();
        let mut last = usize::from(flight.landed());
        if flight.has_landed() {
            look(&flight);
        }
        for completion in completions {
            last += usize::from(completion.join().expect("a thread panicked"));
        }
        // The worker is woken once.
        assert_eq!(last, 1);
        assert!(flight.has_landed());
        look(&flight);
    });
}

#[test]
fn a_phase_has_one_end_and_then_all_errors_are_there() {
    fail_all(
        &[Part::Read(0), Part::Write { first: 1, count: 2 }],
        |flight| {
            assert_eq!(flight.error(0), Some((CopyError::Read, Status::IOERR)));
            assert_eq!(flight.error(1), Some((CopyError::Write, Status::IOERR)));
            assert_eq!(flight.error(2), Some((CopyError::Write, Status::IOERR)));
            assert_eq!(flight.error(3), None);
        },
    );
}

#[test]
fn errors_of_the_log_are_there_too() {
    fail_all(&[Part::FullLogBlock(1), Part::Log], |flight| {
        assert_eq!(flight.full_log_block_error(), Some((1, Status::IOERR)));
        assert_eq!(flight.log_error(), Some(Status::IOERR));
    });
}
