// SPDX-License-Identifier: GPL-2.0

//! The boot fields of the log: what is to be done at the next boot.

use bow_decisions::log::Boot;

use crate::device::{Access, FileDevice};
use crate::live::Live;
use crate::recovery;

/// Returns the boot fields of the log of a live device.
pub fn boot(live: &Live) -> Option<Boot> {
    let device = FileDevice::open(&live.underlying()?, Access::Look).ok()?;

    recovery::header(&device).ok().map(|header| header.boot)
}

/// Returns the boot fields of the log if it says that the new state of the root file system may be tried.
pub fn armed() -> Option<Boot> {
    boot(&super::live()?).filter(|boot| boot.action == Boot::TRY)
}

/// Returns whether the log of a live device says that the next boot restores.
pub fn restores(live: &Live) -> bool {
    boot(live).is_some_and(|boot| boot.action == Boot::RESTORE)
}

/// Returns what the log says is to be done at the next boot, in words.
pub fn in_words(boot: Boot) -> String {
    match boot.action {
        Boot::TRY => format!("the new state is tried, {} times at most", boot.tries_left),
        Boot::RESTORE => "the checkpoint is restored".to_owned(),
        _ => "the checkpoint goes on".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_has_words() {
        let boot = |action| Boot {
            action,
            tries_left: 2,
            tries: 3,
        };

        assert!(in_words(boot(Boot::TRY)).contains("2 times"));
        assert!(in_words(boot(Boot::RESTORE)).contains("restored"));
        assert!(in_words(boot(0)).contains("goes on"));
    }
}
