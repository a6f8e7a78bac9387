// SPDX-License-Identifier: GPL-2.0

//! Table lines of a target, and which of them share an object.

use super::events::Events;
use crate::abstractions::{
    bindings as dm_bindings,
    block::device::Device,
    workqueue::NoIo, //
};
use core::ptr::NonNull;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            ordering::Relaxed,
            Atomic, //
        },
        Arc,
        Mutex, //
    },
};

/// Object of a target with all that its table lines share.
pub(super) struct Shared<T> {
    pub(super) target: Arc<T>,
    pub(super) device: Arc<Device>,
    pub(super) events: Arc<Events>,
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            target: self.target.clone(),
            device: self.device.clone(),
            events: self.events.clone(),
        }
    }
}

/// Table line: `ti->private`.
///
/// # Invariants
///
/// `opened` is what `dm_get_device` gave to this line, and its block device that of `shared.device`.
pub(super) struct Instance<T> {
    pub(super) shared: Shared<T>,
    pub(super) opened: NonNull<dm_bindings::dm_dev>,
    pub(super) mapped_device: *mut dm_bindings::mapped_device,
    /// Set when the table has gone live. Changed with the lock of the list held.
    is_live: Atomic<bool>,
    /// Set when the table must not go live any more. Changed with the lock of the list held.
    is_stale: Atomic<bool>,
}

impl<T> Instance<T> {
    /// Returns whether the table must not go live: it knows nothing of what was done to the device since.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale.load(Relaxed)
    }

    fn is_live(&self) -> bool {
        self.is_live.load(Relaxed)
    }

    fn has_object_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared.target, &other.shared.target)
    }
}

/// Reason why an instance cannot be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddError {
    /// Another table has come or gone meanwhile.
    Late,
    /// Another device than that of the object was opened.
    OtherDevice,
    /// There is no memory.
    NoMemory,
}

/// All table lines of a target.
///
/// # Invariants
///
/// The pointers came from [`KBox::into_raw`] and are valid while they are in the list; it is changed with the
/// lock held.
#[pin_data]
pub(super) struct Instances<T> {
    #[pin]
    list: Mutex<KVec<NonNull<Instance<T>>>>,
}

// SAFETY: The list owns its instances, which may be used by any thread.
unsafe impl<T: Send + Sync> Send for Instances<T> {}
// SAFETY: As above; the list is guarded by the mutex.
unsafe impl<T: Send + Sync> Sync for Instances<T> {}

/// Returns the instances of a list whose lock is held as long as `list` is borrowed.
fn each<T>(list: &[NonNull<Instance<T>>]) -> impl Iterator<Item = &Instance<T>> {
    // SAFETY: By the invariants of `Instances` they are valid while the lock is held.
    list.iter().map(|instance| unsafe { instance.as_ref() })
}

impl<T> Instances<T> {
    /// Creates the empty list.
    pub(super) fn new() -> impl PinInit<Self> {
        // INVARIANT: There is no pointer.
        pin_init!(Self {
            list <- new_mutex!(KVec::new(), "dm_instances"),
        })
    }

    /// Returns the object that `mapped_device` is live with.
    pub(super) fn live(&self, mapped_device: *mut dm_bindings::mapped_device) -> Option<Shared<T>> {
        each(&self.list.lock())
            .find(|other| other.mapped_device == mapped_device && other.is_live())
            .map(|other| other.shared.clone())
    }

    /// Returns whether `test` holds for the object of another device than `mapped_device`.
    pub(super) fn any_other(
        &self,
        mapped_device: *mut dm_bindings::mapped_device,
        test: impl Fn(&T) -> bool,
    ) -> bool {
        each(&self.list.lock())
            .any(|other| other.mapped_device != mapped_device && test(&other.shared.target))
    }

    /// Adds a table line. `live` is the object that the mapped device was live with, if the line shares that.
    /// Two objects of different mapped devices for which `conflicts` holds are never both in the list; nor are
    /// two of one mapped device that is live, if its tables share them (`shares`).
    pub(super) fn add(
        &self,
        shared: Shared<T>,
        opened: NonNull<dm_bindings::dm_dev>,
        mapped_device: *mut dm_bindings::mapped_device,
        live: Option<&Shared<T>>,
        shares: bool,
        conflicts: impl Fn(&T, &T) -> bool,
    ) -> Result<NonNull<Instance<T>>, AddError> {
        let no_memory = |_| AddError::NoMemory;
        // INVARIANT: The caller passes what `NewTable::open` has opened: a device and the handle of it.
        let instance = Instance {
            shared,
            opened,
            mapped_device,
            is_live: Atomic::new(false),
            is_stale: Atomic::new(false),
        };
        let instance = KBox::new(instance, GFP_KERNEL).map_err(no_memory)?;
        // A device whose I/O is stopped takes the lock to start it again.
        let _noio = NoIo::enter();
        let mut list = self.list.lock();
        // The last table with the object may have gone away, and the object with it.
        let is_gone = live.is_some() && !each(&list).any(|other| other.has_object_of(&instance));
        // And another table may have come.
        let is_late = each(&list).any(|other| {
            if other.mapped_device == mapped_device {
                shares && other.is_live() && !other.has_object_of(&instance)
            } else {
                conflicts(&instance.shared.target, &other.shared.target)
            }
        });
        if is_gone || is_late {
            return Err(AddError::Late);
        }
        if live.is_some_and(|live| !Arc::ptr_eq(&live.device, &instance.shared.device)) {
            return Err(AddError::OtherDevice);
        }
        list.reserve(1, GFP_KERNEL).map_err(no_memory)?;
        let instance = NonNull::from(KBox::leak(instance));
        // INVARIANT: From a box. There is capacity.
        let _ = list.push_within_capacity(instance);
        Ok(instance)
    }

    /// Removes a table line. Returns it, and whether another one has its object.
    ///
    /// # Safety
    ///
    /// `instance` came from [`add`](Self::add) of this list, was not removed, and nobody else uses it.
    pub(super) unsafe fn remove(&self, instance: NonNull<Instance<T>>) -> (Instance<T>, bool) {
        let mut list = self.list.lock();
        // The pointer of the list is that of the box; `instance` may have been made from a reference.
        let kept = list.iter().copied().find(|other| *other == instance);
        let kept = kept.unwrap_or(instance);
        list.retain(|other| *other != kept);
        // SAFETY: By the safety requirements it came from a box, and it is not in the list any more.
        let instance = KBox::into_inner(unsafe { KBox::from_raw(kept.as_ptr()) });
        let is_shared = each(&list).any(|other| other.has_object_of(&instance));
        // The object goes on if another table of it is live.
        let goes_on = each(&list).any(|other| other.is_live() && other.has_object_of(&instance));
        if instance.is_live() && !goes_on {
            outdate(&list, &instance, |other| !other.is_live());
        }
        (instance, is_shared)
    }

    /// Records that the table of `instance` goes live.
    pub(super) fn go_live(&self, instance: &Instance<T>) {
        let list = self.list.lock();
        instance.is_live.store(true, Relaxed);
        outdate(&list, instance, |other| !other.has_object_of(instance));
    }
}

/// Has no table of the same mapped device go live for which `test` holds: such a table knows nothing of what is
/// done to the device without it, by the object of `instance` while that is live, and by other targets
/// afterwards.
fn outdate<T>(
    list: &[NonNull<Instance<T>>],
    instance: &Instance<T>,
    test: impl Fn(&Instance<T>) -> bool,
) {
    each(list)
        .filter(|other| other.mapped_device == instance.mapped_device && test(other))
        .for_each(|other| other.is_stale.store(true, Relaxed));
}
