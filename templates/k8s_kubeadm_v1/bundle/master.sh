# shellcheck shell=bash
# What makes a server a master. Sourced by setup.sh and duty.sh.

# shellcheck source=control-plane.sh
. "$BUNDLE/control-plane.sh"

MANIFESTS=/etc/kubernetes/manifests
ADMIN=/etc/kubernetes/admin.conf
# shellcheck disable=SC2034 # read by control-plane.sh
ETCD_CA=$PKI/etcd/ca.crt ETCD_CLIENT=$PKI/apiserver-etcd-client
CONFIG=/etc/kubernetes/magnumd-kubeadm.yaml

init_phase() {
  kubeadm init phase "$@" --config "$CONFIG"
}

write_config() {
  local api=v1beta3 version
  version=$(cat "$STATE/version")
  [ "$(minor "$version")" -lt 31 ] || api=v1beta4
  mkdir -p /etc/kubernetes
  (
    umask 077
    sed "s/@KUBERNETES_VERSION@/$version/" "$BUNDLE/kubeadm/$api.yaml" >"$CONFIG"
  )
}

place_pki() {
  local file
  mkdir -p "$PKI/etcd"
  for file in ca.crt ca.key front-proxy-ca.crt front-proxy-ca.key sa.key sa.pub etcd/ca.crt; do
    install -m "$(stat -c %a "$BUNDLE/pki/$file")" "$BUNDLE/pki/$file" "$PKI/$file"
  done
}

# kubeadm issues no certificates for an etcd that it takes for an external one.
etcd_certificates() {
  request_certificate etcd-server "$PKI/etcd/server"
  request_certificate etcd-peer "$PKI/etcd/peer"
  request_certificate etcd-client "$PKI/apiserver-etcd-client"
}

yaml_item() { # TEXT: one more item of a list, whatever is in it
  printf "    - '%s'\n" "${1//\'/\'\'}"
}

# etcd's minor version: 3.6 speaks gRPC too, which forgives a slow answer, and has lost the fallback
# to a proxy; 3.7 has lost the URL. Another discovery service than ours may speak the old way only.
discovery_flags() {
  local url=$MAGNUMD_ETCD_DISCOVERY_URL first=7 endpoint
  case $url in "$DISCOVERY_BASE"/*) first=6 ;; esac
  if [ "$1" -ge "$first" ]; then
    endpoint=${url#*://}
    yaml_item "--discovery-token=${url##*/}"
    yaml_item "--discovery-endpoints=${endpoint%%/*}"
  else
    yaml_item "--discovery=$url"
    [ "$1" -ge 6 ] || yaml_item --discovery-fallback=exit
  fi
}

write_etcd_manifest() {
  local image minor
  image=$(images | grep '/etcd:')
  minor=$(printf '%s' "${image##*:}" | sed -n 's/^v\{0,1\}3\.\([0-9]*\).*/\1/p')
  mkdir -p "$MANIFESTS" /var/lib/etcd
  chmod 700 /var/lib/etcd
  (
    umask 077
    [ -z "$ETCD_DISCOVERY" ] || discovery_flags "${minor:-0}" >"$STATE/etcd-flags"
    sed -e "s#@ETCD_IMAGE@#$image#" -e "/@ETCD_DISCOVERY@/r $STATE/etcd-flags" \
      -e '/@ETCD_DISCOVERY@/d' "$BUNDLE/etcd.yaml" >"$STATE/etcd.yaml"
    mv "$STATE/etcd.yaml" "$MANIFESTS/etcd.yaml"
  )
}

# What the API server needs in order to ask Keystone.
place_webhook() {
  [ -e "$BUNDLE/keystone-webhook.yaml" ] || return 0
  install -D -m 644 "$BUNDLE/keystone-webhook.yaml" /etc/magnumd/keystone-webhook.yaml
  [ ! -e "$BUNDLE/openstack-ca.pem" ] ||
    install -D -m 644 "$BUNDLE/openstack-ca.pem" /etc/magnumd/openstack-ca.pem
}

api_is_ready() {
  curl --silent --fail --noproxy '*' --max-time 20 --cacert "$PKI/ca.crt" --output /dev/null \
    "https://$MASTER_ADDRESS:6443/readyz"
}

# This master's own tools ask its own API server: no load balancer, no other master.
use_own_api() {
  local file
  for file in admin.conf kubelet.conf; do
    sed -i -E "s#^( *server:) .*#\1 https://$MASTER_ADDRESS:6443#" "/etc/kubernetes/$file"
  done
  systemctl restart kubelet
}

# The trust is the cluster's alone: it is in no stack and no user data, and as a file it does not stay.
apply_cloud_config() {
  [ -e "$BUNDLE/cloud.conf" ] || return 0
  local options=(--from-file "$BUNDLE/cloud.conf")
  [ ! -e "$BUNDLE/openstack-ca.pem" ] || options+=(--from-file "$BUNDLE/openstack-ca.pem")
  kubectl --kubeconfig "$ADMIN" --namespace kube-system create secret generic cloud-config \
    "${options[@]}" --dry-run=client --output yaml |
    kubectl --kubeconfig "$ADMIN" apply --server-side --force-conflicts -f -
  rm -f "$BUNDLE/cloud.conf"
}

become_node() {
  become_container_host
  step kubeadm-config write_config

  phase certs 'Collecting certificates.'
  step pki place_pki
  step etcd-certificates etcd_certificates
  step kubernetes-certificates init_phase certs all
  phase_done 'All certificates are here.'

  phase etcd 'Starting etcd.'
  [ "$ETCD_VOLUME" = 0 ] || step etcd-volume mount_volume magnumd_etcd_volume magnumd-etcd /var/lib/etcd
  step kubelet-kubeconfig init_phase kubeconfig kubelet
  [ -z "$ETCD_REJOIN" ] || step etcd-rejoin rejoin_etcd
  step etcd-manifest write_etcd_manifest
  step kubelet-enable systemctl enable kubelet
  step kubelet-start init_phase kubelet-start
  await etcd-health "$ETCD_PATIENCE" etcd_is_healthy
  phase_done "etcd is healthy; a synchronous write takes $(sync_latency) ms."

  phase control-plane 'Starting the control plane.'
  step kubeconfigs init_phase kubeconfig all
  step keystone-webhook place_webhook
  step control-plane init_phase control-plane all
  await api-server "$PATIENCE" api_is_ready
  step own-api use_own_api
  if [ "$MASTER_INDEX" = 0 ]; then
    step upload-config init_phase upload-config all
    step bootstrap-rbac init_phase bootstrap-token --skip-token-print
  fi
  step mark-control-plane init_phase mark-control-plane
  phase_done 'The API server is ready.'

  phase addons 'Applying add-ons.'
  if [ "$MASTER_INDEX" = 0 ]; then
    step kubeadm-addons init_phase addon all
    step cloud-config apply_cloud_config
    step addons apply_addons
  fi
  step routes start_routes
  step api-spread start_spread
  step duties start_duties
  phase_done 'Add-ons are applied.'

  phase ready 'Waiting for the node.'
  await node-ready "$PATIENCE" node_is_ready "$ADMIN"
  step kubelet-finalize init_phase kubelet-finalize all
  report_surely 'done' 'The node is Ready.'
}
