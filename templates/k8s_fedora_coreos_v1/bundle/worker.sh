# shellcheck shell=bash
# What makes a server a worker: two signed certificates, a kubelet and a kube-proxy.
# Sourced by setup.sh and duty.sh.

worker_certificates() {
  request_certificate kubelet "$CERTS/kubelet"
  request_certificate kube-proxy "$CERTS/proxy"
}

become_node() {
  become_container_host

  phase certs 'Asking for certificates.'
  step authority install -D -m 644 "$BUNDLE/pki/ca.crt" "$CERTS/ca.crt"
  step certificates worker_certificates
  phase_done 'All certificates are here.'

  phase addons 'Starting the kubelet.'
  step node-programs start_node_programs "$API_HOST"
  step duties start_duties
  phase_done 'The kubelet runs.'

  phase ready 'Waiting for the node.'
  await node-ready "$PATIENCE" node_is_ready "$ROOT/etc/kubernetes/kubelet-config.yaml"
  report_surely 'done' 'The node is Ready.'
}
