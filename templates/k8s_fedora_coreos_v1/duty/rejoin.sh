# shellcheck shell=bash
# The server was resized and has started again with its disk: sees that it is a node of its cluster
# as before. Sourced by duty.sh, on the node itself.

perform() {
  await node-ready 300 node_is_ready "$ROOT/etc/kubernetes/kubelet-config.yaml"
}
