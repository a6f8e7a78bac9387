// SPDX-License-Identifier: GPL-2.0

//! Registration of a target, and the callbacks of device mapper.

use super::{
    args::Args,
    bio::{
        per_bio_data,
        Bio,
        NewBio, //
    },
    events::Events,
    instances::{
        AddError,
        Instance,
        Instances,
        Shared, //
    },
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
};
use crate::abstractions::bindings as dm_bindings;
use core::ptr::NonNull;
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
    str::Formatter,
    sync::Arc,
    types::Opaque, //
};

/// Registration of a target. Dropping it unregisters.
///
/// # Invariants
///
/// `target_type` is registered, and its `private` data, in each table line, is an [`Instance`] of `instances`.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Target> {
    #[pin]
    instances: Instances<T>,
    #[pin]
    target_type: Opaque<dm_bindings::target_type>,
}

// SAFETY: The C code guards its list of target types.
unsafe impl<T: Target> Send for Registration<T> {}
// SAFETY: As above.
unsafe impl<T: Target> Sync for Registration<T> {}

// Control-flow integrity (CONFIG_CFI) compares the types of a callback and of its call by their names in C. Two of
// bindgen's types have another: an enumeration, which is an integer there, and a pointer to a function that may be NULL,
// which is an `Option`. A callback with one of these has the types below instead.

/// Kind of a status, by the name that it has in C.
#[allow(non_camel_case_types)]
#[repr(C)]
struct status_type_t(dm_bindings::status_type_t);

/// Function that `iterate_devices` calls for a device.
type CalloutFn = unsafe extern "C" fn(
    *mut dm_bindings::dm_target,
    *mut dm_bindings::dm_dev,
    bindings::sector_t,
    bindings::sector_t,
    *mut c_void,
) -> c_int;

type StatusFn =
    unsafe extern "C" fn(*mut dm_bindings::dm_target, status_type_t, c_uint, *mut c_char, c_uint);

type IterateDevicesFn =
    unsafe extern "C" fn(*mut dm_bindings::dm_target, CalloutFn, *mut c_void) -> c_int;

