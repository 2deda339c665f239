# shellcheck shell=bash
# What makes a server a master. Sourced by setup.sh and duty.sh.

# shellcheck source=control-plane.sh
. "$BUNDLE/control-plane.sh"

ADMIN=$ROOT/etc/kubernetes/admin.conf
# shellcheck disable=SC2034 # read by control-plane.sh
ETCD_CA=$ETCD_CERTS/ca.crt ETCD_CLIENT=$ETCD_CERTS/client

place_keys() { # no authority's key is among them: every certificate is asked for
  install -D -m 644 "$BUNDLE/pki/ca.crt" "$CERTS/ca.crt"
  install -D -m 644 "$BUNDLE/pki/front-proxy-ca.crt" "$CERTS/front-proxy/ca.crt"
  install -D -m 644 "$BUNDLE/pki/etcd/ca.crt" "$ETCD_CERTS/ca.crt"
  install -D -m 644 "$BUNDLE/pki/sa.pub" "$CERTS/service_account.key"
  install -D -m 600 "$BUNDLE/pki/sa.key" "$CERTS/service_account_private.key"
}

master_certificates() {
  request_certificate etcd-server "$ETCD_CERTS/server"
  request_certificate etcd-peer "$ETCD_CERTS/peer"
  request_certificate etcd-client "$ETCD_CERTS/client"
  request_certificate front-proxy-client "$CERTS/front-proxy/client"
  request_certificate kube-apiserver "$CERTS/server"
  request_certificate kube-apiserver-kubelet-client "$CERTS/kubelet-client"
  request_certificate kubelet "$CERTS/kubelet"
  request_certificate kube-controller-manager "$CERTS/controller-manager"
  request_certificate kube-scheduler "$CERTS/scheduler"
  request_certificate kube-proxy "$CERTS/proxy"
  request_certificate admin "$CERTS/admin"
}

discovery_options() { # one on each line; 3.6 lost the fallback to a proxy, 3.7 the one URL
  local url=$MAGNUMD_ETCD_DISCOVERY_URL minor
  [ -n "$url" ] && [ -z "$ETCD_REJOIN" ] || return 0
  minor=$(minor "$ETCD_TAG")
  if [ "$minor" -ge 7 ]; then
    printf '%s\n' "--discovery-token=${url##*/}" "--discovery-endpoints=${url%/*}"
  else
    printf '%s\n' "--discovery=$url"
    [ "$minor" -ge 6 ] || printf '%s\n' --discovery-fallback=exit
  fi
}

start_etcd() {
  local discovery
  install -d -m 700 "$ROOT/var/lib/etcd"
  mapfile -t discovery < <(discovery_options)
  start_program etcd "${discovery[@]}"
}

api_is_ready() {
  curl --silent --fail --noproxy '*' --max-time 20 --cacert "$CERTS/ca.crt" --output /dev/null \
    --cert "$CERTS/admin.crt" --key "$CERTS/admin.key" "https://$MASTER_ADDRESS:6443/readyz"
}

# This master's own programs ask its own API server: no load balancer, no other master.
start_control_plane() {
  local more
  write_kubeconfig "$ADMIN" admin "$MASTER_ADDRESS"
  write_kubeconfig "$ROOT/etc/kubernetes/controller-config.yaml" controller-manager "$MASTER_ADDRESS"
  write_kubeconfig "$ROOT/etc/kubernetes/scheduler-config.yaml" scheduler "$MASTER_ADDRESS"
  mapfile -t more < <(words "$KUBEAPI_OPTIONS")
  start_program kube-apiserver "${more[@]}"
  mapfile -t more < <(words "$KUBECONTROLLER_OPTIONS")
  start_program kube-controller-manager "${more[@]}"
  mapfile -t more < <(words "$KUBESCHEDULER_OPTIONS")
  start_program kube-scheduler "${more[@]}"
}

mark_master() { # as Kubernetes says it now, and as it was said
  kubectl --kubeconfig "$ADMIN" label --overwrite node "$NODE" \
    node-role.kubernetes.io/control-plane= node-role.kubernetes.io/master=
}

become_node() {
  become_container_host

  phase certs 'Collecting certificates.'
  step keys place_keys
  step certificates master_certificates
  phase_done 'All certificates are here.'

  phase etcd 'Starting etcd.'
  [ "$ETCD_VOLUME" = 0 ] || step etcd-volume mount_volume magnumd_etcd_volume magnumd-etcd /var/lib/etcd
  [ -z "$ETCD_REJOIN" ] || step etcd-rejoin rejoin_etcd
  step etcd start_etcd
  await etcd-health "$PATIENCE" etcd_is_healthy
  phase_done "etcd is healthy; a synchronous write takes $(sync_latency) ms."

  phase control-plane 'Starting the control plane.'
  step control-plane start_control_plane
  await api-server "$PATIENCE" api_is_ready
  step node-programs start_node_programs "$MASTER_ADDRESS"
  phase_done 'The API server is ready.'

  phase addons 'Applying add-ons.'
  [ "$MASTER_INDEX" != 0 ] || step addons apply_addons
  step duties start_duties
  phase_done 'Add-ons are applied.'

  phase ready 'Waiting for the node.'
  await node-ready "$PATIENCE" node_is_ready "$ADMIN"
  step mark mark_master
  report_surely 'done' 'The node is Ready.'
}
