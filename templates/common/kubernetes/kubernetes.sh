# shellcheck shell=bash
# What the nodes of Kubernetes clusters have in common, however Kubernetes comes onto them. Sourced
# by host.sh.

LIBEXEC=${LIBEXEC:-/usr/local/libexec} # where programs are put that this image brings none of

minor() { # v1.23.3-rancher1 gives 23, v3.5.9 gives 5
  local rest=${1#v}
  rest=${rest#*.}
  printf '%s' "${rest%%.*}"
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

# systemd-resolved's stub is of no use inside a pod.
resolv_conf() {
  if [ -e /run/systemd/resolve/resolv.conf ]; then
    printf '/run/systemd/resolve/resolv.conf'
  else
    printf '/etc/resolv.conf'
  fi
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

start_duties() { # from now on this node does what magnumd asks of it
  start_timer magnumd-duty magnumd-duty.sh
}