impl<T: Target> Registration<T> {
    /// Registers the target.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is a target of that name.
    pub(crate) fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // INVARIANT: `ctr` is the only one that sets `private`.
        try_pin_init!(Self {
            instances <- Instances::new(),
            target_type <- Opaque::try_ffi_init(
                move |slot: *mut dm_bindings::target_type| {
                    // SAFETY: `slot` is memory for a `target_type`.
                    unsafe { slot.write(Self::target_type(module)) };
                    // SAFETY: `slot` was just initialised, and stays where it is until it is unregistered.
                    to_result(unsafe { dm_bindings::dm_register_target(slot) })
                },
            ),
        })
    }

    fn target_type(module: &'static ThisModule) -> dm_bindings::target_type {
        // Without `end_io` nobody would drop it.
        const { assert!(T::HAS_END_IO || !core::mem::needs_drop::<T::BioData>()) };
        // Device mapper aligns it as its own structures.
        const { assert!(align_of::<T::BioData>() <= align_of::<u64>()) };
        let feature = |has, feature: u32| if has { u64::from(feature) } else { 0 };
        dm_bindings::target_type {
            features: feature(T::ALWAYS_WRITEABLE, dm_bindings::DM_TARGET_ALWAYS_WRITEABLE)
                | feature(T::NOWAIT, dm_bindings::DM_TARGET_NOWAIT),
            name: T::NAME.as_char_ptr(),
            module: module.as_ptr(),
            version: T::VERSION,
            ctr: Some(Self::ctr),
            dtr: Some(Self::dtr),
            map: Some(Self::map),
            end_io: if T::HAS_END_IO {
                Some(Self::end_io)
            } else {
                None
            },
            presuspend: Some(Self::presuspend),
            presuspend_undo: Some(Self::presuspend_undo),
            postsuspend: Some(Self::postsuspend),
            preresume: Some(Self::preresume),
            resume: Some(Self::resume),
            // SAFETY: `status_type_t` is passed as the enumeration that it is a copy of, by the calling conventions
            // of x86-64 and arm64 for a structure that has one integer.
            status: unsafe {
                core::mem::transmute::<StatusFn, dm_bindings::dm_status_fn>(Self::status)
            },
            message: if T::HAS_MESSAGE {
                Some(Self::message)
            } else {
                None
            },
            prepare_ioctl: Some(Self::prepare_ioctl),
            // SAFETY: The two differ in `Option` around a function pointer, which is passed alike; device mapper
            // always has a function.
            iterate_devices: unsafe {
                core::mem::transmute::<IterateDevicesFn, dm_bindings::dm_iterate_devices_fn>(
                    Self::iterate_devices,
                )
            },
            io_hints: if T::HAS_IO_HINTS {
                Some(Self::io_hints)
            } else {
                None
            },
            ..Default::default()
        }
    }

    /// Returns the table lines of the registration that `ti` is of.
    ///
    /// # Safety
    ///
    /// `ti` is of a target type that [`new`](Self::new) has registered, for as long as it is used.
    unsafe fn instances<'a>(ti: *mut dm_bindings::dm_target) -> &'a Instances<T> {
        // SAFETY: By the safety requirements `ti` is valid.
        let target_type = unsafe { (*ti).type_ };
        let target_type = Opaque::cast_from(target_type);
        // SAFETY: By the safety requirements the type is in a registration.
        let this = unsafe { kernel::container_of!(target_type, Self, target_type) };
        // SAFETY: The registration stays while there are tables: they hold a reference to the module.
        unsafe { &(*this).instances }
    }

    /// Returns the instance of a table line.
    ///
    /// # Safety
    ///
    /// `ti` was constructed by [`ctr`](Self::ctr) and not destroyed.
    #[inline]
    unsafe fn instance<'a>(ti: *mut dm_bindings::dm_target) -> &'a Instance<T> {
        // SAFETY: By the safety requirements `ti` is valid.
        let private = unsafe { (*ti).private };
        // SAFETY: By the safety requirements `private` is what `ctr` put there.
        unsafe { &*private.cast::<Instance<T>>() }
    }

    /// # Safety
    ///
    /// As the C code calls `dm_ctr_fn`:
    /// - `ti` is being constructed, and nobody else uses it;
    /// - `argv` has `argc` C strings.
    unsafe extern "C" fn ctr(
        ti: *mut dm_bindings::dm_target,
        argc: c_uint,
        argv: *mut *mut c_char,
    ) -> c_int {
        // SAFETY: Device mapper has set the type.
        let instances = unsafe { Self::instances(ti) };
        // SAFETY: By the safety requirements.
        let ti = unsafe { &mut *ti };
        // SAFETY: By the safety requirements.
        let args = unsafe { Args::new(argc, argv) };
        from_result(|| {
            Self::construct(ti, instances, args).map_err(|CtrError(error, sentence)| {
                ti.error = sentence.as_char_ptr().cast_mut();
                error
            })?;
            ti.num_flush_bios = u32::from(T::FLUSHES);
            ti.num_discard_bios = u32::from(T::DISCARDS);
            ti.num_write_zeroes_bios = u32::from(T::WRITE_ZEROES);
            ti.per_io_data_size = size_of::<T::BioData>() as u32;
            ti.set_discards_supported(T::DISCARDS);
            ti.set_accounts_remapped_io(true);
            Ok(0)
        })
    }

    /// Makes the instance of a table line, and puts it into `ti`.
    fn construct(
        ti: &mut dm_bindings::dm_target,
        instances: &Instances<T>,
        args: Args<'_>,
    ) -> Result<(), CtrError> {
        // SAFETY: `ti` has a table, which has a mapped device.
        let mapped_device = unsafe { dm_bindings::dm_table_get_md(ti.table) };
        let live = if T::HAS_RELOAD {
            instances.live(mapped_device)
        } else {
            None
        };
        let no_memory = |error| CtrError(error, c"not enough memory");
        let events = match &live {
            Some(live) => live.events.clone(),
            None => Events::new().map_err(no_memory)?,
        };
        let mut table = NewTable {
            ti,
            opened: None,
            mapped_device,
            instances,
            events: events.clone(),
            live: live.clone(),
        };
        let target = match &live {
            // The constant keeps `reload` out of the code of a target that has none, for which it does not link.
            Some(live) if T::HAS_RELOAD => live
                .target
                .reload(&mut table, args)
                .map(|()| live.target.clone()),
            _ => T::ctr(&mut table, args)
                .and_then(|target| Arc::pin_init(target, GFP_KERNEL).map_err(no_memory)),
        };
        let NewTable { ti, opened, .. } = table;
        let Some((opened, device)) = opened else {
            return target.and(Err(CtrError(ENODEV, c"the device is missing")));
        };
        // A live object, and its device, are ended by the last of its tables that is in the list.
        let is_shared = live
            .as_ref()
            .is_some_and(|live| Arc::ptr_eq(&live.device, &device));
        let ended = target.as_ref().ok().filter(|_| live.is_none()).cloned();
        let instance = target.and_then(|target| {
            let shared = Shared {
                target,
                device: device.clone(),
                events,
            };
            instances
                .add(
                    shared,
                    opened,
                    mapped_device,
                    live.as_ref(),
                    T::HAS_RELOAD,
                    T::conflicts,
                )
                .map_err(|error| match error {
                    AddError::Late => CtrError(
                        EAGAIN,
                        c"another table has come or gone meanwhile; try again",
                    ),
                    AddError::OtherDevice => CtrError(EBUSY, c"the device cannot change"),
                    AddError::NoMemory => no_memory(ENOMEM),
                })
        });
        match instance {
            Ok(instance) => {
                ti.private = instance.as_ptr().cast();
                Ok(())
            }
            Err(error) => {
                if !is_shared {
                    device.close();
                    if let Some(target) = ended {
                        target.dtr();
                    }
                }
                // SAFETY: `opened` is what this line has opened. Nobody uses the block device any more, or
                // another table has it open.
                unsafe { dm_bindings::dm_put_device(ti, opened.as_ptr()) };
                Err(error)
            }
        }
    }

    /// # Safety
    ///
    /// As the C code calls `dm_dtr_fn`: `ti` was constructed, and nobody uses it any more.
    unsafe extern "C" fn dtr(ti: *mut dm_bindings::dm_target) {
        // SAFETY: By the safety requirements `ti` was constructed.
        let instances = unsafe { Self::instances(ti) };
        // SAFETY: As above.
        let instance = NonNull::from(unsafe { Self::instance(ti) });
        // SAFETY: `ctr` got it from `add`, and by the safety requirements nobody uses it any more.
        let (instance, is_shared) = unsafe { instances.remove(instance) };
        if !is_shared {
            // Internal I/O ends first, and none can begin. Only then does the object end.
            instance.shared.device.close();
            instance.shared.target.dtr();
        }
        let opened = instance.opened.as_ptr();
        drop(instance);
        // SAFETY: By the invariants of `Instance` this line has opened it. Nobody uses the block device any
        // more, or another table has it open.
        unsafe { dm_bindings::dm_put_device(ti, opened) };
    }

    /// # Safety
    ///
    /// As the C code calls `dm_map_fn`:
    /// - `ti` was constructed;
    /// - `bio` is a clone with per-bio data that is the target's from now on.
    unsafe extern "C" fn map(ti: *mut dm_bindings::dm_target, bio: *mut bindings::bio) -> c_int {
        // SAFETY: By the safety requirements `ti` was constructed.
        let instance = unsafe { Self::instance(ti) };
        // SAFETY: By the safety requirements there is per-bio data, of the size that `ctr` asked for.
        let data = unsafe { per_bio_data::<T::BioData>(bio) };
        // SAFETY: The data is behind the bio, so its address is not null.
        let data = unsafe { NonNull::new_unchecked(data) };
        // SAFETY: The data is memory of that type.
        unsafe { data.write(T::BioData::default()) };
        // SAFETY: By the invariants of `Instance` the device is open.
        let bdev = unsafe { instance.opened.as_ref().bdev };
        // SAFETY: By the safety requirements the bio is ours.
        unsafe { dm_bindings::helper_bio_set_dev(bio, bdev) };
        // SAFETY: A bio is never null.
        let given = unsafe { NonNull::new_unchecked(bio) };
        // SAFETY: By the safety requirements, and its data was just initialised.
        let bio = unsafe { Bio::from_raw(given) };
        // SAFETY: The address is the one that device mapper gave for this bio.
        let bio = unsafe { NewBio::new(bio, data) };
        match T::map(instance.shared.target.as_arc_borrow(), bio) {
            Some(bio) if bio.is(given) => {
                let _ = bio.into_raw();
                dm_bindings::DM_MAPIO_REMAPPED as c_int
            }
            // Another one, which the target had kept.
            Some(bio) => {
                bio.submit();
                dm_bindings::DM_MAPIO_SUBMITTED as c_int
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
        // SAFETY: By the safety requirements `ti` was constructed.
        let instance = unsafe { Self::instance(ti) };
        // SAFETY: By the safety requirements there is per-bio data.
        let data = unsafe { per_bio_data::<T::BioData>(bio) };
        // SAFETY: `map` has initialised the data, which is used for the last time here.
        let data = unsafe { data.read() };
        T::end_io(instance.shared.target.as_arc_borrow(), data);
        dm_bindings::DM_ENDIO_DONE as c_int
    }

    /// # Safety
    ///
    /// As the C code calls `dm_presuspend_fn`: `ti` was constructed.
    unsafe extern "C" fn presuspend(ti: *mut dm_bindings::dm_target) {
        // SAFETY: By the safety requirements.
        T::presuspend(unsafe { &Self::instance(ti).shared.target });
    }

    /// # Safety
    ///
    /// As the C code calls `dm_presuspend_undo_fn`: `ti` was constructed.
    unsafe extern "C" fn presuspend_undo(ti: *mut dm_bindings::dm_target) {
        // SAFETY: By the safety requirements.
        T::presuspend_undo(unsafe { &Self::instance(ti).shared.target });
    }

    /// # Safety
    ///
    /// As the C code calls `dm_postsuspend_fn`: `ti` was constructed.
    unsafe extern "C" fn postsuspend(ti: *mut dm_bindings::dm_target) {
        // SAFETY: By the safety requirements.
        let shared = unsafe { &Self::instance(ti).shared };
        T::postsuspend(&shared.target);
        // SAFETY: Null takes the table away.
        unsafe { shared.events.set_table(core::ptr::null_mut()) };
    }

    /// # Safety
    ///
    /// As the C code calls `dm_preresume_fn`: `ti` was constructed.
    unsafe extern "C" fn preresume(ti: *mut dm_bindings::dm_target) -> c_int {
        // SAFETY: By the safety requirements.
        let instance = unsafe { Self::instance(ti) };
        if T::HAS_RELOAD && instance.is_stale() {
            pr_err!(
                "{}: another table has gone live since this one was loaded; load it again\n",
                instance.shared.device.name()
            );
            return EBUSY.to_errno();
        }
        0
    }

    /// # Safety
    ///
    /// As the C code calls `dm_resume_fn`: `ti` was constructed.
    unsafe extern "C" fn resume(ti: *mut dm_bindings::dm_target) {
        // SAFETY: By the safety requirements `ti` was constructed.
        let instances = unsafe { Self::instances(ti) };
        // SAFETY: As above.
        let instance = unsafe { Self::instance(ti) };
        // SAFETY: As above; device mapper does not change it meanwhile.
        let ti = unsafe { &*ti };
        instances.go_live(instance);
        // SAFETY: The table goes live; `postsuspend`, which comes before its end, takes it away.
        unsafe { instance.shared.events.set_table(ti.table) };
        T::resume(&instance.shared.target, &LiveTable { ti });
    }

    /// # Safety
    ///
    /// As the C code calls `dm_status_fn`:
    /// - `ti` was constructed;
    /// - `result` has `maxlen` bytes that are nobody else's during the call.
    unsafe extern "C" fn status(
        ti: *mut dm_bindings::dm_target,
        kind: status_type_t,
        _flags: c_uint,
        result: *mut c_char,
        maxlen: c_uint,
    ) {
        // SAFETY: By the safety requirements.
        let target = unsafe { &Self::instance(ti).shared.target };
        let result = result.cast::<u8>();
        // SAFETY: By the safety requirements; zeroes are valid bytes.
        unsafe { result.write_bytes(0, maxlen as usize) };
        // The last byte stays zero.
        let length = maxlen.saturating_sub(1) as usize;
        // SAFETY: By the safety requirements, and the bytes were just initialised.
        let buffer = unsafe { core::slice::from_raw_parts_mut(result, length) };
        let out = &mut Formatter::new(buffer);
        // The text is cut where the buffer is full.
        let _ = match kind.0 {
            dm_bindings::status_type_t_STATUSTYPE_INFO => target.status(out),
            dm_bindings::status_type_t_STATUSTYPE_TABLE => target.table(out),
            _ => target.measurement(out),
        };
    }

    /// # Safety
    ///
    /// As the C code calls `dm_message_fn`:
    /// - `ti` was constructed;
    /// - `argv` has `argc` C strings.
    unsafe extern "C" fn message(
        ti: *mut dm_bindings::dm_target,
        argc: c_uint,
        argv: *mut *mut c_char,
        _result: *mut c_char,
        _maxlen: c_uint,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let target = unsafe { &Self::instance(ti).shared.target };
        // SAFETY: By the safety requirements.
        let args = unsafe { Args::new(argc, argv) };
        from_result(|| {
            T::message(target.as_arc_borrow(), args)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As the C code calls `dm_prepare_ioctl_fn`:
    /// - `ti` was constructed;
    /// - `bdev` may be written to.
    unsafe extern "C" fn prepare_ioctl(
        ti: *mut dm_bindings::dm_target,
        bdev: *mut *mut bindings::block_device,
        _command: c_uint,
        _argument: c_ulong,
        _forward: *mut bool,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let instance = unsafe { Self::instance(ti) };
        // SAFETY: By the invariants of `Instance` the device is open.
        let opened = unsafe { instance.opened.as_ref().bdev };
        // SAFETY: By the safety requirements.
        unsafe { *bdev = opened };
        match instance.shared.target.prepare_ioctl() {
            IoctlAccess::Passed => 0,
            IoctlAccess::Privileged => 1,
        }
    }

    /// # Safety
    ///
    /// As the C code calls `dm_iterate_devices_fn`:
    /// - `ti` was constructed;
    /// - `callout` may be called with `data`.
    unsafe extern "C" fn iterate_devices(
        ti: *mut dm_bindings::dm_target,
        callout: CalloutFn,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: By the safety requirements.
        let instance = unsafe { Self::instance(ti) };
        // SAFETY: By the safety requirements.
        let sectors = unsafe { (*ti).len };
        let opened = instance.opened.as_ptr();
        let start = instance.shared.target.start();
        // SAFETY: By the safety requirements; the device is open.
        unsafe { callout(ti, opened, start, sectors, data) }
    }

    /// # Safety
    ///
    /// As the C code calls `dm_io_hints_fn`:
    /// - `ti` was constructed;
    /// - `limits` may be written to.
    unsafe extern "C" fn io_hints(
        ti: *mut dm_bindings::dm_target,
        limits: *mut bindings::queue_limits,
    ) {
        // SAFETY: By the safety requirements.
        let target = unsafe { &Self::instance(ti).shared.target };
        // SAFETY: By the safety requirements.
        let limits = unsafe { &mut *limits };
        target.io_hints(&mut Limits(limits));
    }
}

#[pinned_drop]
impl<T: Target> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants it is registered. The module is not unloaded while a table uses it,
        // so the list of instances is empty.
        unsafe { dm_bindings::dm_unregister_target(self.target_type.get()) };
    }
}
