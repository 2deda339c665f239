# shellcheck shell=bash
# Empties nodes whose servers are about to be rebuilt. Sourced by duty.sh, on a master.

# What no controller would bring back goes too: the server's disk goes in a minute. The node is
# taken off the books, so that it comes back with its new labels and is not cordoned.
drain_node() { # NODE
  kubectl --kubeconfig "$ADMIN" get node "$1" --ignore-not-found -o name | grep . >/dev/null || return 0
  kubectl --kubeconfig "$ADMIN" drain "$1" --ignore-daemonsets --delete-emptydir-data --force \
    --timeout="${DRAIN_TIMEOUT}s"
  kubectl --kubeconfig "$ADMIN" delete node "$1" --ignore-not-found
}

perform() {
  local node
  # Waiting for pods takes its time: twice is enough to know that they do not go.
  # shellcheck disable=SC2034 # read by duty.sh
  MOST_TRIES=2
  for node in $DUTY_TARGETS; do
    step "drain-$node" drain_node "$node"
  done
}
