# shellcheck shell=bash
# What makes a server a host of containers, and what masters and workers have in common. Sourced by
# setup.sh and duty.sh.

# shellcheck source=kubernetes.sh
. "$BUNDLE/kubernetes.sh"

# shellcheck disable=SC2034 # the next two are for the roles' scripts
CERTS=$ROOT/etc/kubernetes/certs ETCD_CERTS=$ROOT/etc/etcd/certs
SETTINGS=$ROOT/etc/kubernetes/magnumd # arguments of programs, and their images
UNITS=$ROOT/etc/systemd/system
SOCKET=unix:///run/containerd/containerd.sock

preflight() {
  local tools=(podman openssl curl ip modprobe sysctl tar)
  [ -n "$CONTAINERD_URL" ] || tools+=(containerd)
  need_tools 'Use an image of Fedora CoreOS.' "${tools[@]}"
  need_clock
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

become_container_host() { # everything before certificates
  become_host
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
