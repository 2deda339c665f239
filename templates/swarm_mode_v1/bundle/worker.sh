# shellcheck shell=bash
# What makes a server a worker. Sourced by setup.sh.

become_node() {
  become_host
  become_docker_host

  phase control-plane 'Joining the swarm.'
  [ -e "$DONE/join" ] || await join-token "$PATIENCE" fetch_token
  step join join_swarm
  phase_done 'The node has joined the swarm.'

  be_ready
}
