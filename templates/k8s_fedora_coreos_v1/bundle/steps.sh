# shellcheck shell=bash
# Steps that masters and workers have in common. Sourced by setup.sh and by duties.

MOST_TRIES=10
DONE=$STATE/done # stamps of steps that have succeeded
# shellcheck disable=SC2034 # the next two are for the roles' scripts
CERTS=$ROOT/etc/kubernetes/certs ETCD_CERTS=$ROOT/etc/etcd/certs
SETTINGS=$ROOT/etc/kubernetes/magnumd # arguments of programs, and their images
UNITS=$ROOT/etc/systemd/system
SOCKET=unix:///run/containerd/containerd.sock

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

minor() { # v1.23.3-rancher1 gives 23, v3.5.9 gives 5
  local rest=${1#v}
  rest=${rest#*.}
  printf '%s' "${rest%%.*}"
}

preflight() {
  local tool missing=()
  for tool in podman openssl curl ip modprobe sysctl tar; do
    command -v "$tool" >/dev/null || missing+=("$tool")
  done
  [ -n "$CONTAINERD_URL" ] || command -v containerd >/dev/null || missing+=(containerd)
  if [ "${#missing[@]}" -gt 0 ]; then
    give_up "The image lacks ${missing[*]}. Use an image of Fedora CoreOS."
  fi
  # A clock that is behind makes every certificate look as if it came from the future.
  wait_for 600 openssl verify -CAfile "$BUNDLE/pki/ca.crt" "$BUNDLE/pki/ca.crt" >/dev/null ||
    give_up "The clock says $(date -u +%FT%TZ): the cluster's CA is not valid then."
}

prepare_system() {
  printf '%s\n' br_netfilter overlay >"$ROOT/etc/modules-load.d/magnumd.conf"
  modprobe br_netfilter
  modprobe overlay
  printf 'net.bridge.bridge-nf-call-iptables = 1\nnet.ipv4.ip_forward = 1\n' \
    >"$ROOT/etc/sysctl.d/90-magnumd.conf"
  sysctl --quiet -p "$ROOT/etc/sysctl.d/90-magnumd.conf"
  hostnamectl set-hostname "$NODE"
}

find_address() { # sets NODE_ADDRESS: a master's is known, a worker's is where it calls from
  if [ -n "$MASTER_ADDRESS" ]; then
    ip -4 -o addr show | grep -F " $MASTER_ADDRESS/" >/dev/null || return 1
    NODE_ADDRESS=$MASTER_ADDRESS
  else
    NODE_ADDRESS=$(ip -4 -o route get "$API_HOST" | sed -n 's/.* src \([0-9.]*\).*/\1/p')
    [ -n "$NODE_ADDRESS" ]
  fi
}

mount_volume() { # KEY LABEL DIRECTORY: an empty volume is formatted, a used one is kept
  local id device='' found content
  id=$(about_server "$1")
  for found in /dev/disk/by-id/*"${id:0:20}"*; do
    [ ! -b "$found" ] || device=$found
  done
  if [ -z "$id" ] || [ -z "$device" ]; then
    log "volume $1 is not attached yet"
    return 1
  fi
  blkid "$device" >/dev/null || mkfs.ext4 -q -L "$2" "$device"
  if ! mountpoint -q "$3"; then
    mkdir -p "$3"
    # What is there already moves to the volume.
    content=$(mktemp -d)
    mount "$device" "$content"
    cp -a "$3/." "$content/"
    umount "$content"
    mount "$device" "$3"
  fi
  grep -q "^LABEL=$2 " "$ROOT/etc/fstab" ||
    printf 'LABEL=%s %s ext4 defaults,nofail 0 2\n' "$2" "$3" >>"$ROOT/etc/fstab"
}

install_containerd() { # where the cluster asks for another than the image's
  local archive=$STATE/containerd.tar.gz
  curl --silent --show-error --fail --location --retry 5 --output "$archive" "$CONTAINERD_URL"
  if ! printf '%s  %s\n' "$CONTAINERD_SHA256" "$archive" | sha256sum --check --status; then
    give_up "What is at $CONTAINERD_URL is not what label containerd_tarball_sha256 says."
  fi
  tar -x -f "$archive" -C "$ROOT/" --no-same-owner --exclude=etc/crictl.yaml
  rm -f "$archive"
}

start_runtime() {
  if [ -e "$BUNDLE/proxy.env" ]; then
    install -D -m 600 "$BUNDLE/proxy.env" "$ROOT/etc/magnumd/proxy.env"
    mkdir -p "$UNITS/containerd.service.d"
    printf '[Service]\nEnvironmentFile=/etc/magnumd/proxy.env\n' \
      >"$UNITS/containerd.service.d/magnumd-proxy.conf"
  fi
  if [ -n "$INSECURE_REGISTRY" ]; then
    install -D -m 644 "$BUNDLE/hosts.toml" \
      "$ROOT/etc/containerd/certs.d/$INSECURE_REGISTRY/hosts.toml"
    install -D -m 644 "$BUNDLE/registries.conf" \
      "$ROOT/etc/containers/registries.conf.d/magnumd.conf"
  fi
  install -D -m 644 "$BUNDLE/containerd.toml" "$ROOT/etc/containerd/config.toml"
  systemctl daemon-reload
  systemctl enable containerd
  systemctl restart containerd
  wait_for 300 test -S "${SOCKET#unix://}"
}

pull() { # IMAGE: podman says itself what is wrong
  (
    set -a
    # shellcheck source=/dev/null
    [ ! -e "$ROOT/etc/magnumd/proxy.env" ] || . "$ROOT/etc/magnumd/proxy.env"
    podman image exists "$1" || podman pull --quiet "$1"
  )
}

fetch_images() {
  install -d -m 755 "$SETTINGS"
  printf 'KUBE_IMAGE=%q\nETCD_IMAGE=%q\n' "$KUBE_IMAGE" "$ETCD_IMAGE" >"$SETTINGS/images"
  pull "$KUBE_IMAGE"
  [ "$MAGNUMD_NODE_ROLE" = worker ] || pull "$ETCD_IMAGE"
}

install_kubectl() { # out of the image, wherever it is in there
  mkdir -p "$ROOT/usr/local/bin"
  # shellcheck disable=SC2016 # for the shell in the container
  podman run --rm --security-opt label=disable --volume "$ROOT/usr/local/bin:/host" \
    --entrypoint /bin/sh "$KUBE_IMAGE" -c 'cp "$(command -v kubectl)" /host/kubectl'
}

# PURPOSE PATH: PATH.key made here and never sent, PATH.crt signed by magnumd. Programs that run
# read them at any moment, so both change at once, when they are there.
request_certificate() {
  local key=$2.key.new body=$STATE/csr.json answer=$STATE/csr-answer.json
  mkdir -p "$(dirname "$key")"
  (
    umask 077
    [ -s "$key" ] || openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$key"
    openssl req -new -key "$key" -subj "/CN=$NODE" -out "$STATE/$1.csr"
    printf '{"purpose":"%s","csr":"%s"}' "$1" "$(awk '{ printf "%s\\n", $0 }' "$STATE/$1.csr")" \
      >"$body"
  )
  call_surely POST csr "$answer" "$body"
  tr -d '\n' <"$answer" | sed -n 's/.*"certificate" *: *"\([^"]*\)".*/\1/p' |
    sed 's/\\n/\n/g' >"$2.crt.new"
  openssl x509 -in "$2.crt.new" -noout
  mv "$key" "$2.key"
  mv "$2.crt.new" "$2.crt"
}

write_kubeconfig() { # FILE CERTIFICATE SERVER
  (
    umask 077
    cat >"$1" <<END
apiVersion: v1
kind: Config
clusters:
- name: $MAGNUMD_CLUSTER_UUID
  cluster: {certificate-authority: /etc/kubernetes/certs/ca.crt, server: 'https://$3:6443'}
users:
- name: default
  user: {client-certificate: /etc/kubernetes/certs/$2.crt, client-key: /etc/kubernetes/certs/$2.key}
contexts:
- name: default
  context: {cluster: $MAGNUMD_CLUSTER_UUID, user: default}
current-context: default
END
  )
}

start_program() { # NAME OPTION...: the bundle's arguments, then those that are only known here
  local name=$1
  shift
  {
    cat "$BUNDLE/args/$name"
    [ "$#" = 0 ] || printf 'arguments+=(%s)\n' "$(printf '%q ' "$@")"
  } >"$SETTINGS/$name.args"
  sed "s/@NAME@/$name/g" "$BUNDLE/program.service" >"$UNITS/$name.service"
  systemctl daemon-reload
  systemctl enable "$name"
  systemctl restart "$name"
}

words() { # TEXT: one word on each line
  tr -s '[:space:]' '\n' <<<"$1" | sed '/^$/d'
}

start_node_programs() { # SERVER
  local own=() more minor
  minor=$(minor "$KUBE_TAG")
  mkdir -p "$ROOT/etc/kubernetes/manifests" "$ROOT/var/lib/kubelet" "$ROOT/var/lib/cni" \
    "$ROOT/var/lib/calico" "$ROOT/opt/cni/bin" "$ROOT/etc/cni/net.d"
  write_kubeconfig "$ROOT/etc/kubernetes/kubelet-config.yaml" kubelet "$1"
  write_kubeconfig "$ROOT/etc/kubernetes/proxy-config.yaml" proxy "$1"
  sed "s#@RESOLV_CONF@#$(resolv_conf)#" "$BUNDLE/kubelet.yaml" >"$SETTINGS/kubelet.yaml"
  install -m 644 "$BUNDLE/kube-proxy.yaml" "$SETTINGS/kube-proxy.yaml"
  own=("--hostname-override=$NODE" "--node-ip=$NODE_ADDRESS" "--node-labels=$NODE_LABELS"
    "--container-runtime-endpoint=$SOCKET")
  # Before v1.24 the kubelet's own choice was Docker; since v1.27 the flag is unknown.
  [ "$minor" -ge 24 ] || own+=(--container-runtime=remote)
  mapfile -t more < <(words "$KUBELET_OPTIONS")
  start_program kubelet "${own[@]}" "${more[@]}"
  mapfile -t more < <(words "$KUBEPROXY_OPTIONS")
  start_program kube-proxy "--hostname-override=$NODE" "${more[@]}"
}

# systemd-resolved's stub is of no use inside a pod.
resolv_conf() {
  if [ -e /run/systemd/resolve/resolv.conf ]; then
    printf '/run/systemd/resolve/resolv.conf'
  else
    printf '/etc/resolv.conf'
  fi
}

node_is_ready() { # KUBECONFIG
  [ "$(kubectl --kubeconfig "$1" --request-timeout=20s get node "$NODE" -o \
    'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ]
}

start_duties() { # from now on this node does what magnumd asks of it
  install -D -m 755 "$BUNDLE/magnumd-duty.sh" "$ROOT/usr/local/libexec/magnumd-duty"
  install -D -m 644 "$BUNDLE/magnumd-duty.service" "$UNITS/magnumd-duty.service"
  install -D -m 644 "$BUNDLE/magnumd-duty.timer" "$UNITS/magnumd-duty.timer"
  systemctl daemon-reload
  systemctl enable --now magnumd-duty.timer
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
  step preflight preflight
  phase_done 'The image fits.'
  phase network 'Preparing the network.'
  step system prepare_system
  step metadata close_metadata
  await address 300 find_address
  phase_done "This node is $NODE_ADDRESS."
  phase runtime 'Starting the container runtime and fetching images.'
  [ "$DOCKER_VOLUME" = 0 ] ||
    step docker-volume mount_volume magnumd_docker_volume magnumd-docker /var/lib/containerd
  [ -z "$CONTAINERD_URL" ] || step containerd install_containerd
  step runtime start_runtime
  step images fetch_images
  step kubectl install_kubectl
  step runner install -D -m 755 "$BUNDLE/run.sh" "$ROOT/usr/local/libexec/magnumd-run"
  phase_done 'containerd answers, and the images are here.'
}
