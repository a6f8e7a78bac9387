// SPDX-License-Identifier: GPL-2.0

//! Implementation of [`Target`], the entry points of device mapper. Each method calls the file that its
//! subject is in.

use super::{
    change::Source,
    map::BioData,
    worker::Change,
    Bio,
    Bow,
    NewBio, //
};
use crate::{
    abstractions::{
        dm::{
            args::Args,
            table::{
                CtrError,
                Limits,
                LiveTable,
                NewTable, //
            },
            target::{
                IoctlAccess,
                Target, //
            },
        },
        sysfs::Directory,
        workqueue::NoIo,
    },
    decisions::{
        message::Message,
        state::State, //
    },
};
use core::fmt;
use kernel::{
    prelude::*,
    sync::{
        atomic::ordering::Relaxed,
        Arc,
        ArcBorrow, //
    },
};

#[vtable]
impl Target for Bow {
    const NAME: &'static CStr = c"bow";
    const VERSION: [u32; 3] = [1, 2, 0];
    const ALWAYS_WRITEABLE: bool = true;
    const NOWAIT: bool = true;
    const DISCARDS: bool = true;
    const WRITE_ZEROES: bool = true;
    type BioData = BioData;

    fn ctr(
        table: &mut NewTable<'_, Self>,
        arguments: Args<'_>,
    ) -> Result<impl PinInit<Self, Error>, CtrError> {
        Bow::create(table, arguments)
    }

    fn reload(&self, table: &mut NewTable<'_, Self>, arguments: Args<'_>) -> Result<(), CtrError> {
        Bow::reload(self, table, arguments)
    }

    fn dtr(&self) {
        drop(self.directory.lock().take());
        self.queue.drain();
        self.event_queue.drain();
    }

    #[inline]
    fn map(this: ArcBorrow<'_, Self>, bio: NewBio<'_>) -> Option<Bio> {
        Bow::map_bio(this, bio)
    }

    #[inline]
    fn end_io(this: ArcBorrow<'_, Self>, data: BioData) {
        Bow::bio_ended(this, data);
    }

    fn resume(this: &Arc<Self>, table: &LiveTable<'_>) {
        *this.requests.lock() = true;
        this.suspending.store(0, Relaxed);
        // I/O of the device waits until this returns, so an allocation must not wait for I/O.
        let _noio = NoIo::enter();
        let mut directory = this.directory.lock();
        if directory.is_none() {
            if this.state() == State::Checkpoint {
                let requests = this.requests.lock();
                let _ = this.request(&requests, Change::Log(None));
            }
            match Directory::new(this.clone(), table) {
                Ok(new) => *directory = Some(new),
                Err(error) => pr_err!(
                    "{}: no directory in sysfs: error {}; use dmsetup message\n",
                    this.device.name(),
                    error.to_errno()
                ),
            }
        }
    }

    fn conflicts(&self, other: &Self) -> bool {
        self.device.number() == other.device.number()
    }

    fn presuspend(this: &Arc<Self>) {
        // Device mapper goes on when all bios have ended, so none may wait for space.
        this.suspending.store(1, Relaxed);
        this.wake();
    }

    fn presuspend_undo(this: &Arc<Self>) {
        this.suspending.store(0, Relaxed);
    }

    fn postsuspend(this: &Arc<Self>) {
        // The next live table may be of another target. Device mapper waits for messages before it swaps
        // tables, but not for sysfs: so a change of state asked for by sysfs ends here, and no further one is
        // accepted.
        let mut is_live = this.requests.lock();
        *is_live = false;
        // Nor does device mapper know of a batch whose writers have all been answered.
        let _ = this.request(&is_live, Change::None);
    }

    fn status(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.write_status(out)
    }

    fn table(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.write_table(out)
    }

    fn measurement(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.write_measurement(out)
    }

    fn message(this: ArcBorrow<'_, Self>, words: Args<'_>) -> Result {
        match Message::parse(words.map(|word| word.to_bytes())) {
            Some(Message::State(state)) => Arc::from(this).change_state(state, Source::Message),
            Some(Message::OnFull(policy)) => {
                this.on_full.store(policy.to_raw(), Relaxed);
                // Writes may wait that fail now.
                Arc::from(this).wake();
                Ok(())
            }
            Some(Message::LowWater(mark)) => {
                Arc::from(this).set_low_water(mark);
                Ok(())
            }
            Some(Message::Boot(boot)) => Arc::from(this).set_boot(boot),
            None => Err(this.unknown_state(
                "only the messages `checkpoint`, `commit`, `track`, `on_full`, `low_water` and `boot` are",
            )),
        }
    }

    fn prepare_ioctl(&self) -> IoctlAccess {
        match self.state() {
            State::Committed => IoctlAccess::Passed,
            State::Tracking | State::Checkpoint => IoctlAccess::Privileged,
        }
    }

    fn io_hints(&self, limits: &mut Limits<'_>) {
        // The record of free space is in sectors, so discards of any size and alignment are useful.
        limits.allow_discards(limits.logical_block_size());
    }
}
