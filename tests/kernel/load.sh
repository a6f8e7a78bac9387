#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The module loads, registers the target, and unloads, twice over.
# timeout: 30
. "$(dirname "$0")/lib.sh"
plan 4

for round in first second; do
    load_bow
    check "$round load: dmsetup targets lists bow" \
        sh -c "dmsetup targets | grep -qE '^bow +v[0-9]+\.[0-9]+\.[0-9]+$'"
    check "$round unload" unload_bow
done
loaded=0
