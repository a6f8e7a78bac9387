# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# shellcheck disable=SC2034 # whoever sources it uses the folders
#
# What every host-side script shares: messages, the cache, privileges.
# Results go to stdout, everything meant for a person to stderr.

set -euo pipefail
umask 022

# That of a user, which `su` and cron leave as it is, lacks them.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
scripts=$top/scripts
build=$top/build
# A service has none.
export HOME=${HOME:-~}
cache=${DM_BOW_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dm-bow}
case $cache in
/*) ;;
*) cache=$PWD/$cache ;;
esac
export DM_BOW_CACHE=$cache

# The first script of a chain starts the clock; the others read it.
export DM_BOW_START=${DM_BOW_START:-$(date +%s)}

say() {
    printf '[%4d s] %s\n' "$(($(date +%s) - DM_BOW_START))" "$*" >&2
}

die() {
    printf 'dm-bow: %s\n' "$*" >&2
    exit 1
}

# The architecture and the kernel series that this run is about: $ARCH, $SERIES or the
# first ones listed.
# shellcheck source=scripts/kernels.conf
. "$scripts/kernels.conf"
choose_arch() {
    local known
    arch=${ARCH:-${architectures%% *}}
    # The kernel's own name of it.
    case $arch in x86 | x86_64) arch=amd64 ;; esac
    for known in $architectures; do
        if [ "$known" = "$arch" ]; then
            "arch_$arch"
            return
        fi
    done
    # Whoever has a kernel tree of one's own needs none of this.
    triple='' rust_target='' qemu='' cpu='' console='' output='' cross=''
}
choose_arch

# amd64_only WHAT: ends the script if ARCH= is another.
amd64_only() {
    [ "$arch" = amd64 ] || die "$1 are for amd64 only: leave out ARCH=$arch."
}

choose_series() {
    newest=''
    local want=${SERIES:-${kernels%% *}} known
    # A suite that is no series yet, and what scripts/watch found out about it.
    case $want in
    watch:*)
        # shellcheck source=/dev/null
        . "$cache/watch/${want#watch:}.conf"
        return
        ;;
    esac
    for known in $kernels; do
        if [ "$known" = "$want" ]; then
            "kernel_${known//./_}"
            return
        fi
    done
    die "SERIES=$want is not supported; scripts/kernels.conf lists: $kernels."
}
choose_series
# Where the module of that series is built, and where the tools of guests are.
module_dir=$build/module bin=$build/bin
[ "${SERIES:-${kernels%% *}}" = "${kernels%% *}" ] || module_dir=$build/module-${SERIES//:/-}
[ "$arch" = "${architectures%% *}" ] || module_dir=$module_dir-$arch bin=$bin-$arch

# A proxy that apt alone knows of: what makes a tree, or runs in one, does not read the host's configuration.
find_proxy() {
    local proxy
    [ -z "${http_proxy:-}" ] && command -v apt-config >/dev/null || return 0
    proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
    case $proxy in http*) export http_proxy=$proxy ;; esac
}

# The command prefix for what only root may do. sudo makes the environment new.
as_root() {
    local name network=()
    find_proxy
    if [ "$(id -u)" = 0 ]; then
        "$@"
        return
    fi
    need_root
    for name in $(compgen -e); do
        case $name in *_proxy | *_PROXY) network+=("$name=${!name}") ;; esac
    done
    sudo -- env ${network[@]+"${network[@]}"} "$@"
}

need_root() {
    local how="run it as root (su -c 'make ${DM_BOW_GOAL:-test}'), or as a user whom sudo lets do everything."
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || die "a build root needs root, and there is no sudo here: $how"
    sudo -n true 2>/dev/null || sudo -v || die "a build root needs root, and sudo refused: $how"
}

# hash_of ARG...: one short key for the arguments and standard input.
hash_of() {
    { printf '%s\n' "$@"; cat; } | sha256sum | cut -c1-16
}

# One sentence about why the command behind LOG failed, and what to do next.
explain() {
    local log=$1
    # apt warns about its sandbox where nothing is wrong.
    sed -i '/^W: /d' "$log"
    if grep -qiE 'no space left on device|not enough free space' "$log"; then
        echo "the disk is full: free some 8 GB below $cache, or set DM_BOW_CACHE to a folder on a larger disk, and run it again."
    elif grep -qiE 'could not resolve|temporary failure (in name )?resol|could not connect|network is unreachable|connection (refused|timed out)|failed to (fetch|download)|couldn.t connect' "$log" &&
        ! grep -qE '404 +Not Found' "$log"; then
        echo "the network or the package archive cannot be reached: check the connection (and http_proxy, if you need one), and run it again."
    elif grep -qiE "404 +Not Found|unable to locate package|has no installation candidate|version .* was not found|couldn.t find any package" "$log"; then
        echo "a package version is no longer in the archive: run 'make update' to resolve the newest ones, then try again."
    elif grep -qiE 'operation not permitted|permission denied' "$log"; then
        echo "something was not permitted: run it as root or in an environment that may mount and chroot (an unprivileged container may not)."
    else
        echo "see the lines above; the whole log is $log."
    fi
}

show_steps() {
    sed -unE 's/^@step //p; s/^I: ((downloading|extracting|installing) .*)\.\.\.$/\1/p' |
        while IFS= read -r step; do say "    $step"; done
}

# run_logged NAME COMMAND...: runs quietly, but for the steps that the command
# (a line that begins with @step) or mmdebstrap tells, and shows the end of the
# log on failure.
run_logged() {
    local name=$1 log
    shift
    log=$cache/log/$name.log
    mkdir -p "$cache/log"
    if ! "$@" 2>&1 </dev/null | tee "$log" | show_steps; then
        printf '%s\n' "---- last lines of $log" >&2
        tail -n 15 "$log" >&2
        printf '%s\n' ---- >&2
        die "$name failed: $(explain "$log")"
    fi
}

# with_lock NAME [FOLDER]: holds a lock until this script ends, so that two
# runs never make the same thing at once: in the cache, which checkouts share,
# or in FOLDER.
with_lock() {
    local dir=${2:-$cache/lock}
    mkdir -p "$dir"
    exec 9>"$dir/$1"
    if ! flock -n 9; then
        say "waiting for another run that makes: $1"
        flock 9
    fi
}

# scratch NAME: sets $work to a new folder of this run, gone when it ends; runs
# side by side in one checkout do not meet.
scratch() {
    mkdir -p "$build/tmp" "$build/log"
    work=$(mktemp -d "$build/tmp/$1.XXXXXX")
    trap 'rm -rf "$work"' EXIT
}

# project_files [PATH]...: the project's files below these, in a copy without git too.
project_files() {
    (
        cd "$top"
        git -c safe.directory="$top" ls-files -co --exclude-standard -- "$@" 2>/dev/null ||
            find "${@:-.}" \( -path ./build -o -path ./.git -o -name target -o -name __pycache__ \) -prune -o -type f -print |
                sed 's,^\./,,'
    )
}

# Free megabytes that a step needs, checked before it starts.
need_space() {
    local free
    mkdir -p "$cache"
    free=$(df -Pm "$cache" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$1" ] ||
        die "$cache has $free MB free and this step needs $1 MB: free some, or set DM_BOW_CACHE to a folder on a larger disk."
}

# The version of the project: that of the target, which is defined there.
project_version() {
    local number
    number=$(sed -nE 's/^ *const VERSION: \[u32; 3\] = \[([0-9]+), ([0-9]+), ([0-9]+)\];$/\1.\2.\3/p' "$top/src/bow/target.rs")
    [ -n "$number" ] || die "src/bow/target.rs defines no VERSION."
    echo "$number"
}

# The moment up to which package versions were resolved: `make update` sets a
# new one, and everything that was made from older versions gets a new key.
generation() {
    local file=$cache/generation
    if [ ! -s "$file" ]; then
        mkdir -p "$cache"
        date -u +%Y%m%dT%H%M%SZ >"$file.$$"
        # Whoever comes first decides.
        ln "$file.$$" "$file" 2>/dev/null || true
        rm -f "$file.$$"
    fi
    cat "$file"
}
