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

config_drive() { # a copy of what Nova wrote about this server; Ignition leaves none behind
  local drive=$STATE/config-drive
  mkdir -p "$drive"
  mount -o ro /dev/disk/by-label/config-2 "$drive"
  cp "$drive/openstack/latest/meta_data.json" "$STATE/meta_data.new"
  umount "$drive"
  mv "$STATE/meta_data.new" "$STATE/meta_data.json"
}

about_server() { # KEY: what the copy says under a key that it has once
  sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$STATE/meta_data.json"
}

identify() { # sets NODE and INSTANCE
  [ -s "$STATE/meta_data.json" ] || config_drive
  NODE=$(about_server hostname)
  NODE=${NODE%%.*}
  INSTANCE=$(about_server uuid)
}

# First contact: the token of the user data opens nothing but a certificate for a key that is made
# here and never leaves. Everything else is asked for with that certificate.
IDENTITY=$STATE/identity

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

claim_headers() { # what shows that this server sends the claim
  local secret
  secret=$(vendor_secret)
  printf 'Authorization: Bearer %s\nX-Magnumd-Instance: %s\n' "$MAGNUMD_ENROLMENT_TOKEN" "$INSTANCE"
  # An empty one would be a wrong one.
  [ -z "$secret" ] || printf 'X-Magnumd-Vendor-Secret: %s\n' "$secret"
}

# Says who this server is, once; answered again and again until it is known. A lost answer is
# given once more for the same key, so the key must be on the disk before it is shown.
claim() {
  [ ! -s "$IDENTITY/certificate.pem" ] || return 0
  (
    umask 077
    mkdir -p "$IDENTITY" || exit 1
    if [ ! -s "$IDENTITY/key.pem" ]; then
      openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$IDENTITY/key.new" &&
        mv "$IDENTITY/key.new" "$IDENTITY/key.pem" && sync || exit 1
    fi
    openssl req -new -key "$IDENTITY/key.pem" -subj "/CN=$NODE" -out "$IDENTITY/request.pem" &&
      claim_headers >"$IDENTITY/token" &&
      awk 'BEGIN { printf "{\"csr\":\"" } { printf "%s\\n", $0 } END { printf "\"}" }' \
        "$IDENTITY/request.pem" >"$IDENTITY/claim.json"
  ) || {
    CODE=000
    log 'no key can be made for this node'
    return 1
  }
  ask POST claim "$IDENTITY/answer" "$IDENTITY/claim.json" --header "@$IDENTITY/token"
  case $CODE in
  2??) ;;
  *)
    log "POST claim: $CODE $(head -c 300 "$IDENTITY/answer" 2>/dev/null)"
    return 1
    ;;
  esac
  if ! tr -d '\n' <"$IDENTITY/answer" | sed -n 's/.*"certificate" *: *"\([^"]*\)".*/\1/p' |
    sed 's/\\n/\n/g' | awk NF >"$IDENTITY/certificate.new" ||
    ! openssl x509 -in "$IDENTITY/certificate.new" -noout; then
    CODE=000
    return 1
  fi
  sync
  mv "$IDENTITY/certificate.new" "$IDENTITY/certificate.pem"
  rm -f "$IDENTITY/token" "$IDENTITY/request.pem" "$IDENTITY/claim.json" "$IDENTITY/answer" \
    "$STATE/headers"
  log 'this node has its own certificate now'
}

# METHOD WHAT ANSWER-FILE BODY-FILE OPTION…: one attempt; sets CODE, 000 when nobody answered.
# Secrets are in files because everybody may read a command line.
ask() {
  local options=(--silent --show-error --noproxy '*' --connect-timeout 20 --max-time 60
    --request "$1" --output "$3" --write-out '%{http_code}')
  [ ! -s "$CA" ] || options+=(--cacert "$CA")
  [ -z "$4" ] || options+=(--header 'Content-Type: application/json' --data-binary "@$4")
  CODE=$(curl "${options[@]}" "${@:5}" "$MAGNUMD_BOOTSTRAP_URL/bootstrap/v1/$NODE/$2") || CODE=000
}

# METHOD WHAT ANSWER-FILE [BODY-FILE]: the same as the node that this is.
call() {
  claim || return 0
  ask "$1" "$2" "$3" "${4:-}" --cert "$IDENTITY/certificate.pem" --key "$IDENTITY/key.pem"
}

# The same until it is answered with success.
call_surely() {
  local wait=3
  while :; do
    call "$@"
    case $CODE in
    2??) return 0 ;;
    000 | 408 | 429 | 5??) ;;
    *) # refused: only time or an operator can change that
      log "$1 $2: refused with $CODE: $(head -c 300 "$3" 2>/dev/null || true)"
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
