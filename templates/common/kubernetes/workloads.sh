# shellcheck shell=bash
# What a rotation does to the programs in pods. Sourced by issue-leaves.sh.

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
