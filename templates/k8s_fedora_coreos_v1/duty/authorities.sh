# shellcheck shell=bash
# What this node trusts becomes what the duty's bundle says: in each file one authority, or the
# present and the next one. Sourced by duty.sh for trust-authorities and drop-authorities.

place_authorities() {
  install -D -m 644 "$BUNDLE/pki/ca.crt" "$CERTS/ca.crt"
  [ "$MAGNUMD_NODE_ROLE" = master ] || return 0
  install -D -m 644 "$BUNDLE/pki/front-proxy-ca.crt" "$CERTS/front-proxy/ca.crt"
  install -D -m 644 "$BUNDLE/pki/etcd/ca.crt" "$ETCD_CERTS/ca.crt"
}

restart_programs() { # one after the other, and each healthy before the next
  local server=$ROOT/etc/kubernetes/kubelet-config.yaml
  if [ "$MAGNUMD_NODE_ROLE" = master ]; then
    step restart-etcd systemctl restart etcd
    await etcd-health "$PATIENCE" etcd_is_healthy
    step restart-api-server systemctl restart kube-apiserver
    await api-server "$PATIENCE" api_is_ready
    step restart-controllers systemctl restart kube-controller-manager kube-scheduler
    server=$ADMIN
  fi
  step restart-node systemctl restart kubelet kube-proxy
  await node-ready "$PATIENCE" node_is_ready "$server"
}

perform() {
  step place-authorities place_authorities
  restart_programs
}
