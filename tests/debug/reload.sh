#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Remove, suspend, reload and change state under load in a loop, each time with a rollback or a commit.
# timeout: 600
. "$(dirname "$0")/common/faults.sh"
seconds=${SOAK_SECONDS:-40}
seed=${SOAK_SEED:-$(od -An -tu4 -N4 /dev/urandom | tr -d ' ')}
plan 2
load_bow
echo "# seed $seed (SOAK_SEED= runs it again)"
RANDOM=$seed

dev=$(slice data 65536)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
cp "$model" "$saved"

# A load, in the background, that no suspend, reload or commit may disturb.
start_load() {
    load_begin /dev/mapper/bow0 --depth 16 --max 128 --seed "$RANDOM" --range 0+10000 --range 31000+4000
}
one_round() {
    local what
    bow_create bow0 "$dev" || { echo "create"; return 1; }
    exercise free /dev/mapper/bow0 --shred 500 --seed "$RANDOM" 32768+32768 >/dev/null || { echo "discard"; return 1; }
    local line
    line=$(dmsetup table bow0)
    kept=1
    start_load
    steps=$((3 + RANDOM % 5))
    for _ in $(seq "$steps"); do
        case $((RANDOM % 6)) in
        0 | 1) dmsetup suspend bow0 && dmsetup resume bow0 ;;
        2) dmsetup suspend --noflush --nolockfs bow0 && dmsetup resume bow0 ;;
        3) dmsetup load bow0 --table "$line" && dmsetup resume bow0 ;;
        4) dmsetup status bow0 >/dev/null && dmsetup table bow0 >/dev/null && bow_free bow0 >/dev/null ;;
        5) dmsetup suspend "${dev##*/}" && dmsetup resume "${dev##*/}" ;;
        esac || { echo "a step failed"; return 1; }
        sleep "0.$((RANDOM % 3))"
    done
    load_end || { echo "the load in state 0: $(load_said)"; return 1; }
    checkpoint bow0 || { echo "checkpoint"; return 1; }
    start_load
    for _ in $(seq "$steps"); do
        case $((RANDOM % 7)) in
        0 | 1) dmsetup suspend bow0 && dmsetup resume bow0 ;;
        2) dmsetup suspend --noflush --nolockfs bow0 && dmsetup resume bow0 ;;
        3) dmsetup load bow0 --table "$line" && dmsetup resume bow0 ;;
        4) dmsetup status bow0 >/dev/null ;;
        5) dmsetup suspend "${dev##*/}" && dmsetup resume "${dev##*/}" ;;
        6) # While it is suspended a request waits or is refused; it does not hang.
            dmsetup suspend bow0
            timeout 60 bowctl status bow0 >/dev/null 2>&1
            [ $? != 124 ] && dmsetup resume bow0 ;;
        esac || { echo "a step failed"; return 1; }
        sleep "0.$((RANDOM % 3))"
    done
    case $((RANDOM % 3)) in
    0) # Torn away with I/O in flight.
        dmsetup remove --force bow0 >/dev/null 2>&1
        kept='' torn=1 ;;
    1) bow_set bow0 2 || { echo "commit"; return 1; }
        torn='' ;;
    2) kept='' torn='' ;;
    esac
    load_end
    status=$?
    [ "$status" = 0 ] || [ -n "$torn" ] || { echo "the load in state 1: $status, $(load_said)"; return 1; }
    [ -z "$torn" ] || [ "$status" != 1 ] || { echo "wrong data: $(load_said)"; return 1; }
    ! dmsetup info bow0 >/dev/null 2>&1 || bow_remove bow0 || { echo "remove"; return 1; }
    if [ -z "$kept" ]; then
        bowctl restore "$dev" >/dev/null 2>"$work/restore.out" || { echo "restore: $(cat "$work/restore.out")"; return 1; }
        cp "$saved" "$model"
    fi
    exercise verify "$dev" >"$work/verify.out" 2>&1 || { echo "verify: $(cat "$work/verify.out")"; return 1; }
}

rounds=0 bad=''
end=$(($(cut -d. -f1 /proc/uptime) + seconds))
while [ "$(cut -d. -f1 /proc/uptime)" -lt "$end" ]; do
    one_round >"$work/round.out" || { bad="round $rounds: $(cat "$work/round.out")"; break; }
    rounds=$((rounds + 1))
done
same "$rounds rounds of suspend, reload, remove and changes of state" "" "$bad"
dmsetup info bow0 >/dev/null 2>&1 && dmsetup remove --retry bow0
check "the module unloads" unload_bow
loaded=0
echo "# covered: $rounds rounds"
