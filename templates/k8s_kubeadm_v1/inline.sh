
# With bootstrap_mode inline or heat everything has come with the user data: magnumd is not told, but
# Heat, where it waits for that. In the place of what tells magnumd.

# STATUS MESSAGE TRIES: tells Heat the last word of this node.
signal_heat() {
  [ -s "$ROOT/etc/magnumd/heat-signal" ] || return 0
  local wait=3 message tries=$3
  message=$(printf '%s' "$2" | head -c 200 | LC_ALL=C tr -cd 'A-Za-z0-9 .,:_-')
  until sh -c "$(tr -d '\n' <"$ROOT/etc/magnumd/heat-signal") --silent --show-error --fail \
    --noproxy '*' --connect-timeout 20 --max-time 60 --output /dev/null \
    --data-binary '{\"status\":\"$1\",\"id\":\"$NODE\",\"reason\":\"$message\"}'"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || return 0
    log "Heat does not take the signal, trying again"
    pause "$wait"
    wait=$((wait < 30 ? wait * 2 : wait))
  done
}

report() { # STATE MESSAGE
  log "$PHASE $1: $2"
  [ "$1" != failed ] || signal_heat FAILURE "$PHASE: $2" 3
}

report_surely() { # STATE MESSAGE
  local status=SUCCESS
  [ "$1" != failed ] || status=FAILURE
  log "$PHASE $1: $2"
  signal_heat "$status" "$PHASE: $2" 100000
}
