// SPDX-License-Identifier: GPL-2.0

//! Device-mapper targets.
//!
//! # How to write a target
//!
//! 1. Define a type whose values are the objects of table lines. It is `Send` and `Sync`: callbacks come from
//!    any thread, several at a time.
//! 2. Implement [`target::Target`] for it. [`ctr`](target::Target::ctr) reads the
//!    [arguments](args::Args), opens the underlying device with [`table::NewTable::open`], and returns an
//!    initialiser of the object; [`map`](target::Target::map) decides about each [`bio::Bio`].
//! 3. Say by the trait's constants which bios reach the target, and by `BioData` what it keeps with each.
//! 4. Leave out the optional methods that the target has no use for.
//! 5. Put a [`registration::Registration`] into the module.
//!
//! The C counterparts are `struct target_type` (the trait), `dm_register_target()` (the registration),
//! `struct dm_target` (a table line), `dm_get_device()` (`open`), `dm_accept_partial_bio()`
//! ([`accept_partial`](bio::NewBio::accept_partial)), `dm_submit_bio_remap()` ([`submit`](bio::Bio::submit)) and
//! `dm_table_event()` ([`events::Events::raise`]).
//!
//! # Example
//!
//! dm-linear, whole, is in `tests/kernel/modules/dm_rust_linear.rs`; a selftest runs it.
//!
//! # The end of an object
//!
//! When the last table of an object goes, its [`Device`](super::block::device::Device) is closed: internal I/O
//! has completed then, and none can begin. Only after that does [`dtr`](target::Target::dtr) run, does the
//! object go, and does device mapper close the block device. So none of it depends on what a target does with
//! its references.
//!
//! C header: [`include/linux/device-mapper.h`](srctree/include/linux/device-mapper.h)

pub(crate) mod args;
pub(crate) mod bio;
pub(crate) mod bio_list;
pub(crate) mod events;
mod instances;
pub(crate) mod registration;
pub(crate) mod table;
pub(crate) mod target;
