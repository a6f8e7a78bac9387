// SPDX-License-Identifier: GPL-2.0

//! Events of device mapper, and uevents with figures.
//!
//! The status line says what has happened before the event is raised.
//!
//! A uevent takes memory, and a lock of the kernel's that others hold while they wait for memory, which may take a
//! write to this device. So the worker does not send it: a work item on a queue of its own does.

use super::{
    Bow,
    EVENT, //
};
use crate::{
    abstractions::sysfs::Directory,
    decisions::low_water::LowWater, //
};
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::ordering::Relaxed,
        Arc, //
    },
};

impl Bow {
    /// Raises an event, and has a uevent sent. May sleep; waits for no I/O.
    pub(super) fn announce(self: &Arc<Self>) {
        self.events.raise();
        // One that is queued already has not looked at the status yet.
        let _ = self.event_queue.enqueue::<_, EVENT>(self.clone());
    }

    /// Changes the low-water mark, of which there may be an event again. Any context.
    pub(super) fn set_low_water(self: &Arc<Self>, mark: LowWater) {
        self.low_water.store(mark.to_raw(), Relaxed);
        self.is_low_told.store(0, Relaxed);
        self.wake();
    }

    /// Announces that free space is below the low-water mark, the first time that it is in a checkpoint. To be called
    /// by the worker, in state 1.
    pub(super) fn look_at_low_water(self: &Arc<Self>) {
        if self.low_water() == LowWater::NONE {
            return;
        }
        let report = self.look();
        if report.is_low() && self.is_low_told.xchg(1, Relaxed) == 0 {
            pr_warn!(
                "{}: {} bytes are free for backups, less than the low-water mark\n",
                self.device.name(),
                report.free_bytes()
            );
            self.announce();
        }
    }

    /// Sends a uevent that says what the status line does. Sleeps; waits for memory.
    pub(super) fn send_uevent(&self) {
        let report = self.look();
        let state = CString::try_from_fmt(fmt!("DM_BOW_STATE={}", report.state.number()));
        let status = CString::try_from_fmt(fmt!("DM_BOW_STATUS={}", report.word()));
        let free = CString::try_from_fmt(fmt!("DM_BOW_FREE={}", report.free_bytes()));
        // Without memory for the text there is the event alone.
        let (Ok(state), Ok(status), Ok(free)) = (&state, &status, &free) else {
            return;
        };
        // Not under the lock, which removal takes.
        let device = self.directory.lock().as_ref().map(Directory::device);
        if let Some(device) = device {
            device.send_uevent(&[state, status, free]);
        }
    }
}
