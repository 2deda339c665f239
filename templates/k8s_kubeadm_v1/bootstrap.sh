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

# Where everything came with the user data, addresses are the one thing that did not fit in: the
# bundle has names in their places.
fill_in() { # DIRECTORY
  local api masters public address index=0 expressions=()
  api=$(sed -n 's/^api //p' "$STATE/addresses")
  masters=$(sed -n 's/^masters //p' "$STATE/addresses")
  public=$(sed -n 's/^public //p' "$STATE/addresses")
  [ -n "$api" ] && [ -n "$masters" ] || return 1
  for address in $masters; do
    expressions+=(-e "s/@MASTER_${index}_ADDRESS@/$address/g")
    index=$((index + 1))
  done
  # Stands as one item of a list, which may become several, or none.
  public=$(for address in $public; do printf ', "%s"' "$address"; done)
  expressions+=(-e "s/@API_HOST@/$api/g" -e "s/, *\"@API_PUBLIC@\"/$public/g")
  find "$1" -type f -exec sed -i "${expressions[@]}" {} +
}

# A bundle holds keys: nobody else may read it, and half of one is never used.
umask 077
rm -rf "$STATE/bundle.new"
mkdir "$STATE/bundle.new"
if is_inline; then
  tar -x -z -f "$STATE/bundle.tar.gz" -C "$STATE/bundle.new" --no-same-owner
  fill_in "$STATE/bundle.new"
else
  call_surely GET bundle "$STATE/bundle.tar"
  tar -x -f "$STATE/bundle.tar" -C "$STATE/bundle.new" --no-same-owner
  rm -f "$STATE/bundle.tar"
fi
rm -rf "$STATE/bundle"
mv "$STATE/bundle.new" "$STATE/bundle"
umask 022

exec /bin/bash "$STATE/bundle/setup.sh"
