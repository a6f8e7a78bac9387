// SPDX-License-Identifier: GPL-2.0

//! What looks into the decision layer: property tests against naive models.

mod free_space;
mod ranges;
mod table;
