# shellcheck shell=bash
# Every certificate of this node is issued anew, by the next authorities. Sourced by duty.sh.

# shellcheck source=authorities.sh
. "$BUNDLE/authorities.sh"
# shellcheck source=workloads.sh
. "$BUNDLE/workloads.sh"

place_keys() {
  local file
  for file in ca.key front-proxy-ca.key; do
    install -m 600 "$BUNDLE/pki/$file" "$PKI/$file"
  done
}

forget_leaves() {
  rm -f "$PKI"/apiserver.{crt,key} "$PKI"/apiserver-kubelet-client.{crt,key} \
    "$PKI"/front-proxy-client.{crt,key} "$PKI"/etcd/{server,peer}.{crt,key} \
    "$PKI"/apiserver-etcd-client.{crt,key}
}

forget_kubeconfigs() {
  local name
  for name in "${KUBECONFIGS[@]}"; do rm -f "$ROOT/etc/kubernetes/$name.conf"; done
  rm -f "$ROOT"/var/lib/kubelet/pki/kubelet-client-*
}

master_leaves() {
  [ "$MASTER_INDEX" != 0 ] || step restart-workloads restart_workloads
  step place-authorities place_authorities
  step place-keys place_keys
  step forget-leaves forget_leaves
  step etcd-certificates etcd_certificates
  step kubernetes-certificates init_phase certs all
  step forget-kubeconfigs forget_kubeconfigs
  step kubeconfigs init_phase kubeconfig all
  step embed-authority embed_authority
  step own-api use_own_api
  restart_node
  step kubelet-finalize init_phase kubelet-finalize all
}

worker_leaves() {
  local current=$ROOT/var/lib/kubelet/pki
  step forget-key rm -f "$PKI/kubelet-client.key"
  step kubelet-certificate request_certificate kubelet "$PKI/kubelet-client"
  step place-certificate place_client_certificate "$current"
  restart_node
}

perform() {
  if [ "$MAGNUMD_NODE_ROLE" = master ]; then master_leaves; else worker_leaves; fi
}
