# shellcheck shell=bash
# Every certificate of this node is issued anew, by the next authorities. Sourced by duty.sh.

# shellcheck source=authorities.sh
. "$BUNDLE/authorities.sh"

# Programs in pods read the authorities when they start. Their files name both by now; with
# the first certificate of the next authority they would be lost without a new start.
restart_workloads() {
  local kind namespace name
  for kind in daemonset deployment statefulset; do
    kubectl --kubeconfig "$ADMIN" get "$kind" --all-namespaces --no-headers \
      -o custom-columns=:metadata.namespace,:metadata.name |
      while read -r namespace name; do
        kubectl --kubeconfig "$ADMIN" --namespace "$namespace" rollout restart "$kind/$name"
      done
  done
}

perform() {
  if [ "$MAGNUMD_NODE_ROLE" = master ] && [ "$MASTER_INDEX" = 0 ]; then
    step restart-workloads restart_workloads
  fi
  step place-authorities place_authorities
  if [ "$MAGNUMD_NODE_ROLE" = master ]; then
    step certificates master_certificates
  else
    step certificates worker_certificates
  fi
  restart_programs
}
