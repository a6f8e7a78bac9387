// SPDX-License-Identifier: GPL-2.0

//! [`Box`], as `rust/kernel/alloc/kbox.rs`.

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};

use super::allocator::{Allocator, KVmalloc, Kmalloc, Vmalloc};
use super::{AllocError, Flags};

/// The kernel's `Box` type: a value on the heap.
pub struct Box<T, A: Allocator>(std::boxed::Box<T>, PhantomData<A>);

/// Type alias for [`Box`] with a [`Kmalloc`] allocator.
pub type KBox<T> = Box<T, Kmalloc>;

/// Type alias for [`Box`] with a [`Vmalloc`] allocator.
pub type VBox<T> = Box<T, Vmalloc>;

/// Type alias for [`Box`] with a [`KVmalloc`] allocator.
pub type KVBox<T> = Box<T, KVmalloc>;

impl<T, A: Allocator> Box<T, A> {
    /// Creates a new `Box<T, A>` and initializes its contents with `x`.
    pub fn new(x: T, _flags: Flags) -> Result<Self, AllocError> {
        A::allow(size_of::<T>())?;
        Ok(Self(std::boxed::Box::new(x), PhantomData))
    }

    /// Moves the value out of the box.
    pub fn into_inner(b: Self) -> T {
        *b.0
    }
}

impl<T, A: Allocator> Deref for Box<T, A> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T, A: Allocator> DerefMut for Box<T, A> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: fmt::Display, A: Allocator> fmt::Display for Box<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl<T: fmt::Debug, A: Allocator> fmt::Debug for Box<T, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
