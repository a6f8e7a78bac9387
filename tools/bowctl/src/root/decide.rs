// SPDX-License-Identifier: GPL-2.0

//! The decision that an initramfs takes about the root partition, before any file system is mounted.
//!
//! A decision never keeps a new state that nobody asked to be kept, nor a machine from booting whose
//! partition holds no log.

use bow_decisions::log::Boot;

/// Value of [`Boot::tries_left`] beside [`Boot::RESTORE`]: the failed boot's report was looked for already. To mount
/// the new state once more could fail once more, for ever.
pub const REPORT_TRIED: u8 = 255;

/// Word by which GRUB's entry tells how many tries it has left (`tools/root/grub/42_bow`), if those are none.
const NO_TRIES: &str = "bow.tries_left=0";

/// Log that was found on the partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// None: the partition is plain.
    None,
    /// A log block that is damaged.
    Damaged,
    /// A log of which a restore has begun.
    Restoring,
    /// An open checkpoint.
    Open {
        /// Its boot fields.
        boot: Boot,
        /// The log has what it takes to go on with the checkpoint.
        resumable: bool,
    },
}

/// Value of `bow=` on the kernel's command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// Boot without dm-bow.
    Off,
    /// Go back to the checkpoint.
    Restore,
    /// Go back to the checkpoint: the boot loader has counted, and does not boot the new state.
    NotTried,
    /// Keep the new state.
    Commit,
}

impl Word {
    /// Reads the kernel's command line. The last word counts, if it is a known one.
    pub fn find(command_line: &str) -> Option<Self> {
        let value = command_line
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("bow="))
            .next_back()?;

        match value {
            "off" => Some(Self::Off),
            "restore" if command_line.split_whitespace().any(|word| word == NO_TRIES) => {
                Some(Self::NotTried)
            }
            "restore" => Some(Self::Restore),
            "commit" => Some(Self::Commit),
            _ => None,
        }
    }
}

/// All that the decision depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Situation {
    /// The kernel was started by one that has crashed, and is there to save its memory.
    pub crashed: bool,
    /// Log on the partition.
    pub found: Found,
    /// The target can be used: there is a module for this kernel.
    pub module: bool,
    /// Word on the kernel's command line.
    pub word: Option<Word>,
}

/// Ways to go on from an open checkpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Go on with the checkpoint.
    Resume,
    /// Go back to it.
    Restore,
    /// Keep the new state.
    Commit,
}

/// Reason why nothing is done without a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The log is damaged.
    Damaged,
    /// `bow=off`, and a log on the partition.
    Off,
}

/// Reason why the old state is restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// A restore has begun, and must end.
    Begun,
    /// The kernel's command line says so.
    Word,
    /// The log says so.
    Requested,
    /// The new state has been tried as often as it might be.
    TriesUsedUp,
    /// A person at the console said so, or nobody did.
    Asked,
}

/// Decision about the root partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Mount the partition itself.
    Plain,
    /// Lay bow over it, in state 0.
    Track,
    /// Go on with the checkpoint, and change nothing of what the log says.
    Resume,
    /// Leave it to the next boot: this one can neither use the partition nor decide.
    Reboot,
    /// Try the new state: note in the log that so many tries are left, durably, then go on with the checkpoint.
    Try {
        /// Boots that may be tried after this one.
        left: u8,
    },
    /// Restore the old state, and reboot.
    Restore(Why),
    /// Keep the new state, then as without a log.
    Commit,
    /// Ask at the console, and after a time go this way.
    Ask(Way),
    /// Write nothing, mount nothing.
    Stop(Stop),
}

/// Takes the decision.
pub fn decide(situation: Situation) -> Decision {
    let Situation {
        crashed,
        found,
        module,
        word,
    } = situation;

    if crashed {
        return after_crash(found, module);
    }
    match (found, word) {
        (Found::None, Some(Word::Off)) => Decision::Plain,
        (Found::None, _) if module => Decision::Track,
        (Found::None, _) => Decision::Plain,

        (Found::Damaged, _) => Decision::Stop(Stop::Damaged),
        (_, Some(Word::Off)) => Decision::Stop(Stop::Off),
        // The partition is in neither state: nothing else helps, and nothing is lost by it.
        (Found::Restoring, _) => Decision::Restore(Why::Begun),

        (Found::Open { .. }, Some(Word::Restore)) => Decision::Restore(Why::Word),
        (Found::Open { boot, .. }, Some(Word::NotTried)) => Decision::Restore(match boot.action {
            Boot::RESTORE => Why::Requested,
            Boot::TRY => Why::TriesUsedUp,
            _ => Why::Word,
        }),
        (Found::Open { .. }, Some(Word::Commit)) => Decision::Commit,
        (Found::Open { boot, resumable }, None) => open(boot, module && resumable),
    }
}

