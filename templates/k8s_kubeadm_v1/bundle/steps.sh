# shellcheck shell=bash
# Steps that masters and workers have in common. Sourced by setup.sh.

MOST_TRIES=10
DONE=$STATE/done # stamps of steps that have succeeded
SOCKET=unix:///var/run/containerd/containerd.sock
PKI=$ROOT/etc/kubernetes/pki

ended() { # CODE: the last word of a run
  [ "$1" -ne 0 ] || return 0
  local tries
  tries=$(($(cat "$STATE/tries.$STEP" 2>/dev/null || echo 0) + 1))
  echo "$tries" >"$STATE/tries.$STEP"
  if [ "$tries" -ge "$MOST_TRIES" ]; then
    report failed "Step $STEP failed $tries times."
  else
    report started "Step $STEP failed, try $tries of $MOST_TRIES; trying again."
  fi
}

give_up() { # MESSAGE: nothing that time could heal; the service does not restart
  report_surely failed "$1"
  exit 0
}

phase() { # NAME MESSAGE
  PHASE=$1
  [ -e "$DONE/phase-$1" ] || report started "$2"
}

phase_done() { # MESSAGE
  [ ! -e "$DONE/phase-$PHASE" ] || return 0
  report 'done' "$1"
  touch "$DONE/phase-$PHASE"
}

step() { # NAME COMMAND...
  STEP=$1
  shift
  [ ! -e "$DONE/$STEP" ] || return 0
  log "step $STEP"
  "$@"
  touch "$DONE/$STEP"
}

wait_for() { # SECONDS COMMAND...
  local until=$((SECONDS + $1))
  shift
  until "$@"; do
    if [ "$SECONDS" -ge "$until" ]; then
      log "waited in vain for: $*"
      return 1
    fi
    sleep 3
  done
}

await() { # NAME SECONDS COMMAND...: a step that every run takes anew
  STEP=$1
  shift
  wait_for "$@"
}

minor() { # v1.31.4 gives 31
  local rest=${1#v1.}
  printf '%s' "${rest%%.*}"
}

cri() {
  crictl --runtime-endpoint "$SOCKET" --image-endpoint "$SOCKET" "$@"
}

preflight() {
  local tool missing=() version findings=
  for tool in kubeadm kubelet kubectl crictl containerd openssl curl ip modprobe sysctl \
    ${NEEDS_TOOLS:-}; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    give_up "The image lacks ${missing[*]}. Use an image that contains Kubernetes and containerd."
  fi
  version=$(kubeadm version -o short)
  if [ -n "$KUBE_VERSION" ] && [ "$(minor "$version")" != "$(minor "$KUBE_VERSION")" ]; then
    give_up "The cluster asks for Kubernetes $KUBE_VERSION, but the image contains $version."
  fi
  if [ "$(minor "$version")" -lt "$OLDEST_MINOR" ]; then
    give_up "The image contains Kubernetes $version; v1.$OLDEST_MINOR.0 is the oldest that is built."
  fi
  printf '%s' "$version" >"$STATE/version"
  [ "$(df -Pk /var/lib | awk 'NR == 2 { print $4 }')" -ge 2000000 ] ||
    findings+=' Less than 2 GB are free in /var/lib.'
  [ -z "$CLOUD_URL" ] || reach_cloud
  # A clock that is behind makes every certificate look as if it came from the future.
  wait_for 600 openssl verify -CAfile "$BUNDLE/pki/ca.crt" "$BUNDLE/pki/ca.crt" >/dev/null ||
    give_up "The clock says $(date -u +%FT%TZ): the cluster's CA is not valid then."
  log "Kubernetes $version.$findings"
  FINDINGS="Kubernetes $version.$findings"
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

find_address() { # sets NODE_ADDRESS: the one by which other nodes reach this one
  if [ -n "$MASTER_ADDRESS" ]; then
    ip -4 -o addr show | grep -F " $MASTER_ADDRESS/" >/dev/null || return 1
    NODE_ADDRESS=$MASTER_ADDRESS
  else
    NODE_ADDRESS=$(ip -4 -o route get "$API_HOST" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
    [ -n "$NODE_ADDRESS" ]
  fi
}

volume_of() { # KEY: the device of the volume whose id the config drive gives under KEY
  local drive=/run/magnumd-config id device
  mkdir -p "$drive"
  mount -o ro /dev/disk/by-label/config-2 "$drive" 2>/dev/null ||
    mount -o ro /dev/disk/by-label/CONFIG-2 "$drive"
  id=$(sed -n "s/.*\"$1\": *\"\([0-9a-f-]*\)\".*/\1/p" "$drive/openstack/latest/meta_data.json")
  umount "$drive"
  [ -n "$id" ]
  for device in /dev/disk/by-id/*"${id:0:20}"*; do
    [ ! -b "$device" ] || printf '%s' "$device"
    return 0
  done
}

mount_volume() { # KEY LABEL DIRECTORY: an empty volume is formatted, a used one is kept
  local device content
  device=$(volume_of "$1")
  if [ -z "$device" ]; then
    log "volume $1 is not attached yet"
    return 1
  fi
  if ! blkid "$device" >/dev/null; then
    mkfs.ext4 -q -L "$2" "$device"
  fi
  if ! mountpoint -q "$3"; then
    mkdir -p "$3"
    # What the image brought along, such as container images, moves to the volume.
    content=$(mktemp -d)
    mount "$device" "$content"
    cp -a "$3/." "$content/"
    umount "$content"
    mount "$device" "$3"
  fi
  grep -q "^LABEL=$2 " /etc/fstab ||
    printf 'LABEL=%s %s ext4 defaults,nofail 0 2\n' "$2" "$3" >>/etc/fstab
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

# The same, signed here by the authority's own key, with the words that magnumd would choose.
sign_certificate() { # PURPOSE NAME
  local key=$PKI/$2.key subject=$NODE usage=serverAuth,clientAuth
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
      -extfile "$STATE/$1.cnf" -out "$PKI/$2.crt.new"
  )
  mv "$PKI/$2.crt.new" "$PKI/$2.crt"
}

# PURPOSE NAME: NAME.key made here and never sent, NAME.crt signed by magnumd
request_certificate() {
  if is_inline; then
    sign_certificate "$@"
    return
  fi
  local key=$PKI/$2.key body=$STATE/csr.json answer=$STATE/csr-answer.json
  mkdir -p "$(dirname "$key")"
  (
    umask 077
    [ -s "$key" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$key"
    openssl req -new -key "$key" -subj "/CN=$NODE" -out "$STATE/$1.csr"
    printf '{"purpose":"%s","csr":"%s"}' "$1" "$(awk '{ printf "%s\\n", $0 }' "$STATE/$1.csr")" \
      >"$body"
  )
  call_surely POST csr "$answer" "$body"
  # A line end after the last line too: other files append a key to this one.
  tr -d '\n' <"$answer" | sed -n 's/.*"certificate" *: *"\([^"]*\)".*/\1/p' |
    sed 's/\\n/\n/g' | awk NF >"$PKI/$2.crt.new"
  openssl x509 -in "$PKI/$2.crt.new" -noout
  mv "$PKI/$2.crt.new" "$PKI/$2.crt"
}

node_is_ready() { # KUBECONFIG
  local seen
  seen=$(kubectl --kubeconfig "$1" --request-timeout=20s get node "$NODE" -o \
    'jsonpath={.status.conditions[?(@.type=="Ready")].status} {.spec.taints[*].key}' 2>/dev/null) ||
    return 1
  case $seen in
  True*node.cloudprovider.kubernetes.io/uninitialized*)
    [ -n "${UNSEEN_BY_CLOUD:-}" ] || log "the cloud controller has not looked at this node yet"
    UNSEEN_BY_CLOUD=yes
    return 1
    ;;
  True*) ;;
  *) return 1 ;;
  esac
}

