# shellcheck shell=bash
# How a node changes what it trusts and what it is trusted by. Sourced by the duties of a rotation.

KUBECONFIGS=(admin super-admin controller-manager scheduler kubelet)

# From the duty's bundle: one authority in each file, or two, of which the first signs.
place_authorities() {
  local file
  for file in ca.crt front-proxy-ca.crt etcd/ca.crt; do
    [ ! -e "$BUNDLE/pki/$file" ] || install -D -m 644 "$BUNDLE/pki/$file" "$PKI/$file"
  done
  [ "$MAGNUMD_NODE_ROLE" = worker ] || place_signer
}

# The controller manager does not start with two authorities to sign with.
place_signer() {
  local manifest=$ROOT/etc/kubernetes/manifests/kube-controller-manager.yaml
  awk '/BEGIN CERTIFICATE/ { n++ } n < 2' "$PKI/ca.crt" >"$PKI/signer.crt.new"
  mv "$PKI/signer.crt.new" "$PKI/signer.crt"
  (
    umask 077
    sed -E "s#(--cluster-signing-cert-file=).*#\1$PKI/signer.crt#" "$manifest" \
      >"$STATE/manager.yaml"
  )
  cmp -s "$STATE/manager.yaml" "$manifest" || mv "$STATE/manager.yaml" "$manifest"
}

# kubeadm writes the authority into each kubeconfig; a worker's names the file.
embed_authority() {
  local name file data
  data=$(base64 -w 0 "$PKI/ca.crt")
  for name in "${KUBECONFIGS[@]}"; do
    file=$ROOT/etc/kubernetes/$name.conf
    [ ! -e "$file" ] || sed -i -E "s#(certificate-authority-data:) .*#\1 $data#" "$file"
  done
}

restart_container() { # NAME: the kubelet starts it again, and it reads its files again
  local id
  id=$(cri ps --state Running --name "^$1\$" --quiet | head -n 1)
  [ -z "$id" ] || cri stop "$id" >/dev/null
}

restart_kubelet() {
  systemctl restart kubelet
}

restart_control_plane() {
  step restart-etcd restart_container etcd
  await etcd-health "$PATIENCE" etcd_is_healthy
  step restart-api-server restart_container kube-apiserver
  await api-server "$PATIENCE" api_is_ready
  step restart-controller-manager restart_container kube-controller-manager
  step restart-scheduler restart_container kube-scheduler
  # It serves with the API server's certificate.
  step restart-keystone-auth restart_container k8s-keystone-auth
}

restart_node() {
  local config=$ROOT/etc/kubernetes/kubelet.conf
  [ "$MAGNUMD_NODE_ROLE" = worker ] || restart_control_plane
  step restart-kubelet restart_kubelet
  [ "$MAGNUMD_NODE_ROLE" = worker ] || config=$ADMIN
  await node-ready "$PATIENCE" node_is_ready "$config"
}
