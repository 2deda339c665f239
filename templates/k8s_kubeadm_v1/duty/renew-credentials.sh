# shellcheck shell=bash
# The cluster's own controllers get new credentials for the cloud. Sourced by duty.sh, on a master.

# They read their credentials when they start; what is not deployed is not started.
restart_controllers() {
  local workload
  for workload in daemonset/openstack-cloud-controller-manager \
    deployment/csi-cinder-controllerplugin deployment/cluster-autoscaler; do
    kubectl --kubeconfig "$ADMIN" --namespace kube-system get "$workload" --ignore-not-found -o name |
      grep . >/dev/null || continue
    kubectl --kubeconfig "$ADMIN" --namespace kube-system rollout restart "$workload"
  done
}

perform() {
  step cloud-config apply_cloud_config
  step restart-controllers restart_controllers
}
