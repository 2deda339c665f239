# shellcheck shell=bash
# What masters have in common, however the control plane runs on them. Sourced by master.sh, which
# says in ETCD_CA and ETCD_CLIENT with what it calls etcd, without the client's .crt and .key, and in
# ADMIN with which kubeconfig the API.

# A rebuilt master has lost its data with its disk, unless that was on a volume. The others still
# count a member with its address, which a new one must replace. What is spoken here is etcd's
# own gateway to JSON (etcd 3.4 and later), so that no etcdctl is needed.
ask_members() { # PEER WHAT JSON
  curl --silent --show-error --fail --noproxy '*' --max-time 20 --cacert "$ETCD_CA" \
    --cert "$ETCD_CLIENT.crt" --key "$ETCD_CLIENT.key" \
    --data "$3" "https://$1:2379/v3/cluster/member/$2"
}

rejoin_etcd() {
  local peer members id own="https://$MASTER_ADDRESS:2380"
  [ -z "$(ls -A "$ROOT/var/lib/etcd/member" 2>/dev/null)" ] || return 0
  for peer in $ETCD_PEERS; do
    members=$(ask_members "$peer" list '{}') || continue
    id=$(tr '{' '\n' <<<"$members" | grep -F "\"$own\"" | sed -n 's/.*"ID":"\([0-9]*\)".*/\1/p')
    [ -z "$id" ] || ask_members "$peer" remove "{\"ID\":\"$id\"}" >/dev/null
    ask_members "$peer" add "{\"peerURLs\":[\"$own\"]}" >/dev/null
    return 0
  done
  log "none of the other members of etcd answers: ${ETCD_PEERS:-there is none}"
  return 1
}

etcd_is_healthy() {
  curl --silent --noproxy '*' --max-time 20 --cacert "$ETCD_CA" \
    --cert "$ETCD_CLIENT.crt" --key "$ETCD_CLIENT.key" \
    https://127.0.0.1:2379/health | grep '"health":"true"' >/dev/null
}

# Milliseconds for one small write that must be on disk: what etcd waits for all day.
sync_latency() {
  local probe=$ROOT/var/lib/etcd/.magnumd-probe began ended
  began=$(date +%s%N)
  dd if=/dev/zero of="$probe" bs=2300 count=10 oflag=dsync 2>/dev/null
  ended=$(date +%s%N)
  rm -f "$probe"
  printf '%s' "$(((ended - began) / 10000000))"
}

apply_addons() {
  local file
  for file in "$BUNDLE"/addons/*.yaml; do
    [ ! -e "$file" ] || kubectl --kubeconfig "$ADMIN" apply -f "$file"
  done
}
