# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# shellcheck disable=SC2001,SC2034 # whoever sources it reads them
#
# The results of a scenario as KTAP, for the kernel selftests (tests/kernel/lib.sh)
# and those of the packages (tests/packages/lib.sh). Whoever sources it defines
# klog_mark and klog (the kernel's log since the mark), and undo, which is called
# when the scenario ends.

planned=0 count=0 failures=0 ended=0

# plan N: how many results follow.
plan() {
    planned=$1
    echo "TAP version 13"
    echo "1..$1"
}

ok() {
    count=$((count + 1))
    echo "ok $count - $1"
}

# not_ok NAME [DIAGNOSTIC]
not_ok() {
    count=$((count + 1)) failures=$((failures + 1))
    [ -z "${2:-}" ] || sed 's/^/# /' <<<"$2"
    echo "not ok $count - $1"
}

# skip NAME REASON: this result cannot be had here.
skip() {
    count=$((count + 1))
    echo "ok $count - $1 # SKIP $2"
}

# skip_all REASON: nothing of this scenario can run here. Comes before plan.
skip_all() {
    echo "TAP version 13"
    echo "1..0 # SKIP $1"
    ended=1
    exit 4
}

# bail REASON: what every further result needs is missing.
bail() {
    echo "Bail out! $*"
    failures=$((failures + 1))
    exit 1
}

# check NAME COMMAND...: the command must succeed.
check() {
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then
        ok "$name"
    else
        not_ok "$name" "exit status $? of: $*
$out"
        return 1
    fi
}

# fails NAME REGEX COMMAND...: the command must fail, and say why, itself or in
# the kernel's log.
fails() {
    local name=$1 regex=$2 out
    shift 2
    klog_mark
    if out=$("$@" 2>&1); then
        not_ok "$name" "succeeded: $*"
        return 1
    fi
    out="$out
$(klog)"
    if grep -qE -- "$regex" <<<"$out"; then
        ok "$name"
    else
        not_ok "$name" "failed as it should, but nothing matches '$regex' in:
$out"
        return 1
    fi
}

# same NAME WANTED GOT
same() {
    if [ "$2" = "$3" ]; then
        ok "$1"
    else
        not_ok "$1" "wanted: $2
got:    $3"
        return 1
    fi
}

finish() {
    local status=$?
    trap - EXIT
    jobs -p | xargs -r kill -9 2>/dev/null
    wait 2>/dev/null
    undo || failures=$((failures + 1))
    if [ "$ended" = 0 ] && [ "$count" != "$planned" ]; then
        echo "# planned $planned results, came to $count"
        failures=$((failures + 1))
    fi
    [ "$ended" = 0 ] || exit "$status"
    [ "$failures" = 0 ] || exit 1
}
trap finish EXIT
trap 'exit 130' INT TERM
