# shellcheck shell=bash
# How a node's first boot and its duties go on step by step, and the steps that every node takes.
# Sourced by setup.sh and duty.sh, before host.sh, which has what is particular to the driver:
#
#   preflight       whether the image fits: need_tools, need_clock; says what it found in FINDINGS
#   prepare_system  kernel, swap, other filters
#   PKI             where the node's certificates are, if its scripts want to know
#   API_HOST        whom workers call, if that is not in env

MOST_TRIES=10
DONE=$STATE/done # stamps of steps that have succeeded

ended() { # CODE: the last word of a run
  [ "$1" -ne 0 ] || return 0
  local tries
  tries=$(($(cat "$STATE/tries.$STEP" 2>/dev/null || echo 0) + 1))
  echo "$tries" >"$STATE/tries.$STEP"
  if [ "$tries" -ge "$MOST_TRIES" ]; then
    report failed "Step $STEP failed $tries times."
  else
    report started "Step $STEP failed, try $tries of $MOST_TRIES; trying again."
  fi
}

give_up() { # MESSAGE: nothing that time could heal; the service does not restart
  report_surely failed "$1"
  exit 0
}

phase() { # NAME MESSAGE
  PHASE=$1
  [ -e "$DONE/phase-$1" ] || report started "$2"
}

phase_done() { # MESSAGE
  [ ! -e "$DONE/phase-$PHASE" ] || return 0
  report 'done' "$1"
  touch "$DONE/phase-$PHASE"
}

step() { # NAME COMMAND...
  STEP=$1
  shift
  [ ! -e "$DONE/$STEP" ] || return 0
  log "step $STEP"
  "$@"
  touch "$DONE/$STEP"
}

wait_for() { # SECONDS COMMAND...
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    if [ "$SECONDS" -ge "$until" ]; then
      log "waited in vain for: $*"
      return 1
    fi
    sleep 3
  done
}

await() { # NAME SECONDS COMMAND...: a step that every run takes anew
  STEP=$1
  shift
  wait_for "$@"
}

need_tools() { # CURE TOOL...: gives up where the image lacks one
  local cure=$1 tool missing=()
  shift
  for tool in "$@"; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ "${#missing[@]}" = 0 ] || give_up "The image lacks ${missing[*]}. $cure"
}

need_clock() { # one that is behind makes every certificate look as if it came from the future
  wait_for 600 openssl verify -CAfile "$BUNDLE/pki/ca.crt" "$BUNDLE/pki/ca.crt" >/dev/null ||
    give_up "The clock says $(date -u +%FT%TZ): the cluster's CA is not valid then."
}

need_space() { # GIGABYTES: says in FINDINGS where so much is not free
  [ "$(df -Pk /var/lib | awk 'NR == 2 { print $4 }')" -ge "$((1000000 * $1))" ] ||
    FINDINGS+=" Less than $1 GB is free in /var/lib."
}

find_address() { # sets NODE_ADDRESS: a master's is known, a worker's is where it calls from
  if [ -n "$MASTER_ADDRESS" ]; then
    ip -4 -o addr show | grep -F " $MASTER_ADDRESS/" >/dev/null || return 1
    NODE_ADDRESS=$MASTER_ADDRESS
  else
    NODE_ADDRESS=$(ip -4 -o route get "$API_HOST" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
    [ -n "$NODE_ADDRESS" ]
  fi
}

volume_of() { # KEY: the device of the volume whose id the config drive gives under KEY
  local drive=/run/magnumd-config id device
  mkdir -p "$drive"
  mount -o ro /dev/disk/by-label/config-2 "$drive" 2>/dev/null ||
    mount -o ro /dev/disk/by-label/CONFIG-2 "$drive"
  id=$(sed -n "s/.*\"$1\": *\"\([0-9a-f-]*\)\".*/\1/p" "$drive/openstack/latest/meta_data.json")
  umount "$drive"
  [ -n "$id" ]
  for device in /dev/disk/by-id/*"${id:0:20}"*; do
    [ ! -b "$device" ] || printf '%s' "$device"
    return 0
  done
}

mount_volume() { # KEY LABEL DIRECTORY: an empty volume is formatted, a used one is kept
  local device content
  device=$(volume_of "$1")
  if [ -z "$device" ]; then
    log "volume $1 is not attached yet"
    return 1
  fi
  if ! blkid "$device" >/dev/null; then
    mkfs.ext4 -q -L "$2" "$device"
  fi
  if ! mountpoint -q "$3"; then
    mkdir -p "$3"
    # What the image brought along, such as container images, moves to the volume.
    content=$(mktemp -d)
    mount "$device" "$content"
    cp -a "$3/." "$content/"
    umount "$content"
    mount "$device" "$3"
  fi
  grep -q "^LABEL=$2 " "$ROOT/etc/fstab" ||
    printf 'LABEL=%s %s ext4 defaults,nofail 0 2\n' "$2" "$3" >>"$ROOT/etc/fstab"
}

# PURPOSE PATH: PATH.key made here and never sent, PATH.crt signed by magnumd. Programs that run
# read them at any moment, so both change at once, when they are there.
request_certificate() {
  local key=$2.key.new body=$STATE/csr.json answer=$STATE/csr-answer.json
  mkdir -p "$(dirname "$key")"
  (
    umask 077
    [ -s "$key" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$key"
    openssl req -new -key "$key" -subj "/CN=$NODE" -out "$STATE/$1.csr"
    printf '{"purpose":"%s","csr":"%s"}' "$1" "$(awk '{ printf "%s\\n", $0 }' "$STATE/$1.csr")" \
      >"$body"
  )
  call_surely POST csr "$answer" "$body"
  # A line end after the last line too: other files append a key to this one.
  tr -d '\n' <"$answer" | sed -n 's/.*"certificate" *: *"\([^"]*\)".*/\1/p' |
    sed 's/\\n/\n/g' | awk NF >"$2.crt.new"
  openssl x509 -in "$2.crt.new" -noout
  mv "$key" "$2.key"
  mv "$2.crt.new" "$2.crt"
}

close_metadata() { # to pods and containers, before there are any; the label metadata_access_enabled opens it
  [ -e "$BUNDLE/close-metadata.sh" ] || return 0
  command -v nft >/dev/null || command -v iptables >/dev/null ||
    give_up 'The image has neither nft nor iptables, with which the metadata service is closed to pods and containers. Use an image that has one, or open it with the label metadata_access_enabled=true.'
  install -D -m 755 "$BUNDLE/close-metadata.sh" "$ROOT/etc/magnumd/close-metadata.sh"
  install -D -m 644 "$BUNDLE/magnumd-metadata.service" \
    "$ROOT/etc/systemd/system/magnumd-metadata.service"
  systemctl daemon-reload
  systemctl enable --now magnumd-metadata.service
}

become_host() { # everything before a runtime and certificates
  phase booted 'Looking at the image.'
  FINDINGS=
  step preflight preflight
  phase_done "${FINDINGS:-The image fits.}"
  phase network 'Preparing the network.'
  step system prepare_system
  step metadata close_metadata
  await address 300 find_address
  phase_done "This node is $NODE_ADDRESS."
}
