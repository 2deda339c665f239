#!/bin/bash
# The first boot of a worker. Its end, well or not, is told to Heat.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
exec >>/var/log/magnumd-first-boot.log 2>&1
# shellcheck source=common.sh
. "$here/common.sh"
# shellcheck source=make-cert.sh
. "$here/make-cert.sh"
trap 'ended $?' EXIT

server=https://$KUBE_MASTER_IP:6443
[ "$TLS_DISABLED" = False ] || server=http://$KUBE_MASTER_IP:8080

kubelet_is_healthy() {
  curl --silent --fail --noproxy '*' --max-time 10 --output /dev/null http://127.0.0.1:10248/healthz
}

prepare
[ "$TLS_DISABLED" != False ] || step certificates node_certificates
step settings write_node_settings "$server"
step metadata close_metadata
step flannel-settings configure_flannel
for program in kubelet proxy; do
  step "install-$program" install_program "kube-$program" "$IMAGE_PREFIX/kubernetes-$program:$KUBE_TAG"
done
step flannel-install install_program flanneld "$IMAGE_PREFIX/flannel:$FLANNEL_TAG"
step flannel-start start_programs flanneld
step docker-network put_docker_behind_flannel
step start start_programs kube-kubelet kube-proxy
step kubelet-health wait_for 1200 kubelet_is_healthy
