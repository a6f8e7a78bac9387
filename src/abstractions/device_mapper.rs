// SPDX-License-Identifier: GPL-2.0

//! Device-mapper targets: the trait that a target implements, and its registration.
//!
//! A target type implements [`Target`] and is registered with [`Registration`]. A table line of
//! that type calls [`Target::create`], which says how the object is made that all other callbacks
//! get.
//!
//! Several tables of one mapped device may share one object: while a table that was loaded waits
//! for its `resume`, the device has two tables, and a target with state of its own has to go on
//! with it. So for a mapped device that is live with an object already, [`Target::reload`] is
//! called instead, and the new table gets the same object or is refused. A table that was never
//! live has no state worth keeping: its object is not shared.
//!
//! # The end of an object
//!
//! When the last table of an object goes, its [`Device`] is closed: I/O of the object's own has
//! ended then, and none can begin. Only after that does [`Target::destroy`] run, does the object
//! go, and does device mapper close the block device. So none of it depends on what a target does
//! with its references.
//!
//! C header: [`include/linux/device-mapper.h`](srctree/include/linux/device-mapper.h)

use super::{
    bindings as dm_bindings,
    bio::{
        per_bio_data,
        Bio, //
    },
    device::Device,
    queue::NoIo, //
};
use core::{
    ffi::CStr as CoreCStr,
    fmt,
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    ffi::{
        c_char,
        c_int,
        c_uint,
        c_ulong,
        c_void, //
    },
    prelude::*,
    sync::{
        atomic::{
            ordering::Relaxed,
            Atomic, //
        },
        new_mutex,
        Arc,
        ArcBorrow,
        Mutex, //
    },
    types::Opaque, //
};

