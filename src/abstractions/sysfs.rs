// SPDX-License-Identifier: GPL-2.0

//! A directory of attributes under a mapped device in sysfs, and uevents of that device.
//!
//! C headers: [`include/linux/kobject.h`](srctree/include/linux/kobject.h),
//! [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h)

use super::{
    bindings as dm_bindings,
    dm::table::LiveTable, //
};
use core::{
    fmt,
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    ffi::c_char,
    page::PAGE_SIZE,
    prelude::*,
    str::Formatter,
    sync::Arc,
    types::Opaque, //
};

/// Attribute: a file in the directory.
pub(crate) struct Attribute {
    /// Name of the file.
    pub(crate) name: &'static CStr,
    /// Set if root may write the file. Everybody may read it.
    pub(crate) writable: bool,
}

/// Contents of a directory.
pub(crate) trait Attributes: Send + Sync + 'static {
    /// Name of the directory.
    const NAME: &'static CStr;

    /// Files of the directory; their numbers in this list name them.
    const ATTRIBUTES: &'static [Attribute];

    /// Writes the text of attribute number `index`. May sleep.
    ///
    /// # Errors
    ///
    /// Those that the reader is to get.
    fn show(&self, index: usize, out: &mut dyn fmt::Write) -> Result;

    /// Handles a write of `text` to attribute number `index`. May sleep.
    ///
    /// # Errors
    ///
    /// Those that the writer is to get.
    fn store(this: &Arc<Self>, index: usize, text: &[u8]) -> Result;
}

/// C object, with all that the callbacks need.
#[repr(C)]
struct Node<T: Attributes> {
    kobject: Opaque<bindings::kobject>,
    owner: Arc<T>,
    ktype: bindings::kobj_type,
    ops: bindings::sysfs_ops,
    attributes: KVec<bindings::attribute>,
}

/// Directory in sysfs. Dropping it removes it, and waits for reads and writes of its files that
/// are under way; so it may not be dropped by one of them.
///
/// # Invariants
///
/// `node` was added to sysfs, and is freed by its release function.
pub(crate) struct Directory<T: Attributes> {
    node: NonNull<Node<T>>,
    _owner: PhantomData<Arc<T>>,
}

// SAFETY: `kobject` may be used from any thread.
unsafe impl<T: Attributes> Send for Directory<T> {}
// SAFETY: As above.
unsafe impl<T: Attributes> Sync for Directory<T> {}

impl<T: Attributes> Directory<T> {
    /// Makes the directory, under the mapped device of `table`. Sleeps.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is one of that name; `ENOMEM`.
    pub(crate) fn new(owner: Arc<T>, table: &LiveTable<'_>) -> Result<Self> {
        let mut attributes = KVec::with_capacity(T::ATTRIBUTES.len(), GFP_KERNEL)?;
        for _ in T::ATTRIBUTES {
            attributes.push(bindings::attribute::default(), GFP_KERNEL)?;
        }
        for (raw, attribute) in attributes.iter_mut().zip(T::ATTRIBUTES) {
            raw.name = attribute.name.as_char_ptr();
            raw.mode = if attribute.writable { 0o644 } else { 0o444 };
            // SAFETY: `raw` may be written to.
            unsafe { dm_bindings::helper_sysfs_attr_init(raw) };
        }
        let node = KBox::new(
            Node {
                kobject: Opaque::zeroed(),
                owner,
                ktype: bindings::kobj_type {
                    release: Some(Self::release),
                    ..Default::default()
                },
                ops: bindings::sysfs_ops {
                    show: Some(Self::show),
                    store: Some(Self::store),
                },
                attributes,
            },
            GFP_KERNEL,
        )?;
        let node = KBox::into_raw(node);
        // SAFETY: The node stays where it is until `release`.
        let ops = unsafe { &raw const (*node).ops };
        // SAFETY: As above; nobody else uses the node yet.
        unsafe { (*node).ktype.sysfs_ops = ops };
        // SAFETY: The node stays where it is until `release`.
        let kobject = unsafe { (*node).kobject.get() };
        // SAFETY: As above.
        let ktype = unsafe { &raw const (*node).ktype };
        let format = c"%s".as_char_ptr();
        let name = T::NAME.as_char_ptr();
        // SAFETY: The kobject is zeroed, and its type stays as long as it does. The parent is there as long as
        // the table.
        let result = to_result(unsafe {
            bindings::kobject_init_and_add(kobject, ktype, table.kobject(), format, name)
        });
        // INVARIANT: Added, or dropped below, which `kobject_put` also does for one that could not be added.
        let directory = Self {
            // SAFETY: Not null, from `KBox`.
            node: unsafe { NonNull::new_unchecked(node) },
            _owner: PhantomData,
        };
        result?;
        // SAFETY: By the type invariants the node is valid.
        for attribute in unsafe { &(*node).attributes } {
            let namespace = core::ptr::null();
            // SAFETY: The attribute lives as long as the node.
            to_result(unsafe { bindings::sysfs_create_file_ns(kobject, attribute, namespace) })?;
        }
        Ok(directory)
    }

