# SPDX-License-Identifier: GPL-2.0
#
# The front door: each target is a script, which also runs by itself. The
# kernel's own build reads Kbuild, not this file.

KDIR ?= /lib/modules/$(shell uname -r)/build
PREFIX ?= /usr
T ?=

export KDIR PREFIX DESTDIR
# For a message that names the command; exporting the variable itself would
# confuse the kernel's build.
export DM_BOW_GOAL := $(MAKECMDGOALS)

.DEFAULT_GOAL := all
.PHONY: all help module tools paths install clean clean-cache update watch \
	rust-analyzer upstream demo demo-root bench test test-host test-kernel test-powercut test-boot test-crash \
	test-crash-teeth test-series test-debug test-fuzz test-packages deb check

all: ## the module for the running kernel, or for KDIR=
	@scripts/native-module

module: ## the module for the test kernel, in a build root
	@scripts/module >/dev/null

tools: ## bowctl, statically linked, its manual page and completions, in a build root
	@scripts/tools >/dev/null

paths: ## builds both and prints where they and the test kernel are (make -s paths)
	@scripts/paths

demo: ## from nothing to a rollback, in a virtual machine
	@scripts/demo

demo-root: ## a Debian machine updates itself, breaks, and comes back, with its console shown
	@scripts/demo-root

bench: ## what a checkpoint costs next to dm-linear and dm-snapshot (ROWS=, DEVICES=)
	@nice scripts/bench

test: ## all tests: kernel, power cut, crash sweep, host, fuzzing, checks
	@tests/run

test-kernel: ## kernel selftests in a guest, all or T="name other*"
	@set -f; tests/run-kernel $(T)

test-powercut: ## the power is cut in mid-update, then restore and compare
	@tests/run-powercut

test-boot: ## a Debian machine is updated, broken and cut off in all ways, all or T="name other*" (KIND=dracut)
	@set -f; tests/run-boot $(if $(KIND),--kind $(KIND)) $(T)

test-crash: ## the crash sweep at length: 60,000 states and more
	@tests/run-crash --states 60000 --cut-offs 6000 --mounts 12

test-crash-teeth: ## negative controls: modules that are wrong in one way each, which the sweep must catch
	@tests/run-crash-teeth

test-series: ## selftests and a tenth of the crash sweep on every series of scripts/kernels.conf
	@tests/run-series

test-debug: ## selftests, faults and a soak in a debug kernel, which it builds once (T=, SOAK_SECONDS=)
	@set -f; tests/run-debug $(T)

test-host: ## the tests that need no kernel
	@tests/run-host

test-fuzz: ## hostile logs, devices and table lines, SECONDS= in all (60)
	@tests/run-fuzz $(SECONDS)

test-packages: ## Debian packages: lintian, installed, upgraded, removed, the module built by DKMS (T=)
	@set -f; tests/run-packages $(T)

check: ## formatting, clippy, rustdoc, shellcheck, small stack frames, unsafe, structure
	@tests/run-check

install: ## what make or make module built, bowctl, manual page, completions (DESTDIR=, PREFIX=)
	@scripts/install

deb: ## Debian packages, in build/deb (REVISION= is appended to the version)
	@scripts/deb

rust-analyzer: ## rust-project.json for editors
	@scripts/rust-analyzer

upstream: ## src/abstractions as patches for the kernel, checked by its checkpatch.pl
	@scripts/upstream

watch: ## tries kernels and Rust compilers that are new in the archive (SUITE=, T=), and writes what broke
	@set -f; T="$(T)" scripts/watch $(SUITE)

update: ## look for newer packages and kernels (the cache is kept as it is until then)
	@scripts/update

clean: ## what was built in the checkout
	rm -rf build rust-project.json

clean-cache: ## build root, kernel tree and guest (all checkouts share them)
	@scripts/clean-cache

help: ## this text
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' Makefile | expand -t 18
	@echo
	@echo '  Variables: KDIR= (kernel build folder for all), T= (selftests),'
	@echo '  SERIES= and ARCH= (scripts/kernels.conf), DM_BOW_CACHE= (default ~/.cache/dm-bow).'
