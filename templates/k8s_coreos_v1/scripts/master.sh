#!/bin/bash
# The first boot of a master. Its end, well or not, is told to Heat.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=common.sh
. "$here/common.sh"
# shellcheck source=make-cert.sh
. "$here/make-cert.sh"
trap 'ended $?' EXIT

etcd_scheme=https
[ "$TLS_DISABLED" = False ] || etcd_scheme=http

# etcd-member shows its container one directory, and runs as a user of its own.
etcd_certificates() { # one authority for all, as it was
  mkdir -p /etc/etcd/certs
  if [ "$TLS_DISABLED" = False ]; then
    cp "$CERTS/ca.crt" "$CERTS/server.crt" "$CERTS/server.key" /etc/etcd/certs/
  fi
  chown -R etcd:etcd /etc/etcd/certs
}

configure_etcd() {
  local directory=/etc/systemd/system/etcd-member.service.d seen=/etc/ssl/certs
  mkdir -p "$directory"
  {
    printf '[Service]\nEnvironment="ETCD_IMAGE_TAG=%s" "ETCD_SSL_DIR=/etc/etcd/certs"\n' "$ETCD_TAG"
    printf 'Environment="ETCD_NAME=%s"\n' "$(hostname -s)"
    printf 'Environment="ETCD_LISTEN_CLIENT_URLS=%s://%s:2379,http://127.0.0.1:2379"\n' "$etcd_scheme" "$KUBE_NODE_IP"
    printf 'Environment="ETCD_ADVERTISE_CLIENT_URLS=%s://%s:2379"\n' "$etcd_scheme" "$KUBE_NODE_IP"
    printf 'Environment="ETCD_LISTEN_PEER_URLS=%s://%s:2380"\n' "$etcd_scheme" "$KUBE_NODE_IP"
    printf 'Environment="ETCD_INITIAL_ADVERTISE_PEER_URLS=%s://%s:2380"\n' "$etcd_scheme" "$KUBE_NODE_IP"
    printf 'Environment="ETCD_DISCOVERY=%s" "ETCD_DISCOVERY_FALLBACK=exit"\n' "$ETCD_DISCOVERY_URL"
    printf 'Environment="ETCD_HEARTBEAT_INTERVAL=500" "ETCD_ELECTION_TIMEOUT=5000"\n'
    if [ "$TLS_DISABLED" = False ]; then
      printf 'Environment="ETCD_TRUSTED_CA_FILE=%s/ca.crt" "ETCD_CLIENT_CERT_AUTH=true"\n' "$seen"
      printf 'Environment="ETCD_CERT_FILE=%s/server.crt" "ETCD_KEY_FILE=%s/server.key"\n' "$seen" "$seen"
      printf 'Environment="ETCD_PEER_TRUSTED_CA_FILE=%s/ca.crt" "ETCD_PEER_CLIENT_CERT_AUTH=true"\n' "$seen"
      printf 'Environment="ETCD_PEER_CERT_FILE=%s/server.crt"\n' "$seen"
      printf 'Environment="ETCD_PEER_KEY_FILE=%s/server.key"\n' "$seen"
    fi
  } >"$directory/40-magnumd.conf"
}

etcd_is_healthy() {
  curl --silent --noproxy '*' --max-time 10 http://127.0.0.1:2379/health | grep '"true"' >/dev/null
}

# Masters sign tokens of service accounts with one key: whoever is first leaves his in etcd.
share_account_key() {
  local url=http://127.0.0.1:2379/v2/keys/magnumd/service-account key=$CERTS/service_account_private.key
  (
    umask 077
    openssl genrsa -out "$STATE/account.key" 2048
    curl --silent --noproxy '*' --max-time 20 --output /dev/null --request PUT \
      --data-urlencode "value@$STATE/account.key" "$url?prevExist=false"
    rm -f "$STATE/account.key"
    curl --silent --fail --noproxy '*' --max-time 20 "$url" |
      sed -n 's/.*"value":"\([^"]*\)".*/\1/p' | sed 's/\\n/\n/g' >"$key"
  ) && openssl rsa -in "$key" -pubout -out "$CERTS/service_account.key"
}

plan_flannel() { # for all nodes, in etcd
  curl --silent --fail --noproxy '*' --max-time 20 --output /dev/null --request PUT \
    --data-urlencode value@/etc/sysconfig/flannel-network.json \
    http://127.0.0.1:2379/v2/keys/coreos.com/network/config
}

api_is_healthy() {
  [ "$(curl --silent --noproxy '*' --max-time 10 http://127.0.0.1:8080/healthz)" = ok ]
}

# There is no kubectl on the host, but there is one in the image that is here anyway.
apply_addons() {
  local file
  for file in /etc/kubernetes/addons/*.yaml; do
    [ -e "$file" ] || continue
    wait_for 600 docker run --rm --net host --volume /etc/kubernetes/addons:/etc/kubernetes/addons:ro \
      "$HYPERKUBE_IMAGE:$KUBE_TAG" /hyperkube kubectl --server http://127.0.0.1:8080 apply -f "$file"
  done
}

prepare
[ "$TLS_DISABLED" != False ] || step master-certificates master_certificates
step etcd-certificates etcd_certificates
step etcd-settings configure_etcd
step etcd-start start_units etcd-member
# The others may come much later: a quorum is needed before anything can be written.
step etcd-health wait_for "$WAIT_CONDITION_TIMEOUT" etcd_is_healthy
step account-key wait_for 300 share_account_key
step flannel-network wait_for 300 plan_flannel
step metadata close_metadata
step flannel-settings configure_flannel
step docker-settings configure_docker
step kubelet-settings write_kubelet_settings http://127.0.0.1:8080
step start start_units flanneld docker kubelet
step api-health wait_for 1200 api_is_healthy
step addons apply_addons