/// Why a table line is refused: an errno, and a sentence that device mapper prints.
pub(crate) struct Refusal(pub(crate) Error, pub(crate) &'static CStr);

/// A device-mapper target type.
#[vtable]
pub(crate) trait Target: Sized + Send + Sync + 'static {
    /// The name that tables use.
    const NAME: &'static CStr;

    /// Version of the table and status interface.
    const VERSION: [u32; 3];

    /// What the target keeps with each bio. Made anew for each bio, and given to
    /// [`end_io`](Self::end_io) when that ends.
    type BioData: Default + Send;

    /// Creates the target for a table line. Process context; may sleep.
    ///
    /// # Errors
    ///
    /// The line is refused, with the error at the caller's ioctl and the sentence in the log.
    fn create(
        table: &mut NewTable<'_, Self>,
        arguments: Words<'_>,
    ) -> core::result::Result<impl PinInit<Self, Error>, Refusal>;

    /// Takes over another table line, of the mapped device that is live with this object. Process
    /// context; may sleep.
    ///
    /// # Errors
    ///
    /// As for [`create`](Self::create). The object stays as it is.
    fn reload(
        &self,
        table: &mut NewTable<'_, Self>,
        arguments: Words<'_>,
    ) -> core::result::Result<(), Refusal>;

    /// Whether this object and that of another mapped device must not both be there. Must not sleep on
    /// anything: a lock is held.
    fn conflicts(&self, other: &Self) -> bool;

    /// Drops what the object has that refers to it, and waits for work of its own, so that the
    /// caller has the last reference. The last table with the object goes away: no bio of the
    /// mapped device and no I/O of the target's own is in flight, and none will be. May sleep.
    fn destroy(&self);

    /// Decides about a bio: returns it to have it submitted to the device that it was directed to,
    /// or keeps it to submit or end it later. The submitter's context: may sleep, but not on I/O
    /// that the submitter would have to do.
    fn map(this: ArcBorrow<'_, Self>, bio: Bio<Self>) -> Option<Bio<Self>>;

    /// A bio has ended. Any context, also interrupt.
    fn end_io(this: ArcBorrow<'_, Self>, data: Self::BioData);

    /// The table with this object becomes the live one and I/O starts. May sleep.
    fn resume(this: &Arc<Self>, table: &LiveTable<'_>);

    /// I/O has stopped and everything in flight has ended. The next thing that happens may be that
    /// another table goes live, or the end of this one, so when this returns the target has
    /// nothing under way. May sleep, but must not wait for memory.
    fn suspended(this: &Arc<Self>);

    /// Writes what `dmsetup status` (the target's part of it) prints.
    fn status(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Writes the arguments of the table line, such that it can be loaded again.
    fn table(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Writes what the integrity measurement architecture records: `key=value,` for each.
    fn measurement(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Handles `dmsetup message`. May sleep.
    fn message(this: ArcBorrow<'_, Self>, words: Words<'_>) -> Result;

    /// Whether an ioctl that is passed to the device below could harm what the target keeps there,
    /// so that the caller needs `CAP_SYS_RAWIO`.
    fn is_ioctl_dangerous(&self) -> bool;

    /// Adjusts the limits of the mapped device, which are those of the device below.
    fn io_hints(&self, limits: &mut Limits<'_>);
}

/// The words of a table line or a message.
#[derive(Clone)]
pub(crate) struct Words<'a> {
    argv: *mut *mut c_char,
    index: usize,
    count: usize,
    _words: PhantomData<&'a CoreCStr>,
}

impl Words<'_> {
    /// # Safety
    ///
    /// `argv` must point to `argc` C strings that are valid and not changed for the lifetime.
    unsafe fn new(argc: c_uint, argv: *mut *mut c_char) -> Self {
        Self {
            argv,
            index: 0,
            count: argc as usize,
            _words: PhantomData,
        }
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a CStr;

    fn next(&mut self) -> Option<&'a CStr> {
        if self.index >= self.count {
            return None;
        }
        // SAFETY: By the safety requirements of `new` there are `count` C strings.
        let word = unsafe { CStr::from_char_ptr((*self.argv.add(self.index)).cast_const()) };
        self.index += 1;
        Some(word)
    }
}

/// What device mapper knows about one table line of ours: `ti->private`.
///
/// # Invariants
///
/// `opened` is what `dm_get_device` gave to this line, and the block device of `device`.
struct Instance<T: Target> {
    target: Arc<T>,
    device: Arc<Device>,
    opened: NonNull<dm_bindings::dm_dev>,
    mapped_device: *mut dm_bindings::mapped_device,
    /// Set when the table has gone live. Changed with the lock of `INSTANCES` held.
    is_live: Atomic<bool>,
    /// Set when the table must not go live any more. Changed with the lock of `INSTANCES` held.
    is_stale: Atomic<bool>,
}

/// A table line that is being created.
pub(crate) struct NewTable<'a, T: Target> {
    ti: &'a mut dm_bindings::dm_target,
    opened: Option<(NonNull<dm_bindings::dm_dev>, Arc<Device>)>,
    mapped_device: *mut dm_bindings::mapped_device,
    /// The object that the mapped device is live with, and its device.
    live: Option<(Arc<T>, Arc<Device>)>,
}

impl<T: Target> NewTable<'_, T> {
    /// First sector of the mapped device that the line is about.
    pub(crate) fn begin(&self) -> u64 {
        self.ti.begin
    }

    /// Sectors that the line is about.
    pub(crate) fn sectors(&self) -> u64 {
        self.ti.len
    }

    /// Whether `test` holds for the object of another mapped device.
    pub(crate) fn any_other(&self, test: impl Fn(&T) -> bool) -> bool {
        instances::<T>(&INSTANCES.lock())
            .any(|instance| instance.mapped_device != self.mapped_device && test(&instance.target))
    }

    /// Opens the underlying device, once for each table line. For a mapped device that is live on
    /// it this is the [`Device`] that its object has.
    ///
    /// # Errors
    ///
    /// Those of opening the device; `EBUSY` when called twice; `ENOMEM`.
    pub(crate) fn open(&mut self, path: &CStr) -> Result<Arc<Device>> {
        if self.opened.is_some() {
            return Err(EBUSY);
        }
        let mut dev = core::ptr::null_mut();
        // SAFETY: `ti` is being constructed, and `path` is a C string.
        to_result(unsafe {
            let mode = dm_bindings::dm_table_get_mode(self.ti.table);
            dm_bindings::dm_get_device(self.ti, path.as_char_ptr(), mode, &mut dev)
        })?;
        let dev = NonNull::new(dev).ok_or(ENODEV)?;
        let shared = self.live.as_ref().filter(|(_, device)| {
            // SAFETY: `dm_get_device` returned it.
            unsafe { device.is_of(dev) }
        });
        let device = match shared {
            Some((_, device)) => Ok(device.clone()),
            // SAFETY: As above. Whoever closes what a table line has opened closes it first.
            None => unsafe { Device::new(dev) },
        };
        match device {
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

    /// Whether the table is to be read-only.
    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: `ti` is being constructed and has a table.
        let mode = unsafe { dm_bindings::dm_table_get_mode(self.ti.table) };
        mode & dm_bindings::HELPER_BLK_OPEN_WRITE == 0
    }
}

/// The table that a target has just become live with.
pub(crate) struct LiveTable<'a> {
    ti: &'a dm_bindings::dm_target,
}

impl LiveTable<'_> {
    /// The directory of the mapped device in sysfs.
    pub(super) fn kobject(&self) -> *mut bindings::kobject {
        // SAFETY: A table has a mapped device, which has a disk, as long as it is there.
        unsafe {
            let md = dm_bindings::dm_table_get_md(self.ti.table);
            dm_bindings::helper_disk_kobject(dm_bindings::dm_disk(md))
        }
    }
}

/// Raises device-mapper events (`dmsetup wait`) for whichever table is live.
///
/// # Invariants
///
/// The pointer is null, or to a table that is live: it is taken away when the table is suspended,
/// which comes before its end.
#[pin_data]
pub(crate) struct Events {
    #[pin]
    table: Mutex<*mut dm_bindings::dm_table>,
}

// SAFETY: A `dm_table` may be used from any thread; the pointer is guarded by the mutex.
unsafe impl Send for Events {}
// SAFETY: As above.
unsafe impl Sync for Events {}

impl Events {
    /// Creates one that has no table, and raises nothing.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            table <- new_mutex!(core::ptr::null_mut()),
        })
    }

    /// Raises events for `table` from now on.
    pub(crate) fn attach(&self, table: &LiveTable<'_>) {
        *self.table.lock() = table.ti.table;
    }

    /// Raises no events any more. To be called from [`Target::suspended`].
    pub(crate) fn detach(&self) {
        *self.table.lock() = core::ptr::null_mut();
    }

    /// Raises an event. May sleep.
    pub(crate) fn raise(&self) {
        let table = self.table.lock();
        if !table.is_null() {
            // SAFETY: By the type invariant the table is there, and stays while the lock is held.
            unsafe { dm_bindings::dm_table_event(*table) };
        }
    }
}

