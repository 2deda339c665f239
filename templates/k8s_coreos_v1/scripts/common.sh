# shellcheck shell=bash disable=SC2034,SC2154
# What the first boots of masters and workers have in common. Sourced, never run.

# shellcheck source=/dev/null
. /etc/sysconfig/heat-params
STATE=/var/lib/magnumd
CERTS=/etc/kubernetes/certs
export PATH=$PATH:/opt/bin
mkdir -p "$STATE"

log() {
  printf '%s %s\n' "$(date -u +%FT%TZ)" "$*"
}

wait_for() { # SECONDS COMMAND...
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    if [ "$SECONDS" -ge "$until" ]; then
      log "waited in vain for: $*"
      return 1
    fi
    sleep 5
  done
}

# The end of a first boot, well or not: Heat waits for this.
tell_heat() { # SUCCESS|FAILURE REASON
  local reason
  reason=$(printf '%s' "$2" | tr -cd ' -!#-[]-~' | head -c 250)
  wait_for 600 /opt/magnumd/tell-heat \
    "{\"status\": \"$1\", \"reason\": \"$reason\", \"id\": \"first-boot\"}"
}

STEP=start
step() { # NAME COMMAND...
  STEP=$1
  shift
  log "step $STEP"
  "$@"
}

ended() { # CODE
  if [ "$1" = 0 ]; then
    tell_heat SUCCESS "$(hostname -s) is ready"
  else
    tell_heat FAILURE "$(hostname -s): step $STEP failed; see journalctl -u magnumd-first-boot"
  fi
}

find_address() { # a worker's is where it calls the API from
  if [ -z "$KUBE_NODE_IP" ]; then
    KUBE_NODE_IP=$(ip -4 -o route get "$KUBE_MASTER_IP" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
  fi
  [ -n "$KUBE_NODE_IP" ]
}

close_metadata() { # to pods, before there are any; the label metadata_access_enabled opens it
  [ "$METADATA_ACCESS" = False ] || return 0
  local unit=magnumd-metadata.service rule='-t raw -I PREROUTING -d 169.254.169.254 -j DROP'
  printf '%s\n' '[Unit]' 'Description=Keeps the metadata service from pods' 'Before=docker.service' \
    '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' "ExecStart=/usr/sbin/iptables -w $rule" \
    '[Install]' 'WantedBy=multi-user.target' >"/etc/systemd/system/$unit"
  systemctl daemon-reload
  systemctl enable --now "$unit"
}

trust_openstack() { # its own authority, where it has one
  [ -s /etc/magnumd/openstack-ca.pem ] || return 0
  cp /etc/magnumd/openstack-ca.pem /etc/ssl/certs/openstack-ca.pem
  update-ca-certificates
}

write_kubeconfig() { # FILE SERVER [CERTIFICATE]
  {
    printf 'apiVersion: v1\nkind: Config\ncurrent-context: default\nclusters:\n- name: default\n'
    printf '  cluster: {server: "%s"%s}\n' "$2" \
      "${3:+, certificate-authority: $CERTS/ca.crt}"
    printf 'contexts:\n- name: default\n  context: {cluster: default, user: default}\nusers:\n'
    printf -- '- name: default\n'
    if [ -n "${3:-}" ]; then
      printf '  user: {client-certificate: %s.crt, client-key: %s.key}\n' "$CERTS/$3" "$CERTS/$3"
    else
      printf '  user: {}\n'
    fi
  } >"$1"
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

clock_is_sane() { # one that is behind makes every certificate look as if it came from the future
  [ "$(date +%Y)" -ge 2018 ]
}

prepare() { # everything before the first program
  step clock wait_for 600 clock_is_sane
  step address wait_for 300 find_address
  step trust trust_openstack
  mkdir -p "$CERTS" /etc/kubernetes/manifests
  [ "$TLS_DISABLED" != False ] || step certificates node_certificates
}
