# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# What the scenarios of the debug kernel share, on top of the selftests' lib.sh:
# failing allocations one by one, and I/O to chosen sectors.
#
#     . "$(dirname "$0")/common/faults.sh"

# shellcheck source=tests/kernel/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../kernel/lib.sh"
# shellcheck source=tests/kernel/common/bow.sh
. "$here/common/bow.sh"

debugfs=/sys/kernel/debug
common_debug=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

need_faults() {
    [ -d "$debugfs/failslab" ] || skip_all "the kernel cannot make allocations fail: this needs the debug kernel"
}

need_io_faults() {
    [ -e "$debugfs/block/$(basename "$(test_disk)")/error_injection" ] ||
        skip_all "the kernel cannot make I/O to chosen sectors fail: this needs the debug kernel"
}

#### Allocations
#
# Only what is allocated from within the module's code counts, in whatever
# thread: the kernel looks for its addresses in the stack trace. What the debug
# kernel allocates for itself on the way comes at random, and nothing comes of its
# failing; were it counted, the k-th allocation would not be the same one in each round.
# So this is left out:
#   - notes of the leak detector and of the object checker: tests/run-debug has the
#     kernel mark all caches but theirs;
#   - what it takes to free an object late: inside kmem_cache_free;
#   - pages for a slab: inside allocate_slab. It is the object that fails.

# text_of FUNCTION: its addresses in the kernel, "FIRST END".
text_of() {
    sort /proc/kallsyms | awk -v name="$1" 'first { print "0x" first, "0x" $1; exit }
        $3 == name && NF == 3 { first = $1 }'
}

# faults_on: after load_bow. The kernel's choices that would exempt allocations
# are switched off.
faults_on() {
    local kind range reject
    range=$(awk '$4 == "[dm_bow]" && $2 ~ /[tT]/ { print $1 }' /proc/kallsyms | sort | sed -n '1p;$p' | paste -sd ' ')
    for kind in failslab fail_page_alloc; do
        cd "$debugfs/$kind" || return
        echo 0 >probability
        # In hexadecimal without 0x; the last function is no longer than this.
        echo "0x${range% *}" >require-start
        printf '0x%x' $((0x${range#* } + 16384)) >require-end
        case $kind in
        failslab) reject=$(text_of kmem_cache_free) ;;
        fail_page_alloc) reject=$(text_of allocate_slab) ;;
        esac
        [ -n "$reject" ] || bail "where the kernel makes allocations of its own is not known"
        echo "${reject% *}" >reject-start
        echo "${reject#* }" >reject-end
        echo 32 >stacktrace-depth
        echo N >task-filter
        echo N >ignore-gfp-wait
        echo 0 >space
        echo 2 >verbose
        echo 0 >verbose_ratelimit_interval_ms
    done
    echo Y >"$debugfs/failslab/cache-filter"
    echo N >"$debugfs/fail_page_alloc/ignore-gfp-highmem"
    echo 0 >"$debugfs/fail_page_alloc/min-order"
    cd "$work" || return
    # Each fault shows its stack, and the serial line is slow: that goes to a file.
    echo N >/sys/module/printk/parameters/ignore_loglevel
    dmesg -n 1
    stdbuf -oL dmesg --follow-new >"$work/kmsg" &
    kmsg=$!
    faults_active=1
}

# Where a long sweep shows that it goes on, since check keeps what is printed.
exec {progress}>&1

# sweep DEVICE COMMAND [OPTION]...: each allocation of what sweep.py calls COMMAND
# fails once; two results. other is a device that it may use besides.
sweep() {
    local dev=$1 command=$2 kind hits
    shift 2
    : >"$work/summary"
    check "$command: each allocation fails once" python3 -BES "$common_debug/sweep.py" "$command" \
        --device "$dev" --other "$other" --summary "$work/summary" \
        --progress "$progress" "$@"
    # What needs none would mean that no fault ever came up.
    same "$command: there were allocations to fail" '' "$(awk '$3 > 0 { n += $3 } END { if (!n) print "none" }' "$work/summary")"
    while read -r _ kind hits; do
        echo "# covered: $command: $hits faults of $kind"
    done <"$work/summary"
}

# fail_share KIND PERCENT: that share of all allocations fails, until faults_off.
fail_share() {
    cd "$debugfs/$1" || return
    echo 0 >verbose
    echo 1 >interval
    echo 1000000 >"times"
    echo "$2" >probability
    cd "$work" || return
}

# share_failed: whether any allocation of the slab has, since fail_share.
share_failed() {
    [ "$(cat "$debugfs/failslab/times")" -lt 1000000 ]
}

# faults_off: ends them.
faults_off() {
    local kind
    for kind in failslab fail_page_alloc; do
        echo 0 >"$debugfs/$kind/probability"
        echo 2 >"$debugfs/$kind/verbose"
    done
}

# covered: prints the places that faults have come up at, out of the kernel's log
# since faults_on. One result: that there is no complaint in it.
covered() {
    sleep 1
    kill "$kmsg"
    python3 -I -S "$common_debug/sites.py" <"$work/kmsg" | sort | uniq -c | sort -rn >"$work/sites"
    awk '{ n = $1; $1 = ""; print "# site:" $0 " (" n ")" }' "$work/sites"
    echo "# covered: $(grep -c . "$work/sites") sites"
    check "the kernel has no complaint" sh -c '[ -s "$1" ] && "$2" "$1"' sh "$work/kmsg" "$here/../../check-log"
}

#### I/O

# io_fault DEVICE OPERATION FIRST SECTORS [STATUS [CHANCE]]: READ, WRITE, DISCARD
# or WRITE_ZEROES that touches these sectors fails. Device is a dm device.
io_fault() {
    local name
    name=$(dmsetup info -c --noheadings -o blkdevname "${1##*/}")
    io_fault_files="${io_fault_files:-} $debugfs/block/$name/error_injection"
    echo "add,op=$2,start=$3,nr_sectors=$4,status=${5:-IOERR}${6:+,chance=$6}" \
        >"$debugfs/block/$name/error_injection" || bail "no fault can be set"
}

# io_faults_off: all of them.
io_faults_off() {
    local file
    for file in ${io_fault_files:-}; do
        [ ! -e "$file" ] || echo removeall >"$file"
    done
    io_fault_files=
}

# io_hits MARKED-BY-klog_mark: how many I/O faults have come up since.
io_hits() {
    klog | grep -c 'injecting .* error'
}

#### The end

# The devices can only be taken away when nothing fails any more.
debug_finish() {
    local status=$?
    if [ -n "${faults_active:-}" ]; then
        faults_off
        kill "$kmsg" 2>/dev/null
        dmesg -n 8
        echo Y >/sys/module/printk/parameters/ignore_loglevel
    fi
    io_faults_off
    (exit "$status")
    finish
}
trap debug_finish EXIT
