#!/bin/bash
# One duty, from its start to magnumd's knowing how it ended. The timer starts it again until it
# has ended well or failed too often; a step that has succeeded is not done twice.
set -euo pipefail
shopt -s inherit_errexit
BUNDLE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH=$PATH:/usr/local/bin:/opt/bin
# shellcheck source=lib.sh
. "$BUNDLE/lib.sh"
# shellcheck source=/dev/null
. "$BUNDLE/env"
# shellcheck source=steps.sh
. "$BUNDLE/steps.sh"
# shellcheck source=/dev/null
. "$BUNDLE/host.sh"
# shellcheck source=/dev/null
. "$BUNDLE/$MAGNUMD_NODE_ROLE.sh"
# shellcheck source=/dev/null
. "$BUNDLE/duty.env"
# shellcheck source=/dev/null
. "$BUNDLE/work.sh"

exec > >(tee -a "$LOG") 2>&1
DONE=$STATE/duties/$DUTY_NUMBER
STEP=start
mkdir -p "$DONE"

answer() { # STATE MESSAGE
  local message
  message=$(printf '%s' "$2" | head -c 1000 | escape)
  printf '{"number":%s,"state":"%s","message":"%s"}' "$DUTY_NUMBER" "$1" "${message%\\n}" \
    >"$STATE/duty-answer.json"
  call_surely POST duty "$STATE/answer" "$STATE/duty-answer.json"
  log "duty $DUTY_KIND ($DUTY_NUMBER) $1: $2"
}

duty_ended() { # CODE
  [ "$1" -ne 0 ] || return 0
  local tries
  tries=$(($(cat "$DONE/.tries" 2>/dev/null || echo 0) + 1))
  echo "$tries" >"$DONE/.tries"
  [ "$tries" -lt "$MOST_TRIES" ] ||
    answer failed "Step $STEP failed $tries times: $(tail -n 3 "$LOG" | tr '\n' ' ')"
}
trap 'duty_ended $?' EXIT

identify
NODE_ADDRESS=
find_address
perform # of work.sh
answer 'done' ''
rm -rf "$BUNDLE"
