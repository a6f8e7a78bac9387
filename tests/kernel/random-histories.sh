#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Checkpoints with everything about them drawn by lot: geometry, load, policy, end.
# timeout: 200
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 1
load_bow

# FIRST=n begins with that seed, LENGTH=n goes on for so many seconds: for a soak,
# raise LENGTH and `# timeout:`. A seed makes the same history again, but for the
# order in which the device completes what is in flight.
seed=${FIRST:-1} length=${LENGTH:-20} histories=0
# Of most block sizes the end cuts off the last one.
dev=$(slice data 32773)

# history: one checkpoint from beginning to end. Says why when something is wrong.
history() {
    local policy=error cache=() status
    [ $((RANDOM % 3)) != 0 ] || policy=commit
    # The page cache reports a failed write as EIO, and late: only where none fails.
    [ $policy = error ] || [ $((RANDOM % 3)) != 0 ] || cache=(--buffered)
    exercise fill "$dev" --seed "$seed" || return
    bow_create bow0 "$dev" "block_size:$((512 << (RANDOM % 4)))" "on_full:$policy" || return
    exercise free /dev/mapper/bow0 --seed "$seed" --shred $((1 + RANDOM % 60)) \
        "$((RANDOM % 16000))+$((512 + RANDOM % 14000))" || return
    exercise run /dev/mapper/bow0 --seed "$seed" --ops 60 --max 32 \
        --mix read=4,write=3,discard=8,zero=1,punch=1 || return
    checkpoint bow0 || return
    exercise run /dev/mapper/bow0 --seed "$seed" --ops $((50 + RANDOM % 400)) --read-back \
        --max $((1 << (RANDOM % 10))) --depth $((1 + RANDOM % 32)) --no-verify ${cache[@]+"${cache[@]}"}
    status=$?
    case $status$policy in
    0* | 4error) ;;
    *) return "$status" ;;
    esac
    exercise verify /dev/mapper/bow0 || return
    dmsetup status bow0
    if [ "$(bow_state bow0)" = 1 ] && [ $((RANDOM % 3)) != 0 ]; then
        bow_remove bow0 && image_of "$dev" "$work/left-over" &&
            python3 -I -S "$reader" restore "$work/left-over" && as_saved "$work/left-over" &&
            bowctl restore "$dev" && as_saved "$dev"
    else
        { [ "$(bow_state bow0)" = 2 ] || bow_set bow0 2; } &&
            exercise run /dev/mapper/bow0 --seed "$seed" --ops 50 --no-verify &&
            bow_remove bow0 && exercise verify "$dev"
    fi
}

end=$((SECONDS + length))
# On a machine that has no time for it, three at least.
while [ "$SECONDS" -lt "$end" ] || [ "$histories" -lt 3 ]; do
    # The same numbers again after the same seed, but not in a subshell.
    RANDOM=$seed
    if ! history >"$work/out" 2>&1; then
        not_ok "history with FIRST=$seed" "$(tail -n 20 "$work/out")"
        break
    fi
    histories=$((histories + 1)) seed=$((seed + 1))
done
[ "$failures" != 0 ] || ok "$histories histories, all right"