/// The limits of a mapped device.
pub(crate) struct Limits<'a>(&'a mut bindings::queue_limits);

impl Limits<'_> {
    /// Lets discards of any multiple of `granularity` bytes through, whatever the device below
    /// says.
    pub(crate) fn allow_discards(&mut self, granularity: u32) {
        // The block layer rounds this down to the granularity.
        self.0.max_hw_discard_sectors = u32::MAX >> 9;
        self.0.discard_granularity = granularity;
        self.0.discard_alignment = 0;
    }

    /// Bytes in a logical block.
    pub(crate) fn logical_block_size(&self) -> u32 {
        self.0.logical_block_size
    }
}

/// Text into a buffer of the C code's: a C string that is cut when the buffer is full.
struct Text<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            // The last byte stays zero.
            if self.length + 1 >= self.buffer.len() {
                return Ok(());
            }
            if let Some(place) = self.buffer.get_mut(self.length) {
                *place = byte;
            }
            self.length += 1;
        }
        Ok(())
    }
}

/// The registration of a target type. Dropping it unregisters.
///
/// # Invariants
///
/// `target_type` is registered.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Target> {
    #[pin]
    target_type: Opaque<dm_bindings::target_type>,
    _target: PhantomData<T>,
}

// SAFETY: The C code guards its list of target types.
unsafe impl<T: Target> Send for Registration<T> {}
// SAFETY: As above.
unsafe impl<T: Target> Sync for Registration<T> {}

