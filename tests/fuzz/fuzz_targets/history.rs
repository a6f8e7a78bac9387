// SPDX-License-Identifier: GPL-2.0

//! The log of a naive bow device: as it is, it must be restored and committed; damaged, whatever is
//! made of it must do no harm.

#![no_main]

use bow_fuzz::Story;
use bow_model::disk::Disk;
use bow_model::hostile::examine;
use bow_model::restore::restore;
use bowctl::recovery;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|story: Story| {
    let Some(history) = story.run() else {
        return;
    };

    if !story.damage.any() {
        let mut old = Disk::new(history.disk.clone());
        restore(&mut old).unwrap();
        history.assert_rolled_back(&old.data, "rolled back");
        let mut new = Disk::new(history.disk.clone());
        recovery::commit(&mut new).unwrap();
        history.assert(&new.data, history.kept(), "kept");
    }
    let mut image = history.disk;
    story.damage.apply(&mut image, history.block_size);
    let outcome = examine(&image, 2);
    assert!(story.damage.any() || (outcome.restored && outcome.kept));
});
