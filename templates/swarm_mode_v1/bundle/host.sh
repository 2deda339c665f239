# shellcheck shell=bash
# What makes a server a host of Docker, in a swarm or not yet. Sourced by setup.sh.

# shellcheck source=docker.sh
. "$BUNDLE/docker.sh"
# shellcheck source=tokens.sh
. "$BUNDLE/tokens.sh"

# shellcheck disable=SC2034 # read by master.sh
PKI=$ROOT/etc/docker/magnumd
# shellcheck disable=SC2034 # read by steps.sh: whoever joins calls a manager first
API_HOST=${MANAGERS%% *}

preflight() {
  need_tools 'Use an image that contains Docker.' docker openssl curl ip systemctl
  [ -n "$(docker_major)" ] ||
    give_up "The image's docker command is not Docker's: $(docker --version 2>&1 | head -n 1). Use an image that contains Docker."
  # shellcheck disable=SC2034 # told by become_host
  FINDINGS="$(docker --version)."
  need_space 1
  need_clock
}

prepare_system() {
  # Security groups filter already; a second filter on the host only hides why nodes are deaf.
  local unit
  for unit in firewalld ufw; do
    systemctl disable --now "$unit" >/dev/null 2>&1 || true
  done
}

mount_docker_volume() {
  systemctl stop docker.service
  mount_volume magnumd_docker_volume magnumd-docker /var/lib/docker
}

start_rexray() {
  install -D -m 600 "$BUNDLE/rexray.yml" /etc/rexray/config.yml
  [ ! -e "$BUNDLE/openstack-ca.pem" ] ||
    install -m 644 "$BUNDLE/openstack-ca.pem" /etc/rexray/openstack-ca.pem
  install -m 644 "$BUNDLE/magnumd-rexray.service" /etc/systemd/system/magnumd-rexray.service
  systemctl daemon-reload
  systemctl enable magnumd-rexray.service
  systemctl restart magnumd-rexray.service
  wait_for "$PATIENCE" test -S /run/docker/plugins/rexray.sock
}

become_docker_host() { # everything before the swarm
  phase runtime 'Starting Docker.'
  [ "$DOCKER_VOLUME" = 0 ] || step docker-volume mount_docker_volume
  step docker-config write_docker_config
  step docker start_docker
  phase_done 'Docker answers.'
}

be_ready() { # everything after it
  if [ -e "$BUNDLE/rexray.yml" ]; then
    phase addons 'Starting the volume driver.'
    step rexray start_rexray
    phase_done 'The volume driver runs.'
  fi
  phase ready 'Waiting for the swarm.'
  await swarm-active "$PATIENCE" swarm_is_active
  report_surely 'done' 'The node is active in the swarm.'
}
