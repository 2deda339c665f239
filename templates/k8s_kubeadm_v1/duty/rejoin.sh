# shellcheck shell=bash
# The server was resized and has started again with its disk: sees that it is a node of its cluster
# as before. Sourced by duty.sh, on the node itself.

perform() {
  case $MAGNUMD_NODE_ROLE in
  master) await node-ready 300 node_is_ready "$ADMIN" ;;
  *) await node-ready 300 node_is_ready "$KUBECONFIG_FILE" ;;
  esac
}
