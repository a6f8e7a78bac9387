# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# shellcheck disable=SC2034 # whoever sources it uses the folder
#
# For the scripts of this folder, which call each other and nothing outside of it: $scripts
# is the folder itself. So their text does not depend on where the folder stands, and the
# keys in the cache that are made from it stay valid when it is moved.

. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

scripts=$top/scripts/root
