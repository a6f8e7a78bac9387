# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# Layers that bow is put over: each has NAME_up, which sets dev, and NAME_down.
# What is on it is still there when it comes up again. NAME_needs prints the modules.

# crypt NAME DEVICE: as LUKS opens it.
crypt() {
    dmsetup create "$1" --table "0 $(sectors_of "$2") crypt aes-xts-plain64 $(printf '%064d' 7) 0 $2 0 1 allow_discards" &&
        dmsetup mknodes "$1"
}

# under: sets one and two to slices of 16 MiB, which the layers are made of.
under() {
    one=$(slice one 32768) && two=$(slice two 32768)
}

crypt_needs=dm-crypt
crypt_up() {
    crypt test-crypt "$one" && dev=/dev/mapper/test-crypt
}
crypt_down() {
    dmsetup remove --retry test-crypt
}

# As LVM makes a volume in two pieces.
linear_up() {
    dmsetup create test-linear <<TABLE && dmsetup mknodes test-linear && dev=/dev/mapper/test-linear
0 16384 linear $two 16384
16384 16384 linear $one 0
TABLE
}
linear_down() {
    dmsetup remove --retry test-linear
}

md_needs="md-mod raid1"
md_up() {
    dev=/dev/md127
    if [ -z "${md_made:-}" ]; then
        mdadm --quiet --create "$dev" --run --level=1 --raid-devices=2 --assume-clean --metadata=1.2 --bitmap=none \
            "$one" "$two" >&2 && md_made=1
    else
        mdadm --quiet --assemble "$dev" "$one" "$two" >&2
    fi
}
md_down() {
    mdadm --quiet --stop "$dev"
}

loop_needs=loop
loop_up() {
    truncate -s 16M "$work/loop" && dev=$(losetup --show -f "$work/loop")
}
loop_down() {
    losetup -d "$dev"
}

# A server of our own, on a file.
nbd_needs=nbd
nbd_up() {
    dev=/dev/nbd0
    truncate -s 16M "$work/nbd"
    cat >"$work/nbd.conf" <<CONF
[generic]
unixsock = $work/nbd.sock
[bow]
exportname = $work/nbd
flush = true
fua = true
trim = true
CONF
    nbd-server -C "$work/nbd.conf" -d >"$work/nbd.log" 2>&1 &
    nbd_server=$!
    for _ in {1..50}; do
        [ ! -S "$work/nbd.sock" ] || break
        sleep 0.1
    done
    nbd-client -unix "$work/nbd.sock" "$dev" -N bow >>"$work/nbd.log" 2>&1 || { cat "$work/nbd.log" >&2; return 1; }
}
nbd_down() {
    nbd-client -d "$dev" >>"$work/nbd.log" 2>&1
    # It ends with its one client.
    wait "$nbd_server"
    rm -f "$work/nbd.sock"
}
