#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Random table lines, sysfs writes and messages for a fixed time: no refusal changes a byte.
# timeout: 400
. "$(dirname "$0")/common/faults.sh"
seconds=${FUZZ_SECONDS:-40}
seed=${FUZZ_SEED:-$(od -An -tu4 -N4 /dev/urandom | tr -d ' ')}
plan 3
load_bow

dev=$(slice data 16384)
# The upper half is what the fuzzer discards.
exercise fill "$dev" --window 0+8192 >/dev/null || bail "cannot fill $dev"
echo "# seed $seed (FUZZ_SEED= runs it again)"
check "nothing unexpected in $seconds s" python3 -BES "$common_debug/fuzz.py" \
    --seed "$seed" --seconds "$seconds" --device "$dev" --summary "$work/summary"
dmsetup remove --retry bow-fuzz 2>/dev/null
# 3: there is no log.
check "the device has no log, or one that can be rolled back" sh -c "bowctl restore '$dev' || [ \$? = 3 ]"
check "what was never discarded is as it was" exercise verify "$dev"
echo "# covered: $(cat "$work/summary" 2>/dev/null)"
