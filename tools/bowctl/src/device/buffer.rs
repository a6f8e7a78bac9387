// SPDX-License-Identifier: GPL-2.0

//! Buffers for large reads and writes.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

/// Alignment of a buffer: that of a page, which every device takes.
const ALIGNMENT: usize = 4096;

/// Buffers that are not in use. To make one anew costs a page fault for each of its pages.
#[derive(Clone, Debug, Default)]
pub struct Stash(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that begins at a page. It goes back to its stash when it is dropped.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
    stash: Option<Stash>,
}

impl Stash {
    /// Returns a buffer of `len` bytes, of any contents.
    pub fn take(&self, len: usize) -> Buffer {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = free.pop();

        drop(free);
        Buffer::over(bytes.unwrap_or_default(), len, Some(self.clone()))
    }
}

impl Buffer {
    /// Makes a buffer of `len` bytes.
    pub fn new(len: usize) -> Self {
        Self::over(Vec::new(), len, None)
    }

    fn over(mut bytes: Vec<u8>, len: usize, stash: Option<Stash>) -> Self {
        if bytes.len() < len + ALIGNMENT {
            bytes = vec![0; len + ALIGNMENT];
        }
        Self {
            start: bytes.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT),
            bytes,
            len,
            stash,
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(Stash(free)) = &self.stash {
            let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);

            free.push(std::mem::take(&mut self.bytes));
        }
    }
}
