#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A checkpoint that is not the one that is meant, or cannot go on, is refused by the table, and not a byte is written.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 11
load_bow

dev=$(slice data 32768)
exercise fill "$dev" >/dev/null && bow_create bow0 "$dev" block_size:1024 || bail "no device"
exercise free /dev/mapper/bow0 16384+16384 >/dev/null && checkpoint bow0 || bail "no checkpoint"
exercise run /dev/mapper/bow0 --range 0+4096 --mix write=1 --max 8 --ops 50 >/dev/null || bail "no writes"
uuid=$(log_header bow0 uuid)
bow_remove bow0 || bail "in use"
dd if="$dev" of="$work/log" bs=512 count=1 iflag=direct status=none

# has OFFSET HEX: the log has these bytes there, and its checksum is right.
has() {
    python3 -I -S - "$work/log" "$@" <<'END' |
import struct, sys, zlib
log = bytearray(open(sys.argv[1], "rb").read())
at, new = int(sys.argv[2]), bytes.fromhex(sys.argv[3])
log[at:at + len(new)] = new
end = struct.unpack_from("<H", log, 6)[0] + 24 * struct.unpack_from("<I", log, 12)[0]
log[28:32] = bytes(4)
log[28:32] = struct.pack("<I", zlib.crc32(log[:end]) ^ 0xffffffff)
sys.stdout.buffer.write(log)
END
        dd of="$dev" bs=512 iflag=fullblock oflag=direct conv=notrunc status=none
}
# refused NAME REGEX ARGUMENT...: 2 results.
refused() {
    local before
    before=$(digest "$dev")
    fails "$1 is refused" "$2" bow_create bow0 "$dev" "${@:3}"
    same "$1: nothing was written" "$before" "$(digest "$dev")"
}

refused "another UUID" "another UUID" resume:ffffffff-ffff-4fff-bfff-ffffffffffff
refused "another block size" "another block_size" resume block_size:4096
has 4 0101
refused "a log of 1.1" "cannot be resumed" resume
has 4 0301
refused "a log of 1.3" "cannot be resumed" resume
has 0 574f4200
refused "a restore that has begun" "finish with .bowctl restore" resume
has 0 424f5700
check "the one that is meant goes on" bow_create bow0 "$dev" "resume:$uuid"
