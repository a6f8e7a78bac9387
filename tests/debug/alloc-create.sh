#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Each allocation of the constructor, the first resume and a reload fails once: refused, or done without.
# timeout: 100
. "$(dirname "$0")/common/faults.sh"
need_faults
plan 8
load_bow
faults_on

dev=$(slice data 16384)
other=$(slice other 2048)
exercise fill "$dev" --window 0+8000 >/dev/null || bail "cannot fill $dev"
before=$(digest "$dev")
sweep "$dev" create
sweep "$dev" second --companion "$(slice companion 2048)"
same "not a byte of the device has changed" "$before" "$(digest "$dev")"
sweep "$dev" reload
covered
