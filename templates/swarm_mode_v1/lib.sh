# shellcheck shell=bash
# How a node talks to magnumd, and how a step is done once. Sourced, never run.

ROOT=${MAGNUMD_ROOT:-} # tests give a directory; on a server it is empty
STATE=$ROOT/var/lib/magnumd
LOG=$ROOT/var/log/magnumd-bootstrap.log
CA=$ROOT/etc/magnumd/bootstrap-ca.pem
PHASE=booted

# shellcheck source=/dev/null
. "$ROOT/etc/magnumd/node.env"

log() {
  printf '%s %s\n' "$(date -u +%FT%TZ)" "$*"
}

pause() { # SECONDS: that long and up to half as long again, so that nodes do not march in step
  sleep "$(($1 + RANDOM % ($1 / 2 + 1)))"
}

identify() { # sets NODE and INSTANCE
  NODE=$(hostname)
  NODE=${NODE%%.*}
  INSTANCE=
  if [ -s "$ROOT/var/lib/cloud/data/instance-id" ]; then
    INSTANCE=$(tr -d '[:space:]' <"$ROOT/var/lib/cloud/data/instance-id")
  fi
  case $INSTANCE in
  ????????-????-????-????-????????????) ;;
  *) INSTANCE=$(tr -d '[:space:]' <"$ROOT/sys/class/dmi/id/product_uuid" | tr '[:upper:]' '[:lower:]') ;;
  esac
  (
    umask 077
    printf 'Authorization: Bearer %s\nX-Magnumd-Instance: %s\n' \
      "$MAGNUMD_ENROLMENT_TOKEN" "$INSTANCE" >"$STATE/headers"
  )
}

secret_in() { # vendor_data2.json on stdin, of one line or several
  tr -d '\n' | sed -n 's/.*"magnumd": *{ *"secret": *"\([A-Za-z0-9_-]*\)".*/\1/p'
}

vendor_secret() { # what Nova gave this server for magnumd: on its config drive, else what the
  # metadata service has by now; nothing in a cloud whose Nova gives none
  local drive=$STATE/config-drive found=
  mkdir -p "$drive"
  if mount -o ro /dev/disk/by-label/config-2 "$drive" 2>/dev/null ||
    mount -o ro /dev/disk/by-label/CONFIG-2 "$drive" 2>/dev/null; then
    found=$(secret_in <"$drive/openstack/latest/vendor_data2.json") || found=
    umount "$drive"
  fi
  if [ -z "$found" ]; then
    found=$(curl --silent --fail --noproxy '*' --connect-timeout 3 --max-time 15 \
      http://169.254.169.254/openstack/latest/vendor_data2.json | secret_in) || found=
  fi
  printf '%s' "$found"
}

prove() { # adds to the headers of the first request what shows that this server sends it
  local secret
  secret=$(vendor_secret)
  identify
  # An empty one would be a wrong one.
  [ -z "$secret" ] || printf 'X-Magnumd-Vendor-Secret: %s\n' "$secret" >>"$STATE/headers"
}

# METHOD WHAT ANSWER-FILE [BODY-FILE]: one attempt; sets CODE, 000 when nobody answered.
# The token is in a file because everybody may read a command line.
call() {
  local options=(--silent --show-error --noproxy '*' --connect-timeout 20 --max-time 60
    --request "$1" --header "@$STATE/headers" --output "$3" --write-out '%{http_code}')
  [ ! -s "$CA" ] || options+=(--cacert "$CA")
  [ -z "${4:-}" ] || options+=(--header 'Content-Type: application/json' --data-binary "@$4")
  CODE=$(curl "${options[@]}" "$MAGNUMD_BOOTSTRAP_URL/bootstrap/v1/$NODE/$2") || CODE=000
}

# The same until it is answered with success.
call_surely() {
  local wait=3
  while :; do
    call "$@"
    case $CODE in
    2??) return 0 ;;
    000 | 408 | 5??) ;;
    429) # too often, perhaps by somebody else; what is shown of this server may be more by now
      [ "$PHASE" != booted ] || prove
      ;;
    *) # refused: only time or an operator can change that
      log "$1 $2: refused with $CODE: $(head -c 300 "$3" 2>/dev/null || true)"
      [ "$PHASE" != booted ] || prove # Nova may have more to give by now
      wait=60
      ;;
    esac
    log "$1 $2: $CODE, trying again"
    pause "$wait"
    wait=$((wait < 30 ? wait * 2 : wait))
  done
}

escape() { # text on stdin, what stands between the quotes of JSON on stdout
  LC_ALL=C tr -cd '\11\12\40-\176' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/\\t/g' |
    awk '{ printf "%s\\n", $0 }'
}

report_body() { # STATE MESSAGE
  local message
  message=$(printf '%s' "$2" | head -c 1000 | escape)
  printf '{"phase":"%s","state":"%s","message":"%s","log_tail":"%s"}' "$PHASE" "$1" \
    "${message%\\n}" "$(tail -c 16384 "$LOG" 2>/dev/null | escape)" >"$STATE/report.json"
}

report() { # STATE MESSAGE: tells magnumd, or goes on without
  report_body "$@"
  call POST status "$STATE/answer" "$STATE/report.json"
  log "$PHASE $1: $2 (reported: $CODE)"
}

report_surely() {
  report_body "$@"
  call_surely POST status "$STATE/answer" "$STATE/report.json"
  log "$PHASE $1: $2"
}