/// Decides for a kernel that was started by one that has crashed.
///
/// It was not chosen by a person or a boot loader, has the command line of the one before, and is no try of the
/// new state. It needs a place for what it saves, and what it boots after that decides.
fn after_crash(found: Found, module: bool) -> Decision {
    match found {
        // bow would only take memory, of which there is little.
        Found::None => Decision::Plain,
        Found::Open {
            resumable: true, ..
        } if module => Decision::Resume,
        _ => Decision::Reboot,
    }
}

/// Decides about an open checkpoint by its boot fields. `can_resume`: it could be gone on with.
fn open(boot: Boot, can_resume: bool) -> Decision {
    match (boot.action, boot.tries_left) {
        (Boot::RESTORE, _) => Decision::Restore(Why::Requested),
        (Boot::TRY, 0) => Decision::Restore(Why::TriesUsedUp),
        (Boot::TRY, left) if can_resume => Decision::Try { left: left - 1 },
        // Nobody has said that the checkpoint may end, so it goes on.
        (_, _) if can_resume => Decision::Ask(Way::Resume),
        (_, _) => Decision::Ask(Way::Restore),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [Option<Word>; 5] = [
        None,
        Some(Word::Off),
        Some(Word::Restore),
        Some(Word::NotTried),
        Some(Word::Commit),
    ];

    fn boot(action: u8, tries_left: u8) -> Boot {
        Boot {
            action,
            tries_left,
            tries: 3,
        }
    }

    /// Returns all combinations, with a few values of what has many.
    fn situations() -> impl Iterator<Item = Situation> {
        let logs = [Found::None, Found::Damaged, Found::Restoring]
            .into_iter()
            .chain((0..=4).flat_map(|action| {
                [0, 1, 2, 3, REPORT_TRIED]
                    .into_iter()
                    .flat_map(move |left| {
                        [true, false].map(|resumable| Found::Open {
                            boot: boot(action, left),
                            resumable,
                        })
                    })
            }));

        logs.flat_map(|found| {
            [true, false].into_iter().flat_map(move |module| {
                WORDS.map(|word| Situation {
                    crashed: false,
                    found,
                    module,
                    word,
                })
            })
        })
    }

    fn decide_for(found: Found, module: bool, word: Option<Word>) -> Decision {
        decide(Situation {
            crashed: false,
            found,
            module,
            word,
        })
    }

    /// Returns the decision on an open checkpoint that can be resumed, as far as its log goes.
    fn open_for(action: u8, left: u8, module: bool, word: Option<Word>) -> Decision {
        let found = Found::Open {
            boot: boot(action, left),
            resumable: true,
        };

        decide_for(found, module, word)
    }

    #[test]
    fn without_a_log_the_machine_boots() {
        for word in WORDS {
            let with = decide_for(Found::None, true, word);
            let off = word == Some(Word::Off);

            assert_eq!(
                with,
                if off {
                    Decision::Plain
                } else {
                    Decision::Track
                }
            );
            assert_eq!(decide_for(Found::None, false, word), Decision::Plain);
        }
    }

    #[test]
    fn a_damaged_log_is_left_alone() {
        for situation in situations().filter(|situation| situation.found == Found::Damaged) {
            assert_eq!(decide(situation), Decision::Stop(Stop::Damaged));
        }
    }

    #[test]
    fn a_restore_that_has_begun_is_ended() {
        for module in [true, false] {
            for word in WORDS.into_iter().filter(|&word| word != Some(Word::Off)) {
                let decision = decide_for(Found::Restoring, module, word);

                assert_eq!(decision, Decision::Restore(Why::Begun));
            }
            let decision = decide_for(Found::Restoring, module, Some(Word::Off));
            assert_eq!(decision, Decision::Stop(Stop::Off));
        }
    }

    #[test]
    fn a_word_decides_about_an_open_checkpoint() {
        for situation in situations() {
            if !matches!(situation.found, Found::Open { .. }) {
                continue;
            }
            let decision = decide(situation);

            match situation.word {
                Some(Word::Off) => assert_eq!(decision, Decision::Stop(Stop::Off)),
                Some(Word::Restore) => assert_eq!(decision, Decision::Restore(Why::Word)),
                Some(Word::NotTried) => {
                    assert!(matches!(decision, Decision::Restore(why) if why != Why::Begun));
                }
                Some(Word::Commit) => assert_eq!(decision, Decision::Commit),
                None => assert_ne!(decision, Decision::Commit),
            }
        }
    }

    #[test]
    fn a_restore_that_is_asked_for_needs_no_module() {
        for left in [0, 3, REPORT_TRIED] {
            for module in [true, false] {
                let decision = open_for(Boot::RESTORE, left, module, None);

                assert_eq!(decision, Decision::Restore(Why::Requested));
            }
        }
    }

    /// The reason that is left to the old system is not that somebody asked.
    #[test]
    fn a_boot_loader_that_has_counted_says_why() {
        let word = Some(Word::NotTried);

        for module in [true, false] {
            for (action, why) in [
                (Boot::RESTORE, Why::Requested),
                (Boot::TRY, Why::TriesUsedUp),
                (0, Why::Word),
            ] {
                assert_eq!(open_for(action, 3, module, word), Decision::Restore(why));
            }
        }
    }

    #[test]
    fn tries_are_counted_down() {
        for left in 1..=255 {
            assert_eq!(
                open_for(Boot::TRY, left, true, None),
                Decision::Try { left: left - 1 }
            );
            assert_eq!(
                open_for(Boot::TRY, left, false, None),
                Decision::Ask(Way::Restore)
            );
        }
        for module in [true, false] {
            assert_eq!(
                open_for(Boot::TRY, 0, module, None),
                Decision::Restore(Why::TriesUsedUp)
            );
        }
    }

    /// Nothing is to be done at the next boot, or nothing that this program knows.
    #[test]
    fn a_checkpoint_that_holds_is_gone_on_with() {
        for action in [0, 3, 4, 255] {
            for left in [0, 1, 255] {
                assert_eq!(
                    open_for(action, left, true, None),
                    Decision::Ask(Way::Resume)
                );
                assert_eq!(
                    open_for(action, left, false, None),
                    Decision::Ask(Way::Restore)
                );
            }
        }
    }

    /// A log that the target cannot go on with is as bad as no target.
    #[test]
    fn a_log_that_cannot_be_resumed_is_like_no_module() {
        for situation in situations() {
            if let Found::Open {
                boot,
                resumable: false,
            } = situation.found
            {
                let without = Situation {
                    found: Found::Open {
                        boot,
                        resumable: true,
                    },
                    module: false,
                    ..situation
                };

                assert_eq!(decide(situation), decide(without));
            }
        }
    }

    /// Whatever is found: only a word commits, only a log without damage is written to, and what is plain boots.
    #[test]
    fn never_by_accident() {
        let mut number = 0;

        for situation in situations() {
            let decision = decide(situation);
            let can_resume = situation.module
                && matches!(
                    situation.found,
                    Found::Open {
                        resumable: true,
                        ..
                    }
                );

            number += 1;
            match decision {
                Decision::Commit => assert_eq!(situation.word, Some(Word::Commit)),
                Decision::Ask(way) => assert_ne!(way, Way::Commit),
                Decision::Try { .. } => assert!(can_resume),
                Decision::Plain => assert_eq!(situation.found, Found::None),
                Decision::Track => assert!(situation.found == Found::None && situation.module),
                Decision::Resume | Decision::Reboot => panic!("{situation:?}"),
                Decision::Stop(_) => assert_ne!(situation.found, Found::None),
                Decision::Restore(_) => assert!(matches!(
                    situation.found,
                    Found::Restoring | Found::Open { .. }
                )),
            }
            if decision == Decision::Ask(Way::Resume) {
                assert!(can_resume);
            }
        }
        assert_eq!(number, (3 + 5 * 5 * 2) * 2 * 5);
    }

    /// Whatever the log and the command line say: nothing is decided, and no try is counted.
    #[test]
    fn a_kernel_that_saves_a_crash_decides_nothing() {
        for situation in situations() {
            let decision = decide(Situation {
                crashed: true,
                ..situation
            });
            let can_resume = situation.module
                && matches!(
                    situation.found,
                    Found::Open {
                        resumable: true,
                        ..
                    }
                );

            assert_eq!(
                decision,
                match situation.found {
                    Found::None => Decision::Plain,
                    _ if can_resume => Decision::Resume,
                    _ => Decision::Reboot,
                }
            );
        }
    }

    #[test]
    fn words_of_a_command_line() {
        assert_eq!(Word::find("quiet root=UUID=1 bow=off"), Some(Word::Off));
        assert_eq!(Word::find("bow=commit bow=restore ro"), Some(Word::Restore));
        assert_eq!(Word::find("bow=commit\n"), Some(Word::Commit));
        for (left, word) in [
            ("", Word::Restore),
            ("3", Word::Restore),
            ("0", Word::NotTried),
        ] {
            let line = format!("ro bow=restore bow.tries_left={left}");

            assert_eq!(Word::find(&line), Some(word));
        }
        assert_eq!(Word::find("bow.tries_left=0"), None);
        for line in ["", "quiet", "elbow=commit", "bow=", "bow=restored", "bow"] {
            assert_eq!(Word::find(line), None, "{line}");
        }
    }
}
