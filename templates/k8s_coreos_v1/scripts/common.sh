
TELL_HEAT=/opt/magnumd/tell-heat LOG='journalctl -u magnumd-first-boot'

trust_openstack() { # its own authority, where it has one
  [ -s /etc/magnumd/openstack-ca.pem ] || return 0
  cp /etc/magnumd/openstack-ca.pem /etc/ssl/certs/openstack-ca.pem
  update-ca-certificates
}

configure_docker() {
  local options='--log-driver=journald' directory=/etc/systemd/system/docker.service.d
  mkdir -p "$directory"
  [ -z "$INSECURE_REGISTRY" ] || options+=" --insecure-registry=$INSECURE_REGISTRY"
  options+=" --storage-driver=$DOCKER_STORAGE_DRIVER"
  {
    printf '[Unit]\nRequires=flanneld.service\nAfter=flanneld.service\n[Service]\n'
    printf 'EnvironmentFile=/run/flannel/flannel_docker_opts.env\nEnvironment="DOCKER_OPTS=%s"\n' "$options"
    [ ! -s /etc/magnumd/proxy.env ] || printf 'EnvironmentFile=/etc/magnumd/proxy.env\n'
  } >"$directory/40-magnumd.conf"
}

configure_flannel() { # Docker's own bridge lies in this node's share of the pods' network
  local scheme=http server servers='' directory=/etc/systemd/system/flanneld.service.d
  [ "$TLS_DISABLED" != False ] || scheme=https
  for server in $ETCD_SERVERS; do
    servers+=${servers:+,}$scheme://$server:2379
  done
  mkdir -p "$directory" /etc/flannel
  {
    printf 'FLANNELD_IFACE=%s\nFLANNELD_ETCD_ENDPOINTS=%s\n' "$KUBE_NODE_IP" "$servers"
    if [ "$TLS_DISABLED" = False ]; then
      printf 'FLANNELD_ETCD_CAFILE=/etc/ssl/etcd/ca.crt\nFLANNELD_ETCD_CERTFILE=/etc/ssl/etcd/client.crt\n'
      printf 'FLANNELD_ETCD_KEYFILE=/etc/ssl/etcd/client.key\n'
    fi
  } >/etc/flannel/options.env
  {
    printf '[Service]\nEnvironmentFile=/etc/flannel/options.env\n'
    printf 'Environment="FLANNEL_IMAGE_TAG=%s"\n' "$FLANNEL_TAG"
    printf 'Environment="RKT_RUN_ARGS=--volume etcd-certs,kind=host,source=/etc/ssl/etcd,readOnly=true'
    printf ' --mount volume=etcd-certs,target=/etc/ssl/etcd"\n'
  } >"$directory/40-magnumd.conf"
  mkdir -p /etc/ssl/etcd
  if [ "$TLS_DISABLED" = False ]; then
    cp "$CERTS/ca.crt" /etc/ssl/etcd/ca.crt
    cp "$CERTS/kubelet.crt" /etc/ssl/etcd/client.crt
    cp "$CERTS/kubelet.key" /etc/ssl/etcd/client.key
  fi
}

write_kubelet_settings() { # SERVER: what kubelet and kube-proxy read
  local credentials=kubelet
  [ "$TLS_DISABLED" = False ] || credentials=
  write_kubeconfig /etc/kubernetes/kubelet-config.yaml "$1" "$credentials"
  [ -z "$credentials" ] || credentials=proxy
  write_kubeconfig /etc/kubernetes/proxy-config.yaml "$1" "$credentials"
  {
    printf 'KUBELET_IMAGE_URL=docker://%s\nKUBELET_IMAGE_TAG=%s\n' "$HYPERKUBE_IMAGE" "$KUBE_TAG"
    printf 'KUBELET_ARGS=--kubeconfig=/etc/kubernetes/kubelet-config.yaml'
    printf -- ' --hostname-override=%s --node-ip=%s' "$(hostname -s)" "$KUBE_NODE_IP"
    printf -- ' --pod-manifest-path=/etc/kubernetes/manifests --allow-privileged=true'
    printf -- ' --cluster-dns=%s --cluster-domain=cluster.local' "$DNS_SERVICE_IP"
    printf -- ' --node-labels=%s' "$NODE_LABELS"
    [ -z "$NODE_TAINTS" ] || printf -- ' --register-with-taints=%s' "$NODE_TAINTS"
    [ "$TLS_DISABLED" != False ] || printf -- ' --client-ca-file=%s --tls-cert-file=%s --tls-private-key-file=%s' \
      "$CERTS/ca.crt" "$CERTS/kubelet.crt" "$CERTS/kubelet.key"
    printf ' %s\n' "$KUBELET_OPTIONS"
  } >/etc/kubernetes/kubelet.env
}

start_units() { # NAME...
  systemctl daemon-reload
  systemctl enable "$@"
  systemctl restart --no-block "$@"
}

prepare() { # everything before the first program
  step clock wait_for 600 clock_is_sane
  step address wait_for 300 find_address
  step trust trust_openstack
  mkdir -p "$CERTS" /etc/kubernetes/manifests
  [ "$TLS_DISABLED" != False ] || step certificates node_certificates
}