place() { # FROM MODE TO: with the directory of programs that this image can write to
  install -D -m "$2" "$BUNDLE/$1" "$ROOT$3"
  sed -i "s#/usr/local/libexec/#$LIBEXEC/#g" "$ROOT$3"
}

start_timer() { # NAME PROGRAM: a program of the bundle that runs again and again
  local unit
  place "$2" 755 "$LIBEXEC/$1"
  for unit in "$1.service" "$1.timer"; do place "$unit" 644 "/etc/systemd/system/$unit"; done
  systemctl daemon-reload
  systemctl enable --now "$1.timer"
}

start_routes() { # network driver bridge: what gives this node its pods' network
  [ "$NETWORK_DRIVER" != bridge ] || start_timer magnumd-routes magnumd-routes
}

start_spread() { # label api_spread: what sends this node's requests to all masters
  [ ! -e "$BUNDLE/magnumd-api-spread" ] || start_timer magnumd-api-spread magnumd-api-spread
}

start_duties() { # from now on this node does what magnumd asks of it
  ! is_inline || return 0
  start_timer magnumd-duty magnumd-duty.sh
}

close_metadata() { # to pods, before there are any; the label metadata_access_enabled opens it
  [ -e "$BUNDLE/close-metadata.sh" ] || return 0
  command -v nft >/dev/null || command -v iptables >/dev/null ||
    give_up 'The image has neither nft nor iptables, with which the metadata service is closed to pods. Use an image that has one, or open it with the label metadata_access_enabled=true.'
  install -D -m 755 "$BUNDLE/close-metadata.sh" "$ROOT/etc/magnumd/close-metadata.sh"
  install -D -m 644 "$BUNDLE/magnumd-metadata.service" \
    "$ROOT/etc/systemd/system/magnumd-metadata.service"
  systemctl daemon-reload
  systemctl enable --now magnumd-metadata.service
}

become_host() { # everything before certificates
  phase booted 'Looking at the image.'
  FINDINGS=
  step preflight preflight
  phase_done "${FINDINGS:-The image fits.}"
  phase network 'Preparing the network.'
  step system prepare_system
  step metadata close_metadata
  await address 300 find_address
  phase_done "This node is $NODE_ADDRESS."
  phase runtime 'Starting the container runtime.'
  [ "$DOCKER_VOLUME" = 0 ] || step docker-volume mount_docker_volume
  step runtime start_runtime
  phase_done 'containerd answers.'
}
