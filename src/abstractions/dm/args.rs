// SPDX-License-Identifier: GPL-2.0

//! Words of a table line or a message.

use core::marker::PhantomData;
use kernel::{
    ffi::{
        c_char,
        c_uint, //
    },
    prelude::*,
};

/// Words of a table line or a message, one after the other.
///
/// # Invariants
///
/// `argv` points to `count` C strings that are valid and not changed for the lifetime.
#[derive(Clone)]
pub(crate) struct Args<'a> {
    argv: *mut *mut c_char,
    index: usize,
    count: usize,
    _words: PhantomData<&'a CStr>,
}

impl Args<'_> {
    /// Takes the arguments of a C callback.
    ///
    /// # Safety
    ///
    /// `argv` points to `argc` C strings that are valid and not changed for the lifetime.
    pub(super) unsafe fn new(argc: c_uint, argv: *mut *mut c_char) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            argv,
            index: 0,
            count: argc as usize,
            _words: PhantomData,
        }
    }
}

impl<'a> Iterator for Args<'a> {
    type Item = &'a CStr;

    fn next(&mut self) -> Option<&'a CStr> {
        if self.index >= self.count {
            return None;
        }
        // SAFETY: By the type invariants there are `count` pointers.
        let place = unsafe { self.argv.add(self.index) };
        // SAFETY: As above.
        let word = unsafe { *place };
        self.index += 1;
        // SAFETY: By the type invariants this is a C string.
        Some(unsafe { CStr::from_char_ptr(word.cast_const()) })
    }
}
