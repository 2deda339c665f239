
TELL_HEAT=/usr/local/libexec/magnumd/tell-heat LOG=/var/log/magnumd-first-boot.log

trust_openstack() { # its own authority, where it has one
  [ -s /etc/magnumd/openstack-ca.pem ] || return 0
  cp /etc/magnumd/openstack-ca.pem /etc/pki/ca-trust/source/anchors/openstack-ca.pem
  update-ca-trust
}

volume_device() { # VOLUME-ID: prints its device, once it is there
  local found
  for found in /dev/disk/by-id/*"${1:0:20}"*; do
    if [ -b "$found" ]; then
      readlink -f "$found"
      return 0
    fi
  done
  return 1
}

has_volume() {
  volume_device "$1" >/dev/null
}

configure_storage() { # where Docker keeps images and containers
  local device=
  systemctl stop docker
  if [ -n "$DOCKER_VOLUME" ]; then
    wait_for 300 has_volume "$DOCKER_VOLUME"
    device=$(volume_device "$DOCKER_VOLUME")
  fi
  case $DOCKER_STORAGE_DRIVER in
  devicemapper)
    printf 'STORAGE_DRIVER=devicemapper\n' >/etc/sysconfig/docker-storage-setup
    [ -z "$device" ] || printf 'VG=docker\nDEVS=%s\nWIPE_SIGNATURES=true\n' "$device" \
      >>/etc/sysconfig/docker-storage-setup
    docker-storage-setup
    ;;
  *)
    printf 'STORAGE_DRIVER=\n' >/etc/sysconfig/docker-storage-setup
    printf 'DOCKER_STORAGE_OPTIONS="--storage-driver %s"\n' "$DOCKER_STORAGE_DRIVER" \
      >/etc/sysconfig/docker-storage
    if [ -n "$device" ]; then
      blkid "$device" >/dev/null || mkfs.xfs -f -L docker "$device"
      printf 'LABEL=docker /var/lib/docker xfs defaults,nofail 0 0\n' >>/etc/fstab
      mkdir -p /var/lib/docker
      mount /var/lib/docker
    fi
    ;;
  esac
}

configure_docker() {
  local options='--log-driver=journald --selinux-enabled=false'
  [ -z "$INSECURE_REGISTRY" ] || options+=" --insecure-registry $INSECURE_REGISTRY"
  printf "OPTIONS='%s'\n" "$options" >/etc/sysconfig/docker
  if [ -s /etc/magnumd/proxy.env ]; then
    mkdir -p /etc/systemd/system/docker.service.d
    printf '[Service]\nEnvironmentFile=/etc/magnumd/proxy.env\n' \
      >/etc/systemd/system/docker.service.d/proxy.conf
    cat /etc/magnumd/proxy.env >>/etc/environment
  fi
  systemctl daemon-reload
  systemctl enable docker
  systemctl start docker
}

# Programs come as system containers; the image's own units start them.
install_program() { # NAME IMAGE
  (
    set -a
    # shellcheck source=/dev/null
    [ ! -s /etc/magnumd/proxy.env ] || . /etc/magnumd/proxy.env
    wait_for 900 atomic install --storage ostree --system --system-package no --name "$1" "$2"
  )
}

start_programs() { # NAME...
  local name
  systemctl daemon-reload
  for name in "$@"; do
    systemctl enable "$name"
    systemctl restart --no-block "$name"
  done
}

write_node_settings() { # SERVER: what kubelet and kube-proxy read
  local credentials=kubelet dns=$DNS_SERVICE_IP
  [ "$TLS_DISABLED" = False ] || credentials=
  write_kubeconfig /etc/kubernetes/kubelet-config.yaml "$1" "$credentials"
  [ -z "$credentials" ] || credentials=proxy
  write_kubeconfig /etc/kubernetes/proxy-config.yaml "$1" "$credentials"
  {
    printf 'KUBELET_ADDRESS="--address=0.0.0.0"\nKUBELET_HOSTNAME=""\nKUBELET_API_SERVER=""\n'
    printf 'KUBELET_ARGS="--kubeconfig=/etc/kubernetes/kubelet-config.yaml'
    printf -- ' --hostname-override=%s --node-ip=%s' "$(hostname -s)" "$KUBE_NODE_IP"
    printf -- ' --pod-manifest-path=/etc/kubernetes/manifests --cgroup-driver=systemd'
    printf -- ' --cluster-dns=%s --cluster-domain=cluster.local' "$dns"
    printf -- ' --node-labels=%s' "$NODE_LABELS"
    [ -z "$NODE_TAINTS" ] || printf -- ' --register-with-taints=%s' "$NODE_TAINTS"
    [ "$TLS_DISABLED" != False ] || printf -- ' --client-ca-file=%s --tls-cert-file=%s --tls-private-key-file=%s' \
      "$CERTS/ca.crt" "$CERTS/kubelet.crt" "$CERTS/kubelet.key"
    [ -z "$KUBELET_OPTIONS" ] || printf ' %s' "$KUBELET_OPTIONS"
    printf '"\n'
  } >/etc/kubernetes/kubelet
  {
    printf 'KUBE_PROXY_ARGS="--kubeconfig=/etc/kubernetes/proxy-config.yaml'
    printf -- ' --hostname-override=%s --cluster-cidr=%s' "$(hostname -s)" "$PODS_NETWORK_CIDR"
    [ -z "$KUBEPROXY_OPTIONS" ] || printf ' %s' "$KUBEPROXY_OPTIONS"
    printf '"\n'
  } >/etc/kubernetes/proxy
  printf 'KUBE_LOGTOSTDERR="--logtostderr=true"\nKUBE_LOG_LEVEL="--v=2"\n' >/etc/kubernetes/config
  printf 'KUBE_ALLOW_PRIV="--allow-privileged=true"\nKUBE_MASTER="--master=%s"\n' "$1" \
    >>/etc/kubernetes/config
  mkdir -p /etc/kubernetes/manifests
}

configure_flannel() {
  local scheme=http options='' server servers=
  if [ "$TLS_DISABLED" = False ]; then
    scheme=https
    options="-etcd-cafile $CERTS/ca.crt -etcd-certfile $CERTS/kubelet.crt -etcd-keyfile $CERTS/kubelet.key"
  fi
  for server in $ETCD_SERVERS; do
    servers+=${servers:+,}$scheme://$server:2379
  done
  {
    printf 'FLANNEL_ETCD_ENDPOINTS="%s"\n' "$servers"
    printf 'FLANNEL_ETCD_PREFIX="/atomic.io/network"\nFLANNEL_OPTIONS="-iface %s %s"\n' \
      "$KUBE_NODE_IP" "$options"
  } >/etc/sysconfig/flanneld
}

# Docker's own bridge lies in this node's share of the pods' network.
put_docker_behind_flannel() {
  wait_for 1200 test -s /run/flannel/subnet.env
  (
    # shellcheck source=/dev/null
    . /run/flannel/subnet.env
    printf "DOCKER_NETWORK_OPTIONS='--bip=%s --mtu=%s --ip-masq=true'\n" "$FLANNEL_SUBNET" \
      "$FLANNEL_MTU" >/etc/sysconfig/docker-network
  )
  iptables -P FORWARD ACCEPT
  systemctl restart docker
}

prepare() { # everything before the first program
  step clock wait_for 600 clock_is_sane
  step address wait_for 300 find_address
  step trust trust_openstack
  setenforce 0 || true
  sed -i 's/^SELINUX=enforcing/SELINUX=permissive/' /etc/selinux/config
  step storage configure_storage
  step docker configure_docker
}
