// SPDX-License-Identifier: GPL-2.0

//! Tables: one that is being loaded, one that goes live, and the limits of a mapped device.

use super::{
    events::Events,
    instances::{
        Instances,
        Shared, //
    },
};
use crate::abstractions::{
    bindings as dm_bindings,
    block::device::Device, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::Arc, //
};

/// Reason why a table line is refused: an errno, and a sentence that device mapper prints.
pub(crate) struct CtrError(pub(crate) Error, pub(crate) &'static CStr);

/// Table line that is being loaded, of a target whose objects are of type `T`.
pub(crate) struct NewTable<'a, T> {
    pub(super) ti: &'a mut dm_bindings::dm_target,
    pub(super) opened: Option<(NonNull<dm_bindings::dm_dev>, Arc<Device>)>,
    pub(super) mapped_device: *mut dm_bindings::mapped_device,
    pub(super) instances: &'a Instances<T>,
    pub(super) events: Arc<Events>,
    /// The object that the mapped device is live with, if its tables share it.
    pub(super) live: Option<Shared<T>>,
}

impl<T> NewTable<'_, T> {
    /// Returns the first sector of the mapped device that the line is about.
    pub(crate) fn begin(&self) -> u64 {
        self.ti.begin
    }

    /// Returns the number of sectors that the line is about.
    pub(crate) fn sectors(&self) -> u64 {
        self.ti.len
    }

    /// Returns the handle that raises events of the object.
    pub(crate) fn events(&self) -> Arc<Events> {
        self.events.clone()
    }

    /// Returns whether `test` holds for the object of another mapped device. A lock is held meanwhile: `test`
    /// does not sleep on anything.
    pub(crate) fn any_other(&self, test: impl Fn(&T) -> bool) -> bool {
        self.instances.any_other(self.mapped_device, test)
    }

    fn mode(&self) -> u32 {
        // SAFETY: `ti` is being constructed and has a table.
        unsafe { dm_bindings::dm_table_get_mode(self.ti.table) }
    }

    /// Returns whether the table is to be read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        self.mode() & dm_bindings::HELPER_BLK_OPEN_WRITE == 0
    }

    /// Opens the underlying device, once for each table line. For a mapped device that is live on it with a
    /// shared object this is the [`Device`] of that object.
    ///
    /// # Errors
    ///
    /// Those of opening the device; `EBUSY` when called twice; `ENOMEM`.
    pub(crate) fn open(&mut self, path: &CStr) -> Result<Arc<Device>> {
        if self.opened.is_some() {
            return Err(EBUSY);
        }
        let mode = self.mode();
        let mut dev = core::ptr::null_mut();
        // SAFETY: `ti` is being constructed, and `path` is a C string.
        to_result(unsafe {
            dm_bindings::dm_get_device(self.ti, path.as_char_ptr(), mode, &mut dev)
        })?;
        let dev = NonNull::new(dev).ok_or(ENODEV)?;
        match self.handle(dev) {
            Ok(device) => {
                self.opened = Some((dev, device.clone()));
                Ok(device)
            }
            Err(error) => {
                // SAFETY: Opened above for this `ti`.
                unsafe { dm_bindings::dm_put_device(self.ti, dev.as_ptr()) };
                Err(error)
            }
        }
    }

    /// Returns the handle of `dev`, which `open` has just opened.
    fn handle(&self, dev: NonNull<dm_bindings::dm_dev>) -> Result<Arc<Device>> {
        // SAFETY: The caller has opened it.
        let bdev = unsafe { dev.as_ref().bdev };
        if let Some(live) = self.live.as_ref().filter(|live| live.device.is_of(bdev)) {
            return Ok(live.device.clone());
        }
        // SAFETY: As above.
        let name = unsafe { dev.as_ref().name.as_ptr() };
        // SAFETY: The name is a C string, and stays while the device is open.
        let name = unsafe { CStr::from_char_ptr(name) };
        // SAFETY: The device is open. Whoever closes what a table line has opened closes the handle first.
        unsafe { Device::new(bdev, name) }
    }
}

/// Table that goes live.
pub(crate) struct LiveTable<'a> {
    pub(super) ti: &'a dm_bindings::dm_target,
}

impl LiveTable<'_> {
    /// Returns the directory of the mapped device in sysfs, which is there as long as the table.
    pub(in crate::abstractions) fn kobject(&self) -> *mut bindings::kobject {
        // SAFETY: A table has a mapped device.
        let md = unsafe { dm_bindings::dm_table_get_md(self.ti.table) };
        // SAFETY: A mapped device has a disk as long as it is there.
        let disk = unsafe { dm_bindings::dm_disk(md) };
        // SAFETY: As above.
        unsafe { dm_bindings::helper_disk_kobject(disk) }
    }
}

/// Limits of a mapped device.
pub(crate) struct Limits<'a>(pub(super) &'a mut bindings::queue_limits);

impl Limits<'_> {
    /// Lets discards of any multiple of `granularity` bytes through, whatever the underlying device says.
    pub(crate) fn allow_discards(&mut self, granularity: u32) {
        // The block layer rounds this down to the granularity.
        self.0.max_hw_discard_sectors = u32::MAX >> bindings::SECTOR_SHIFT;
        self.0.discard_granularity = granularity;
        self.0.discard_alignment = 0;
    }

    /// Returns the bytes of a logical block.
    pub(crate) fn logical_block_size(&self) -> u32 {
        self.0.logical_block_size
    }
}
