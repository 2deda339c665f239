#!/bin/bash
# Tells magnumd when the swarm's join tokens are not the ones it knows. A timer starts it.
set -euo pipefail
shopt -s inherit_errexit
# shellcheck source=lib.sh
. "${MAGNUMD_LIB:-/etc/magnumd/lib.sh}"
# shellcheck source=docker.sh
. "$STATE/bundle/docker.sh"
# shellcheck source=tokens.sh
. "$STATE/bundle/tokens.sh"

identify
read_tokens
[ "$(tokens_digest)" != "$(cat "$STATE/tokens.handed" 2>/dev/null)" ] || exit 0
log 'the swarm has other join tokens than before'
hand_over
