// SPDX-License-Identifier: GPL-2.0

//! Stand-in for `kernel::sync::atomic`, over the atomics of [`loom`].
//!
//! Files of `src/bow` that take no lock are compiled with this crate under the name `kernel`
//! (`tests/crates/memory-order`). It has what they use, under the names of `rust/kernel/sync/atomic.rs`.
//!
//! The kernel's [`Full`](sync::atomic::ordering::Full) is a full barrier before and one after the operation.
//! Here it is as weak as the fences of C11 allow, so what holds here holds there.

#![forbid(unsafe_code)]

/// Synchronisation, as `rust/kernel/sync.rs`.
pub mod sync {
    /// Atomic types, as `rust/kernel/sync/atomic.rs`.
    pub mod atomic {
        use loom::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};

        /// Orders of an atomic operation.
        pub mod ordering {
            /// No order.
            #[derive(Clone, Copy)]
            pub struct Relaxed;
            /// Later accesses come later.
            #[derive(Clone, Copy)]
            pub struct Acquire;
            /// Earlier accesses come earlier.
            #[derive(Clone, Copy)]
            pub struct Release;
            /// A full barrier before and after.
            #[derive(Clone, Copy)]
            pub struct Full;
        }
        use ordering::{Acquire, Full, Relaxed, Release};

        /// An order for an operation that reads and writes.
        pub trait AnyOrder {
            /// That of the operation itself.
            const ORDER: Ordering;
            /// Is a barrier where the order has one.
            fn barrier() {}
        }

        /// An order for a load.
        pub trait LoadOrder: AnyOrder {}

        /// An order for a store.
        pub trait StoreOrder: AnyOrder {}

        impl AnyOrder for Relaxed {
            const ORDER: Ordering = Ordering::Relaxed;
        }
        impl LoadOrder for Relaxed {}
        impl StoreOrder for Relaxed {}
        impl AnyOrder for Acquire {
            const ORDER: Ordering = Ordering::Acquire;
        }
        impl LoadOrder for Acquire {}
        impl AnyOrder for Release {
            const ORDER: Ordering = Ordering::Release;
        }
        impl StoreOrder for Release {}
        impl AnyOrder for Full {
            const ORDER: Ordering = Ordering::AcqRel;
            fn barrier() {
                fence(Ordering::SeqCst);
            }
        }

        /// Number that an [`Atomic`] can hold, with the operations of [`loom`] on it.
        #[allow(missing_docs)]
        pub trait Number: Copy {
            type Cell;
            fn cell(self) -> Self::Cell;
            fn load(cell: &Self::Cell, order: Ordering) -> Self;
            fn store(self, cell: &Self::Cell, order: Ordering);
            fn swap(self, cell: &Self::Cell, order: Ordering) -> Self;
            fn replace(self, new: Self, cell: &Self::Cell, order: Ordering) -> Result<Self, Self>;
            fn add(self, cell: &Self::Cell, order: Ordering) -> Self;
            fn sub(self, cell: &Self::Cell, order: Ordering) -> Self;
        }

        macro_rules! number {
            ($($number:ty: $cell:ty),+) => {
                $(impl Number for $number {
                    type Cell = $cell;
                    fn cell(self) -> $cell {
                        <$cell>::new(self)
                    }
                    fn load(cell: &$cell, order: Ordering) -> Self {
                        cell.load(order)
                    }
                    fn store(self, cell: &$cell, order: Ordering) {
                        cell.store(self, order);
                    }
                    fn swap(self, cell: &$cell, order: Ordering) -> Self {
                        cell.swap(self, order)
                    }
                    fn replace(self, new: Self, cell: &$cell, order: Ordering) -> Result<Self, Self> {
                        cell.compare_exchange(self, new, order, Ordering::Relaxed)
                    }
                    fn add(self, cell: &$cell, order: Ordering) -> Self {
                        cell.fetch_add(self, order)
                    }
                    fn sub(self, cell: &$cell, order: Ordering) -> Self {
                        cell.fetch_sub(self, order)
                    }
                })+
            };
        }
        number!(u32: AtomicU32, u64: AtomicU64);

        /// Number that threads share.
        pub struct Atomic<T: Number>(T::Cell);

        /// Carries out `operation` with the barriers of `O`.
        fn ordered<O: AnyOrder, R>(operation: impl FnOnce(Ordering) -> R) -> R {
            O::barrier();
            let result = operation(O::ORDER);
            O::barrier();
            result
        }

        impl<T: Number> Atomic<T> {
            /// Creates one with `value`.
            pub fn new(value: T) -> Self {
                Self(value.cell())
            }

            /// Reads.
            pub fn load<O: LoadOrder>(&self, _: O) -> T {
                T::load(&self.0, O::ORDER)
            }

            /// Writes.
            pub fn store<O: StoreOrder>(&self, value: T, _: O) {
                value.store(&self.0, O::ORDER);
            }

            /// Writes, and returns what was there.
            pub fn xchg<O: AnyOrder>(&self, value: T, _: O) -> T {
                ordered::<O, _>(|order| value.swap(&self.0, order))
            }

            /// Writes `new` if `old` is there. Returns what was there.
            ///
            /// # Errors
            ///
            /// The value that was there, if that was not `old`.
            pub fn cmpxchg<O: AnyOrder>(&self, old: T, new: T, _: O) -> Result<T, T> {
                ordered::<O, _>(|order| old.replace(new, &self.0, order))
            }

            /// Adds, and returns what was there.
            pub fn fetch_add<O: AnyOrder>(&self, value: T, _: O) -> T {
                ordered::<O, _>(|order| value.add(&self.0, order))
            }

            /// Subtracts, and returns what was there.
            pub fn fetch_sub<O: AnyOrder>(&self, value: T, _: O) -> T {
                ordered::<O, _>(|order| value.sub(&self.0, order))
            }

            /// Adds.
            pub fn add<O: AnyOrder>(&self, value: T, order: O) {
                self.fetch_add(value, order);
            }
        }
    }
}
