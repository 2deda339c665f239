# shellcheck shell=bash
# What makes a server a worker: a signed certificate and a kubelet, no token and no join.
# Sourced by setup.sh and duty.sh.

KUBECONFIG_FILE=/etc/kubernetes/kubelet.conf

place_client_certificate() { # DIRECTORY
  mkdir -p "$1"
  (
    umask 077
    cat "$PKI/kubelet-client.crt" "$PKI/kubelet-client.key" >"$1/kubelet-client-magnumd.pem"
  )
  # A link, because the kubelet turns it to the next certificate when it renews its own.
  ln -sf kubelet-client-magnumd.pem "$1/kubelet-client-current.pem"
}

write_kubelet_files() {
  local flags
  mkdir -p /etc/kubernetes/manifests
  install -m 644 "$BUNDLE/pki/ca.crt" "$PKI/ca.crt"
  if is_inline; then
    # The kubelet asks the cluster for a certificate, and writes $KUBECONFIG_FILE itself.
    install -m 644 "$BUNDLE/pki/bootstrap.crt" "$PKI/bootstrap.crt"
    install -m 600 "$BUNDLE/pki/bootstrap.key" "$PKI/bootstrap.key"
    install -m 600 "$BUNDLE/bootstrap-kubelet.conf" /etc/kubernetes/bootstrap-kubelet.conf
  else
    place_client_certificate /var/lib/kubelet/pki
    install -m 600 "$BUNDLE/kubelet.conf" "$KUBECONFIG_FILE"
  fi
  sed "s#@RESOLV_CONF@#$(resolv_conf)#" "$BUNDLE/kubelet.yaml" >/var/lib/kubelet/config.yaml
  flags="--hostname-override=$NODE --node-ip=$NODE_ADDRESS --node-labels=$NODE_LABELS"
  [ -z "$CLOUD_PROVIDER" ] || flags+=" --cloud-provider=external"
  if [ "$(minor "$(cat "$STATE/version")")" -lt 27 ]; then
    flags+=" --container-runtime-endpoint=$SOCKET"
  else
    printf 'containerRuntimeEndpoint: %s\n' "$SOCKET" >>/var/lib/kubelet/config.yaml
  fi
  printf 'KUBELET_KUBEADM_ARGS="%s"\n' "$flags" >/var/lib/kubelet/kubeadm-flags.env
}

start_kubelet() {
  systemctl cat kubelet | grep kubeadm-flags.env >/dev/null ||
    give_up "The image's kubelet.service does not read kubeadm-flags.env. Use an image made for kubeadm."
  systemctl daemon-reload
  systemctl enable kubelet
  systemctl restart kubelet
}

become_node() {
  become_container_host

  phase certs 'Asking for a certificate.'
  mkdir -p "$PKI"
  is_inline || step kubelet-certificate request_certificate kubelet "$PKI/kubelet-client"
  step kubelet-files write_kubelet_files
  phase_done 'The certificate is here.'

  phase addons 'Starting the kubelet.'
  step kubelet start_kubelet
  step routes start_routes
  step api-spread start_spread
  step duties start_duties
  phase_done 'The kubelet runs.'

  phase ready 'Waiting for the node.'
  await node-ready "$PATIENCE" node_is_ready "$KUBECONFIG_FILE"
  report_surely 'done' 'The node is Ready.'
}
