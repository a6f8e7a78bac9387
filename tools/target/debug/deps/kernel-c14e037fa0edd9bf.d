/work/main/tools/target/debug/deps/kernel-c14e037fa0edd9bf.d: kernel/src/lib.rs kernel/src/alloc.rs kernel/src/alloc/allocator.rs kernel/src/alloc/kbox.rs kernel/src/alloc/kvec.rs kernel/src/error.rs kernel/src/inject.rs kernel/src/rbtree.rs Cargo.toml

/work/main/tools/target/debug/deps/libkernel-c14e037fa0edd9bf.rmeta: kernel/src/lib.rs kernel/src/alloc.rs kernel/src/alloc/allocator.rs kernel/src/alloc/kbox.rs kernel/src/alloc/kvec.rs kernel/src/error.rs kernel/src/inject.rs kernel/src/rbtree.rs Cargo.toml

kernel/src/lib.rs:
kernel/src/alloc.rs:
kernel/src/alloc/allocator.rs:
kernel/src/alloc/kbox.rs:
kernel/src/alloc/kvec.rs:
kernel/src/error.rs:
kernel/src/inject.rs:
kernel/src/rbtree.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=
# env-dep:CLIPPY_CONF_DIR
