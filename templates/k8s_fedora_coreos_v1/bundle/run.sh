#!/bin/bash
# Runs one program, which has a unit of its own, in a container: magnumd-run NAME. What it is
# told is in two files of shell text: the images, and the program's own arguments.
set -euo pipefail
name=$1
ROOT=${MAGNUMD_ROOT:-}
arguments=()
# shellcheck source=/dev/null
. "$ROOT/etc/kubernetes/magnumd/images"
# shellcheck source=/dev/null
. "$ROOT/etc/kubernetes/magnumd/$name.args"

image=$KUBE_IMAGE
options=(--name "$name" --rm --replace --network host --security-opt label=disable
  --volume /etc/kubernetes:/etc/kubernetes:ro)
case $name in
etcd)
  image=$ETCD_IMAGE
  options+=(--volume /var/lib/etcd:/var/lib/etcd --volume /etc/etcd/certs:/etc/etcd/certs:ro)
  ;;
kube-apiserver)
  options+=(--volume /etc/etcd/certs:/etc/etcd/certs:ro)
  ;;
kubelet)
  # It mounts what pods are given, so what it mounts must be seen outside of its container.
  options+=(--privileged --pid host --ipc host --cgroupns host --pids-limit -1
    --volume /var/lib/kubelet:/var/lib/kubelet:rshared
    --volume /var/lib/containerd:/var/lib/containerd:rshared
    --volume /var/lib/cni:/var/lib/cni --volume /var/lib/calico:/var/lib/calico
    --volume /var/log:/var/log
    --volume /etc/cni:/etc/cni --volume /opt/cni:/opt/cni
    --volume /etc/machine-id:/etc/machine-id:ro --volume /lib/modules:/lib/modules:ro
    --volume /dev:/dev --volume /sys:/sys --volume /run:/run:rshared)
  ;;
kube-proxy)
  options+=(--privileged --volume /lib/modules:/lib/modules:ro --volume /run:/run)
  ;;
esac
exec podman run "${options[@]}" "$image" "$name" "${arguments[@]}"
