#!/bin/bash
# First boot: say that this server lives, fetch its bundle, and let the bundle do the rest.
set -euo pipefail
shopt -s inherit_errexit
umask 022
mkdir -p "${MAGNUMD_ROOT:-}/var/lib/magnumd" "${MAGNUMD_ROOT:-}/var/log"
# shellcheck source=lib.sh
. "${MAGNUMD_LIB:-/usr/local/libexec/magnumd-lib}"

touch "$LOG"
chmod 600 "$LOG"
exec > >(tee -a "$LOG") 2>&1

identify
log "$NODE, $MAGNUMD_NODE_ROLE of cluster $MAGNUMD_CLUSTER_UUID, instance $INSTANCE"
[ -e "$STATE/bundle/setup.sh" ] || report started 'The server has booted.'

# A bundle holds keys: nobody else may read it, and half of one is never used.
umask 077
rm -rf "$STATE/bundle.new"
mkdir "$STATE/bundle.new"
fetch_bundle "$STATE/bundle.new"
rm -rf "$STATE/bundle"
mv "$STATE/bundle.new" "$STATE/bundle"
umask 022

exec /bin/bash "$STATE/bundle/setup.sh"
