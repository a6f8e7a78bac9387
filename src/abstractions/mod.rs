// SPDX-License-Identifier: GPL-2.0

//! Safe kernel interfaces that the kernel crate does not have yet.
//!
//! All `unsafe` of the module is in this folder, and nothing in it knows of one target. [`dm`] uses
//! [`block`] and [`workqueue`], [`block`] uses [`srcu`]; [`sysfs`] uses [`dm`].
//! [`series`] has the differences between kernels.

/// C declarations, as bindgen makes them.
#[allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
#[cfg_attr(CONFIG_RUSTC_HAS_UNNECESSARY_TRANSMUTES, allow(unnecessary_transmutes))]
mod bindings {
    include!(env!("DM_BOW_BINDINGS"));
}

pub(crate) mod block;
pub(crate) mod dm;
mod series;
pub(crate) mod srcu;
pub(crate) mod sysfs;
pub(crate) mod time;
pub(crate) mod workqueue;
