# shellcheck shell=bash
# What makes a server a host of containers, and what masters and workers have in common. Sourced by
# setup.sh and duty.sh.

# shellcheck source=kubernetes.sh
. "$BUNDLE/kubernetes.sh"

is_inline() { # whether everything came with the user data, and magnumd is not asked
  [ "${MAGNUMD_BOOTSTRAP_MODE:-fetch}" != fetch ]
}

SOCKET=unix:///var/run/containerd/containerd.sock
# shellcheck disable=SC2034 # for the roles' scripts and duties
PKI=$ROOT/etc/kubernetes/pki

cri() {
  crictl --runtime-endpoint "$SOCKET" --image-endpoint "$SOCKET" "$@"
}

preflight() {
  local version
  # shellcheck disable=SC2086 # several, or none
  need_tools 'Use an image that contains Kubernetes and containerd.' kubeadm kubelet kubectl crictl \
    containerd openssl curl ip modprobe sysctl ${NEEDS_TOOLS:-}
  version=$(kubeadm version -o short)
  if [ -n "$KUBE_VERSION" ] && [ "$(minor "$version")" != "$(minor "$KUBE_VERSION")" ]; then
    give_up "The cluster asks for Kubernetes $KUBE_VERSION, but the image contains $version."
  fi
  if [ "$(minor "$version")" -lt "$OLDEST_MINOR" ]; then
    give_up "The image contains Kubernetes $version; v1.$OLDEST_MINOR.0 is the oldest that is built."
  fi
  printf '%s' "$version" >"$STATE/version"
  FINDINGS="Kubernetes $version."
  need_space 2
  [ -z "$CLOUD_URL" ] || reach_cloud
  need_clock
  log "$FINDINGS"
}

# With a cloud controller every node stays closed to pods until the controller has seen it; so
# whether it can do so is asked before anything depends on it.
reach_cloud() {
  local options=(--silent --output /dev/null --noproxy '*' --connect-timeout 20 --max-time 60)
  [ ! -e "$BUNDLE/openstack-ca.pem" ] || options+=(--cacert "$BUNDLE/openstack-ca.pem")
  wait_for 300 curl "${options[@]}" "$CLOUD_URL" ||
    give_up "Keystone at $CLOUD_URL is out of this node's reach, and the cloud controller needs it. Make it reachable from the cluster's network, or leave cloud_provider_enabled and volume_driver away."
}

prepare_system() {
  swapoff -a
  [ ! -e /etc/fstab ] || sed -i -E 's/^([^#].*[[:space:]]swap[[:space:]].*)$/# \1/' /etc/fstab
  printf '%s\n' overlay br_netfilter >/etc/modules-load.d/magnumd.conf
  modprobe overlay
  modprobe br_netfilter
  printf '%s = 1\n' net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables \
    net.ipv4.ip_forward >/etc/sysctl.d/99-magnumd.conf
  sysctl -q -p /etc/sysctl.d/99-magnumd.conf
  # Security groups filter already; a second filter on the host only hides why pods are deaf.
  local unit
  for unit in firewalld ufw; do
    systemctl disable --now "$unit" >/dev/null 2>&1 || true
  done
  if command -v setenforce >/dev/null; then
    setenforce 0 || true
    sed -i 's/^SELINUX=enforcing/SELINUX=permissive/' /etc/selinux/config || true
  fi
}

mount_docker_volume() {
  systemctl stop containerd
  mount_volume magnumd_docker_volume magnumd-docker /var/lib/containerd
}

start_runtime() {
  local pause
  if [ -e "$BUNDLE/proxy.env" ]; then
    install -D -m 600 "$BUNDLE/proxy.env" /etc/magnumd/proxy.env
    mkdir -p /etc/systemd/system/containerd.service.d
    printf '[Service]\nEnvironmentFile=/etc/magnumd/proxy.env\n' \
      >/etc/systemd/system/containerd.service.d/magnumd-proxy.conf
  fi
  if [ -n "$INSECURE_REGISTRY" ]; then
    install -D -m 644 "$BUNDLE/hosts.toml" \
      "/etc/containerd/certs.d/$INSECURE_REGISTRY/hosts.toml"
  fi
  if [ -n "$IMAGE_REPOSITORY" ] && [ -e /etc/containerd/config.toml ]; then
    pause=$(images | grep '/pause:')
    sed -i -E "s#^([[:space:]]*)(sandbox_image|sandbox) = .*#\1\2 = '$pause'#" \
      /etc/containerd/config.toml
  fi
  systemctl daemon-reload
  systemctl enable containerd
  systemctl restart containerd
  wait_for 300 cri info >/dev/null
}

images() { # what kubeadm of this image will want
  local options=(--kubernetes-version "$(cat "$STATE/version")")
  [ -z "$IMAGE_REPOSITORY" ] || options+=(--image-repository "$IMAGE_REPOSITORY")
  kubeadm config images list "${options[@]}"
}

start_routes() { # network driver bridge: what gives this node its pods' network
  [ "$NETWORK_DRIVER" != bridge ] || start_timer magnumd-routes magnumd-routes
}

start_spread() { # label api_spread: what sends this node's requests to all masters
  [ ! -e "$BUNDLE/magnumd-api-spread" ] || start_timer magnumd-api-spread magnumd-api-spread
}

become_container_host() { # everything before certificates
  become_host
  phase runtime 'Starting the container runtime.'
  [ "$DOCKER_VOLUME" = 0 ] || step docker-volume mount_docker_volume
  step runtime start_runtime
  phase_done 'containerd answers.'
}

if is_inline; then
  # Signed here by the authority's own key, with the words that magnumd would choose.
  request_certificate() { # PURPOSE PATH
    local key=$2.key subject=$NODE usage=serverAuth,clientAuth
    local names="DNS:$NODE,DNS:localhost,IP:127.0.0.1,IP:::1,IP:$NODE_ADDRESS"
    if [ "$1" = etcd-client ]; then
      subject=kube-apiserver-etcd-client usage=clientAuth names=
    fi
    mkdir -p "$(dirname "$key")"
    (
      umask 077
      [ -s "$key" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$key"
      printf '%s\n' 'basicConstraints = critical,CA:false' "extendedKeyUsage = $usage" \
        'keyUsage = critical,digitalSignature,keyEncipherment' \
        ${names:+"subjectAltName = $names"} >"$STATE/$1.cnf"
      openssl req -new -key "$key" -subj "/CN=$subject" -out "$STATE/$1.csr"
      openssl x509 -req -in "$STATE/$1.csr" -CA "$BUNDLE/pki/etcd/ca.crt" \
        -CAkey "$BUNDLE/pki/etcd/ca.key" -set_serial "0x$(openssl rand -hex 15)" -days 1825 \
        -extfile "$STATE/$1.cnf" -out "$2.crt.new"
    )
    mv "$2.crt.new" "$2.crt"
  }

  start_duties() { # magnumd asks nothing of this node
    :
  }
fi
