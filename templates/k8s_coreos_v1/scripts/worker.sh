#!/bin/bash
# The first boot of a worker. Its end, well or not, is told to Heat.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
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
step metadata close_metadata
step flannel-settings configure_flannel
step docker-settings configure_docker
step kubelet-settings write_kubelet_settings "$server"
step start start_units flanneld docker kubelet
step kubelet-health wait_for 1200 kubelet_is_healthy
