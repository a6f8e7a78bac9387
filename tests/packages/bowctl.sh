#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl alone: what is installed works, is upgraded, and leaves nothing behind.
. "$(dirname "$0")/lib.sh"
plan 15

files >"$work/before"
check "install" apt install "$(package bowctl "$one")"
check "bowctl runs" bowctl --version
check "the manual page is found" sh -c 'man -w 8 bowctl'
check "completions of bash" test -s /usr/share/bash-completion/completions/bowctl
check "completions of zsh" test -s /usr/share/zsh/vendor-completions/_bowctl
check "completions of fish" test -s /usr/share/fish/vendor_completions.d/bowctl.fish
check "changelog" sh -c 'zcat /usr/share/doc/bowctl/changelog*.gz | grep -q "^dm-bow ("'
check "copyright" grep -q 'GPL-2' /usr/share/doc/bowctl/copyright
check "licenses of the crates" sh -c 'zcat -f /usr/share/doc/bowctl/crates* | grep -q "^== clap "'
check "no checkpoint is open" /usr/lib/bow/open-checkpoint bowctl
check "upgrade" apt install "$(package bowctl "$two")"
same "the newer version is installed" "$(dpkg-deb -f "$(package bowctl "$two")" Version)" \
    "$(dpkg-query -W -f '${Version}' bowctl)"
# As of an update of a device that is not under the root file system.
mkdir -p /var/lib/bow && echo '{}' >/var/lib/bow/history.jsonl
check "remove" apt remove bowctl
check "purge" dpkg --purge bowctl
files >"$work/after"
check "nothing is left" diff "$work/before" "$work/after"