kernel::sync::global_lock! {
    // SAFETY: Initialised in `Registration::new`, before any table can be created.
    unsafe(uninit) static INSTANCES: Mutex<KVec<usize>> = KVec::new();
}

/// The instances of `list`, which is that of `INSTANCES`, borrowed from its lock.
fn instances<T: Target>(list: &[usize]) -> impl Iterator<Item = &Instance<T>> {
    list.iter().map(|&instance| {
        // SAFETY: Instances are in the list as long as they are there. Changes of the list hold the
        // lock, and so does the caller as long as `list` is borrowed.
        unsafe { &*(instance as *const Instance<T>) }
    })
}

impl<T: Target> Registration<T> {
    /// Registers the target type. At most once in a module.
    pub(crate) fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            target_type <- Opaque::try_ffi_init(
                move |slot: *mut dm_bindings::target_type| {
                    // SAFETY: `slot` is memory for a `target_type`, for which zeroes are valid, and
                    // which stays where it is until it is unregistered. The module initialises one
                    // registration, so that the lock is initialised once.
                    to_result(unsafe {
                        INSTANCES.init();
                        slot.write(Self::target_type(module));
                        dm_bindings::dm_register_target(slot)
                    })
                },
            ),
            _target: PhantomData,
        })
    }

    fn target_type(module: &'static ThisModule) -> dm_bindings::target_type {
        dm_bindings::target_type {
            features: u64::from(
                dm_bindings::DM_TARGET_ALWAYS_WRITEABLE | dm_bindings::DM_TARGET_NOWAIT,
            ),
            name: T::NAME.as_char_ptr(),
            module: module.as_ptr(),
            version: T::VERSION,
            ctr: Some(Self::ctr),
            dtr: Some(Self::dtr),
            map: Some(Self::map),
            end_io: Some(Self::end_io),
            postsuspend: Some(Self::postsuspend),
            preresume: Some(Self::preresume),
            resume: Some(Self::resume),
            status: Some(Self::status),
            message: Some(Self::message),
            prepare_ioctl: Some(Self::prepare_ioctl),
            iterate_devices: Some(Self::iterate_devices),
            io_hints: Some(Self::io_hints),
            ..Default::default()
        }
    }

    /// The instance of a table line.
    ///
    /// # Safety
    ///
    /// `ti` must have been constructed by [`ctr`](Self::ctr) and not destroyed.
    #[inline]
    unsafe fn instance<'a>(ti: *mut dm_bindings::dm_target) -> &'a Instance<T> {
        // SAFETY: By the safety requirements `private` is what `ctr` put there.
        unsafe { &*(*ti).private.cast::<Instance<T>>() }
    }

    /// # Safety
    ///
    /// As the C code calls `dm_ctr_fn`: `ti` is being constructed; `argv` has `argc` C strings.
    unsafe extern "C" fn ctr(
        ti: *mut dm_bindings::dm_target,
        argc: c_uint,
        argv: *mut *mut c_char,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let (ti, words) = unsafe { (&mut *ti, Words::new(argc, argv)) };
        from_result(|| {
            Self::construct(ti, words).map_err(|Refusal(error, sentence)| {
                ti.error = sentence.as_char_ptr().cast_mut();
                error
            })?;
            ti.num_flush_bios = 1;
            ti.num_discard_bios = 1;
            ti.num_write_zeroes_bios = 1;
            ti.per_io_data_size = size_of::<T::BioData>() as u32;
            ti.set_discards_supported(true);
            ti.set_accounts_remapped_io(true);
            Ok(0)
        })
    }

    /// Makes the instance of a table line, and puts it into `ti`.
    fn construct(
        ti: &mut dm_bindings::dm_target,
        words: Words<'_>,
    ) -> core::result::Result<(), Refusal> {
        // SAFETY: `ti` has a table, which has a mapped device.
        let mapped_device = unsafe { dm_bindings::dm_table_get_md(ti.table) };
        let live = instances::<T>(&INSTANCES.lock())
            .find(|other| other.mapped_device == mapped_device && other.is_live.load(Relaxed))
            .map(|other| (other.target.clone(), other.device.clone()));
        let mut table = NewTable {
            ti,
            opened: None,
            mapped_device,
            live: live.clone(),
        };
        let target = match &live {
            Some((target, _)) => target.reload(&mut table, words).map(|()| target.clone()),
            None => T::create(&mut table, words).and_then(|target| {
                Arc::pin_init(target, GFP_KERNEL)
                    .map_err(|error| Refusal(error, c"not enough memory"))
            }),
        };
        let NewTable { ti, opened, .. } = table;
        let Some((opened, device)) = opened else {
            return target.and(Err(Refusal(ENODEV, c"the device is missing")));
        };
        // A live object, and its device, are ended by the last of its tables that is in the list.
        let is_shared = live
            .as_ref()
            .is_some_and(|(_, shared)| Arc::ptr_eq(shared, &device));
        let ended = target.as_ref().ok().filter(|_| live.is_none()).cloned();
        let instance = target.and_then(|target| {
            Self::enlist(
                Instance {
                    target,
                    device: device.clone(),
                    opened,
                    mapped_device,
                    is_live: Atomic::new(false),
                    is_stale: Atomic::new(false),
                },
                live,
            )
        });
        match instance {
            Ok(instance) => {
                ti.private = instance.cast();
                Ok(())
            }
            Err(refusal) => {
                // SAFETY: `opened` is what this line has opened, and nobody else closes it.
                unsafe { Self::close(ti, opened, device, is_shared, ended) };
                Err(refusal)
            }
        }
    }

    /// Puts an instance into the list, whose object is new, or `live`.
    fn enlist(
        instance: Instance<T>,
        live: Option<(Arc<T>, Arc<Device>)>,
    ) -> core::result::Result<*mut Instance<T>, Refusal> {
        let memory = |_| Refusal(ENOMEM, c"not enough memory");
        let instance = KBox::new(instance, GFP_KERNEL).map_err(memory)?;
        // A device whose I/O is stopped takes the lock to start it again.
        let _noio = NoIo::enter();
        let mut list = INSTANCES.lock();
        // The last table with the object may have gone away, and the object with it.
        let is_gone = live.is_some()
            && !instances::<T>(&list).any(|other| Arc::ptr_eq(&other.target, &instance.target));
        // And another table may have come.
        let is_late = instances::<T>(&list).any(|other| {
            if other.mapped_device == instance.mapped_device {
                other.is_live.load(Relaxed) && !Arc::ptr_eq(&other.target, &instance.target)
            } else {
                instance.target.conflicts(&other.target)
            }
        });
        if is_gone || is_late {
            return Err(Refusal(
                EAGAIN,
                c"another table has come or gone meanwhile; try again",
            ));
        }
        if live.is_some_and(|(_, device)| !Arc::ptr_eq(&device, &instance.device)) {
            return Err(Refusal(EBUSY, c"the device cannot change"));
        }
        list.reserve(1, GFP_KERNEL).map_err(memory)?;
        let instance = KBox::into_raw(instance);
        // There is capacity.
        let _ = list.push_within_capacity(instance as usize);
        Ok(instance)
    }

    /// Has no table of the same mapped device go live for which `test` holds: it knows nothing of
    /// what is done to the device without it, by the object of `instance` while that is live, and by
    /// other targets when it is not any more.
    fn outdate(list: &[usize], instance: &Instance<T>, test: impl Fn(&Instance<T>) -> bool) {
        instances::<T>(list)
            .filter(|other| other.mapped_device == instance.mapped_device && test(other))
            .for_each(|other| other.is_stale.store(true, Relaxed));
    }

    /// Closes what a table line that is not in the list has opened. Unless another table has
    /// `device`, which is shared then, first ends all use of it, and `target`.
    ///
    /// # Safety
    ///
    /// `opened` is what `dm_get_device` gave to this line, and the block device of `device`; nobody
    /// closes it again.
    unsafe fn close(
        ti: &mut dm_bindings::dm_target,
        opened: NonNull<dm_bindings::dm_dev>,
        device: Arc<Device>,
        is_shared: bool,
        target: Option<Arc<T>>,
    ) {
        if !is_shared {
            device.close();
            if let Some(target) = &target {
                target.destroy();
            }
        }
        drop(target);
        // SAFETY: By the safety requirements. Nobody uses the block device any more, or another
        // table has it open.
        unsafe { dm_bindings::dm_put_device(ti, opened.as_ptr()) };
    }

    /// # Safety
    ///
    /// As the C code calls `dm_dtr_fn`: `ti` was constructed, and nobody uses it any more.
    unsafe extern "C" fn dtr(ti: *mut dm_bindings::dm_target) {
        // SAFETY: By the safety requirements.
        let ti = unsafe { &mut *ti };
        let instance = ti.private.cast::<Instance<T>>();
        let mut list = INSTANCES.lock();
        list.retain(|&mut other| other != instance as usize);
        // SAFETY: `ctr` made it with `KBox::into_raw`, and it is not in the list any more.
        let instance = KBox::into_inner(unsafe { KBox::from_raw(instance) });
        let is_shared =
            instances::<T>(&list).any(|other| Arc::ptr_eq(&other.target, &instance.target));
        if instance.is_live.load(Relaxed) {
            Self::outdate(&list, &instance, |other| !other.is_live.load(Relaxed));
        }
        drop(list);
        let Instance {
            target,
            device,
            opened,
            ..
        } = instance;
        // SAFETY: By the type invariant.
        unsafe { Self::close(ti, opened, device, is_shared, Some(target)) };
    }

    /// # Safety
    ///
    /// As the C code calls `dm_map_fn`: `bio` is a clone that is the target's from now on.
    unsafe extern "C" fn map(ti: *mut dm_bindings::dm_target, bio: *mut bindings::bio) -> c_int {
        // SAFETY: By the safety requirements `ti` was constructed, and there is per-bio data.
        let (instance, bio) = unsafe {
            let instance = Self::instance(ti);
            per_bio_data::<T>(bio).write(T::BioData::default());
            dm_bindings::helper_bio_set_dev(bio, instance.opened.as_ref().bdev);
            (instance, Bio::<T>::from_raw(NonNull::new_unchecked(bio)))
        };
        match T::map(instance.target.as_arc_borrow(), bio) {
            Some(bio) => {
                let _ = bio.into_raw();
                dm_bindings::DM_MAPIO_REMAPPED as c_int
            }
            None => dm_bindings::DM_MAPIO_SUBMITTED as c_int,
        }
    }

    /// # Safety
    ///
    /// As the C code calls `dm_endio_fn`: `bio` was given to [`map`](Self::map) and has ended.
    unsafe extern "C" fn end_io(
        ti: *mut dm_bindings::dm_target,
        bio: *mut bindings::bio,
        _error: *mut bindings::blk_status_t,
    ) -> c_int {
        // SAFETY: By the safety requirements there is per-bio data, initialised by `map`, that is
        // used for the last time here.
        let (instance, data) = unsafe { (Self::instance(ti), per_bio_data::<T>(bio).read()) };
        T::end_io(instance.target.as_arc_borrow(), data);
        dm_bindings::DM_ENDIO_DONE as c_int
    }

    /// # Safety
    ///
    /// As the C code calls `dm_postsuspend_fn`.
    unsafe extern "C" fn postsuspend(ti: *mut dm_bindings::dm_target) {
        // SAFETY: By the safety requirements `ti` was constructed.
        T::suspended(&unsafe { Self::instance(ti) }.target);
    }

    /// # Safety
    ///
    /// As the C code calls `dm_preresume_fn`.
    unsafe extern "C" fn preresume(ti: *mut dm_bindings::dm_target) -> c_int {
        // SAFETY: By the safety requirements `ti` was constructed.
        let instance = unsafe { Self::instance(ti) };
        if instance.is_stale.load(Relaxed) {
            pr_err!(
                "{}: another table has gone live since this one was loaded; load it again\n",
                instance.device.name()
            );
            return EBUSY.to_errno();
        }
        0
    }

    /// # Safety
    ///
    /// As the C code calls `dm_resume_fn`.
    unsafe extern "C" fn resume(ti: *mut dm_bindings::dm_target) {
        // SAFETY: By the safety requirements `ti` was constructed.
        let (instance, ti) = unsafe { (Self::instance(ti), &*ti) };
        let list = INSTANCES.lock();
        instance.is_live.store(true, Relaxed);
        Self::outdate(&list, instance, |other| {
            !Arc::ptr_eq(&other.target, &instance.target)
        });
        drop(list);
        T::resume(&instance.target, &LiveTable { ti });
    }

    /// # Safety
    ///
    /// As the C code calls `dm_status_fn`: `result` has `maxlen` bytes.
    unsafe extern "C" fn status(
        ti: *mut dm_bindings::dm_target,
        kind: dm_bindings::status_type_t,
        _flags: c_uint,
        result: *mut c_char,
        maxlen: c_uint,
    ) {
        // SAFETY: By the safety requirements; the buffer is nobody else's during the call.
        let (target, buffer) = unsafe {
            core::ptr::write_bytes(result, 0, maxlen as usize);
            (
                &Self::instance(ti).target,
                core::slice::from_raw_parts_mut(result.cast::<u8>(), maxlen as usize),
            )
        };
        let out = &mut Text { buffer, length: 0 };
        // Writing to `Text` does not fail.
        let _ = match kind {
            dm_bindings::status_type_t_STATUSTYPE_INFO => target.status(out),
            dm_bindings::status_type_t_STATUSTYPE_TABLE => target.table(out),
            _ => target.measurement(out),
        };
    }

    /// # Safety
    ///
    /// As the C code calls `dm_message_fn`: `argv` has `argc` C strings.
    unsafe extern "C" fn message(
        ti: *mut dm_bindings::dm_target,
        argc: c_uint,
        argv: *mut *mut c_char,
        _result: *mut c_char,
        _maxlen: c_uint,
    ) -> c_int {
        from_result(|| {
            // SAFETY: By the safety requirements.
            let (instance, words) = unsafe { (Self::instance(ti), Words::new(argc, argv)) };
            T::message(instance.target.as_arc_borrow(), words)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As the C code calls `dm_prepare_ioctl_fn`: `bdev` may be written to.
    unsafe extern "C" fn prepare_ioctl(
        ti: *mut dm_bindings::dm_target,
        bdev: *mut *mut bindings::block_device,
        _command: c_uint,
        _argument: c_ulong,
        _forward: *mut bool,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe {
            let instance = Self::instance(ti);
            *bdev = instance.opened.as_ref().bdev;
            c_int::from(instance.target.is_ioctl_dangerous())
        }
    }

    /// # Safety
    ///
    /// As the C code calls `dm_iterate_devices_fn`: `callout` may be called with `data`.
    unsafe extern "C" fn iterate_devices(
        ti: *mut dm_bindings::dm_target,
        callout: dm_bindings::iterate_devices_callout_fn,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        unsafe {
            let instance = Self::instance(ti);
            callout.map_or(0, |callout| {
                callout(ti, instance.opened.as_ptr(), 0, (*ti).len, data)
            })
        }
    }

    /// # Safety
    ///
    /// As the C code calls `dm_io_hints_fn`: `limits` may be written to.
    unsafe extern "C" fn io_hints(
        ti: *mut dm_bindings::dm_target,
        limits: *mut bindings::queue_limits,
    ) {
        // SAFETY: By the safety requirements.
        let (instance, limits) = unsafe { (Self::instance(ti), &mut *limits) };
        instance.target.io_hints(&mut Limits(limits));
    }
}

#[pinned_drop]
impl<T: Target> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant it is registered. The module is not unloaded while a table
        // uses it.
        unsafe { dm_bindings::dm_unregister_target(self.target_type.get()) };
        // Empty by now, but statics are never dropped, and it keeps its memory.
        drop(core::mem::take(&mut *INSTANCES.lock()));
    }
}
