/work/main/tools/target/debug/deps/bow_decisions-2e9861272ed790d8.d: decisions/src/lib.rs decisions/src/../../../src/decisions/log.rs Cargo.toml

/work/main/tools/target/debug/deps/libbow_decisions-2e9861272ed790d8.rmeta: decisions/src/lib.rs decisions/src/../../../src/decisions/log.rs Cargo.toml

decisions/src/lib.rs:
decisions/src/../../../src/decisions/log.rs:
Cargo.toml:

# env-dep:CLIPPY_ARGS=
# env-dep:CLIPPY_CONF_DIR
