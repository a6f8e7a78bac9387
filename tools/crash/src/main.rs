// SPDX-License-Identifier: GPL-2.0

//! `bow-crash`: see Cargo.toml.

fn main() {}
