#!/bin/bash
# For a server whose user data was written before nodes had keys of their own: how it talks to
# magnumd from now on is put in the place of how it did. Fetched instead of the node's files or
# its duty, which it gets when it asks again.
set -euo pipefail
LIB=${MAGNUMD_LIB:-/usr/local/libexec/magnumd-lib}
[ -e "$LIB" ] || LIB=/opt/libexec/magnumd-lib
FILES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$LIB"
if ! grep -q '^claim() {' "$LIB"; then
  cat "$LIB" "$FILES/claim.sh" >"$LIB.new"
  chmod 644 "$LIB.new"
  sync
  mv "$LIB.new" "$LIB"
  # shellcheck source=/dev/null
  . "$FILES/claim.sh"
fi
identify
claim
rm -rf "$FILES"
# The first boot begins anew; a timer asks for the duty again.
[ "${0##*/}" = duty.sh ] || exit 75
