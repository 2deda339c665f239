#!/bin/bash
# The first boot of a master. Its end, well or not, is told to Heat.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec >>/var/log/magnumd-first-boot.log 2>&1
# shellcheck source=common.sh
. "$here/common.sh"
# shellcheck source=make-cert.sh
. "$here/make-cert.sh"
trap 'ended $?' EXIT

etcd_scheme=https
[ "$TLS_DISABLED" = False ] || etcd_scheme=http

etcd_volume() {
  local device
  [ -n "$ETCD_VOLUME" ] || return 0
  wait_for 300 has_volume "$ETCD_VOLUME"
  device=$(volume_device "$ETCD_VOLUME")
  blkid "$device" >/dev/null || mkfs.xfs -f -L etcd "$device"
  mkdir -p /var/lib/etcd
  printf 'LABEL=etcd /var/lib/etcd xfs defaults,nofail 0 0\n' >>/etc/fstab
  mount /var/lib/etcd
}

etcd_certificates() { # one authority for all, as it was
  [ "$TLS_DISABLED" = False ] || return 0
  mkdir -p /etc/etcd/certs
  cp "$CERTS/ca.crt" "$CERTS/server.crt" "$CERTS/server.key" /etc/etcd/certs/
}

configure_etcd() {
  mkdir -p /etc/etcd
  {
    printf 'ETCD_NAME=%s\nETCD_DATA_DIR=/var/lib/etcd/default.etcd\n' "$(hostname -s)"
    printf 'ETCD_LISTEN_CLIENT_URLS=%s://%s:2379,http://127.0.0.1:2379\n' "$etcd_scheme" "$KUBE_NODE_IP"
    printf 'ETCD_ADVERTISE_CLIENT_URLS=%s://%s:2379\n' "$etcd_scheme" "$KUBE_NODE_IP"
    printf 'ETCD_LISTEN_PEER_URLS=%s://%s:2380\n' "$etcd_scheme" "$KUBE_NODE_IP"
    printf 'ETCD_INITIAL_ADVERTISE_PEER_URLS=%s://%s:2380\n' "$etcd_scheme" "$KUBE_NODE_IP"
    printf 'ETCD_DISCOVERY=%s\nETCD_DISCOVERY_FALLBACK=exit\n' "$ETCD_DISCOVERY_URL"
    printf 'ETCD_HEARTBEAT_INTERVAL=500\nETCD_ELECTION_TIMEOUT=5000\n'
    if [ "$TLS_DISABLED" = False ]; then
      printf 'ETCD_TRUSTED_CA_FILE=/etc/etcd/certs/ca.crt\nETCD_CLIENT_CERT_AUTH=true\n'
      printf 'ETCD_CERT_FILE=/etc/etcd/certs/server.crt\nETCD_KEY_FILE=/etc/etcd/certs/server.key\n'
      printf 'ETCD_PEER_TRUSTED_CA_FILE=/etc/etcd/certs/ca.crt\nETCD_PEER_CLIENT_CERT_AUTH=true\n'
      printf 'ETCD_PEER_CERT_FILE=/etc/etcd/certs/server.crt\n'
      printf 'ETCD_PEER_KEY_FILE=/etc/etcd/certs/server.key\n'
    fi
  } >/etc/etcd/etcd.conf
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
    http://127.0.0.1:2379/v2/keys/atomic.io/network/config
}

configure_control_plane() {
  local address=127.0.0.1 arguments=
  [ "$TLS_DISABLED" = False ] || address=0.0.0.0
  arguments="--service-account-key-file=$CERTS/service_account.key --runtime-config=api/all=true"
  if [ "$TLS_DISABLED" = False ]; then
    arguments+=" --authorization-mode=Node,RBAC --client-ca-file=$CERTS/ca.crt"
    arguments+=" --tls-cert-file=$CERTS/server.crt --tls-private-key-file=$CERTS/server.key"
    arguments+=" --kubelet-client-certificate=$CERTS/admin.crt"
    arguments+=" --kubelet-client-key=$CERTS/admin.key"
    arguments+=' --kubelet-preferred-address-types=InternalIP,Hostname,ExternalIP'
  fi
  {
    printf 'KUBE_API_ADDRESS="--bind-address=0.0.0.0 --secure-port=6443 --insecure-port=8080'
    printf -- ' --insecure-bind-address=%s --advertise-address=%s"\n' "$address" "$KUBE_NODE_IP"
    printf 'KUBE_ETCD_SERVERS="--etcd-servers=http://127.0.0.1:2379"\n'
    printf 'KUBE_SERVICE_ADDRESSES="--service-cluster-ip-range=%s"\n' "$PORTAL_NETWORK_CIDR"
    printf 'KUBE_ADMISSION_CONTROL="%s"\n' \
      "${ADMISSION_CONTROL_LIST:+--admission-control=$ADMISSION_CONTROL_LIST}"
    printf 'KUBE_API_ARGS="%s %s"\n' "$arguments" "$KUBEAPI_OPTIONS"
  } >/etc/kubernetes/apiserver
  arguments="--leader-elect=true --cluster-name=kubernetes"
  arguments+=" --service-account-private-key-file=$CERTS/service_account_private.key"
  [ "$TLS_DISABLED" != False ] || arguments+=" --root-ca-file=$CERTS/ca.crt"
  printf 'KUBE_CONTROLLER_MANAGER_ARGS="%s %s"\n' "$arguments" "$KUBECONTROLLER_OPTIONS" \
    >/etc/kubernetes/controller-manager
  printf 'KUBE_SCHEDULER_ARGS="--leader-elect=true %s"\n' "$KUBESCHEDULER_OPTIONS" \
    >/etc/kubernetes/scheduler
}

api_is_healthy() {
  [ "$(curl --silent --noproxy '*' --max-time 10 http://127.0.0.1:8080/healthz)" = ok ]
}

apply_addons() {
  local file
  for file in /etc/kubernetes/addons/*.yaml; do
    [ -e "$file" ] || continue
    wait_for 600 kubectl --server http://127.0.0.1:8080 apply -f "$file"
  done
}

prepare
if [ "$TLS_DISABLED" = False ]; then
  step node-certificates node_certificates
  step master-certificates master_certificates
fi
mkdir -p "$CERTS"
step etcd-volume etcd_volume
step etcd-certificates etcd_certificates
step etcd-settings configure_etcd
step etcd-install install_program etcd "$IMAGE_PREFIX/etcd:$ETCD_TAG"
step etcd-start start_programs etcd
# The others may come much later: a quorum is needed before anything can be written.
step etcd-health wait_for "$WAIT_CONDITION_TIMEOUT" etcd_is_healthy
step account-key wait_for 300 share_account_key
step flannel-network wait_for 300 plan_flannel
step metadata close_metadata
step flannel-settings configure_flannel
step control-plane-settings configure_control_plane
step node-settings write_node_settings http://127.0.0.1:8080
for program in apiserver controller-manager scheduler kubelet proxy; do
  step "install-$program" install_program "kube-$program" "$IMAGE_PREFIX/kubernetes-$program:$KUBE_TAG"
done
step flannel-install install_program flanneld "$IMAGE_PREFIX/flannel:$FLANNEL_TAG"
step flannel-start start_programs flanneld
step docker-network put_docker_behind_flannel
step start start_programs kube-apiserver kube-controller-manager kube-scheduler kube-kubelet kube-proxy
step api-health wait_for 1200 api_is_healthy
step addons apply_addons