    /// Returns the mapped device that the directory is under.
    pub(crate) fn device(&self) -> DeviceObject {
        // SAFETY: By the type invariants the node is valid.
        let kobject = unsafe { (*self.node.as_ptr()).kobject.get() };
        // SAFETY: By the type invariants the kobject was added, and so it keeps its parent.
        let parent = unsafe { (*kobject).parent };
        // SAFETY: As above.
        let parent = unsafe { bindings::kobject_get(parent) };
        // INVARIANT: The reference was just made.
        DeviceObject(parent)
    }

    /// Returns the node of a kobject.
    ///
    /// # Safety
    ///
    /// `kobject` must be that of a `Node<T>`.
    unsafe fn node(kobject: *mut bindings::kobject) -> *mut Node<T> {
        // SAFETY: By the safety requirements; `Opaque` is transparent.
        unsafe { kernel::container_of!(Opaque::cast_from(kobject), Node<T>, kobject) }.cast_mut()
    }

    /// Returns the number of an attribute of a node.
    fn index(node: &Node<T>, attribute: *mut bindings::attribute) -> Result<usize> {
        node.attributes
            .iter()
            .position(|other| core::ptr::eq(other, attribute))
            .ok_or(ENOENT)
    }

    /// # Safety
    ///
    /// As sysfs calls `show`:
    /// - `kobject` is that of a `Node<T>`;
    /// - `page` has `PAGE_SIZE` bytes.
    unsafe extern "C" fn show(
        kobject: *mut bindings::kobject,
        attribute: *mut bindings::attribute,
        page: *mut c_char,
    ) -> isize {
        // SAFETY: By the safety requirements.
        let node = unsafe { Self::node(kobject) };
        // SAFETY: By the safety requirements `node` is valid; sysfs keeps it while this runs.
        let node = unsafe { &*node };
        // SAFETY: By the safety requirements.
        let buffer = unsafe { core::slice::from_raw_parts_mut(page.cast::<u8>(), PAGE_SIZE) };
        let mut out = Formatter::new(buffer);
        match Self::index(node, attribute).and_then(|index| node.owner.show(index, &mut out)) {
            Ok(()) => out.bytes_written().min(PAGE_SIZE) as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// As sysfs calls `store`:
    /// - `kobject` is that of a `Node<T>`;
    /// - `text` has `length` bytes.
    unsafe extern "C" fn store(
        kobject: *mut bindings::kobject,
        attribute: *mut bindings::attribute,
        text: *const c_char,
        length: usize,
    ) -> isize {
        // SAFETY: By the safety requirements.
        let node = unsafe { Self::node(kobject) };
        // SAFETY: By the safety requirements `node` is valid; sysfs keeps it while this runs.
        let node = unsafe { &*node };
        // SAFETY: By the safety requirements.
        let text = unsafe { core::slice::from_raw_parts(text.cast::<u8>(), length) };
        match Self::index(node, attribute).and_then(|index| T::store(&node.owner, index, text)) {
            Ok(()) => length as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// As the C code calls `release`: nobody has a reference to the kobject any more.
    unsafe extern "C" fn release(kobject: *mut bindings::kobject) {
        // SAFETY: By the safety requirements.
        let node = unsafe { Self::node(kobject) };
        // SAFETY: `new` made it with `KBox::into_raw`, and by the safety requirements nobody uses it.
        drop(unsafe { KBox::from_raw(node) });
    }
}

/// Maximum number of variables of a uevent.
pub(crate) const VARIABLES_MAX: usize = 4;

/// Mapped device, as sysfs and udev see it.
///
/// # Invariants
///
/// The value owns a reference to the kobject.
pub(crate) struct DeviceObject(*mut bindings::kobject);

impl DeviceObject {
    /// Sends a uevent (`change`) with up to [`VARIABLES_MAX`] `variables` of the form `NAME=value`. Sleeps; waits
    /// for memory, and for others that do. Without memory there is no uevent.
    pub(crate) fn send_uevent(&self, variables: &[&CStr]) {
        let mut list = [core::ptr::null_mut(); VARIABLES_MAX + 1];
        for (place, variable) in list.iter_mut().take(VARIABLES_MAX).zip(variables) {
            *place = variable.as_char_ptr().cast_mut();
        }
        let change = bindings::kobject_action_KOBJ_CHANGE;
        // SAFETY: By the type invariants the kobject is there. `list` ends with a null pointer, and has C strings,
        // which the function only copies.
        unsafe { bindings::kobject_uevent_env(self.0, change, list.as_mut_ptr()) };
    }
}

impl Drop for DeviceObject {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::kobject_put(self.0) };
    }
}

impl<T: Attributes> Drop for Directory<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the node is valid.
        let kobject = unsafe { (*self.node.as_ptr()).kobject.get() };
        // SAFETY: By the type invariants it was added, or could not be, which is allowed too.
        unsafe { bindings::kobject_del(kobject) };
        // SAFETY: `new` has made the reference, and nobody uses it afterwards.
        unsafe { bindings::kobject_put(kobject) };
    }
}
