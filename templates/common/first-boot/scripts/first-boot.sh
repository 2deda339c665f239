# shellcheck shell=bash disable=SC2034,SC2154
# What first boots have in common whose end Heat is told. It is one file on the node with the driver's
# own scripts/common.sh, which says where tell-heat is (TELL_HEAT) and the log (LOG). Sourced.

# shellcheck source=/dev/null
. /etc/sysconfig/heat-params
STATE=/var/lib/magnumd
CERTS=/etc/kubernetes/certs
export PATH=$PATH:/usr/local/bin:/opt/bin
mkdir -p "$STATE"

log() {
  printf '%s %s\n' "$(date -u +%FT%TZ)" "$*"
}

wait_for() { # SECONDS COMMAND...
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    if [ "$SECONDS" -ge "$until" ]; then
      log "waited in vain for: $*"
      return 1
    fi
    sleep 5
  done
}

# The end of a first boot, well or not: Heat waits for this.
tell_heat() { # SUCCESS|FAILURE REASON
  local reason
  reason=$(printf '%s' "$2" | tr -cd ' -!#-[]-~' | head -c 250)
  wait_for 600 "$TELL_HEAT" \
    "{\"status\": \"$1\", \"reason\": \"$reason\", \"id\": \"first-boot\"}"
}

STEP=start
step() { # NAME COMMAND...
  STEP=$1
  shift
  log "step $STEP"
  "$@"
}

ended() { # CODE
  if [ "$1" = 0 ]; then
    tell_heat SUCCESS "$(hostname -s) is ready"
  else
    tell_heat FAILURE "$(hostname -s): step $STEP failed; see $LOG"
  fi
}

find_address() { # a worker's is where it calls the API from
  if [ -z "$KUBE_NODE_IP" ]; then
    KUBE_NODE_IP=$(ip -4 -o route get "$KUBE_MASTER_IP" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
  fi
  [ -n "$KUBE_NODE_IP" ]
}

close_metadata() { # to pods, before there are any; the label metadata_access_enabled opens it
  [ "$METADATA_ACCESS" = False ] || return 0
  local unit=magnumd-metadata.service rule='-t raw -I PREROUTING -d 169.254.169.254 -j DROP'
  printf '%s\n' '[Unit]' 'Description=Keeps the metadata service from pods' 'Before=docker.service' \
    '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' "ExecStart=/usr/sbin/iptables -w $rule" \
    '[Install]' 'WantedBy=multi-user.target' >"/etc/systemd/system/$unit"
  systemctl daemon-reload
  systemctl enable --now "$unit"
}

write_kubeconfig() { # FILE SERVER [CERTIFICATE]
  {
    printf 'apiVersion: v1\nkind: Config\ncurrent-context: default\nclusters:\n- name: default\n'
    printf '  cluster: {server: "%s"%s}\n' "$2" \
      "${3:+, certificate-authority: $CERTS/ca.crt}"
    printf 'contexts:\n- name: default\n  context: {cluster: default, user: default}\nusers:\n'
    printf -- '- name: default\n'
    if [ -n "${3:-}" ]; then
      printf '  user: {client-certificate: %s.crt, client-key: %s.key}\n' "$CERTS/$3" "$CERTS/$3"
    else
      printf '  user: {}\n'
    fi
  } >"$1"
}

clock_is_sane() { # one that is behind makes every certificate look as if it came from the future
  [ "$(date +%Y)" -ge 2018 ]
}
