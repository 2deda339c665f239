# shellcheck shell=bash
# What makes a server a manager: the first one founds the swarm, the others join it. Sourced by
# setup.sh.

place_authority() {
  mkdir -p "$PKI"
  install -m 644 "$BUNDLE/pki/ca.crt" "$PKI/ca.crt"
}

found_swarm() {
  if [ "$(swarm_state)" = inactive ]; then
    printf '{"ListenAddr":"%s:%s","AdvertiseAddr":"%s","DefaultAddrPool":["%s"],"SubnetSize":%s}' \
      "$NODE_ADDRESS" "$SWARM_PORT" "$NODE_ADDRESS" "$OVERLAY_NETWORK" "$OVERLAY_SUBNETLEN" \
      >"$STATE/init.json"
    docker_api POST /swarm/init "$STATE/answer" "$STATE/init.json"
    [ "$CODE" = 200 ] || log "the swarm was not founded: $CODE $(said "$STATE/answer")"
  fi
  wait_for 120 swarm_is_active
}

# The network behind published ports is made with the swarm, for links of 1500 bytes. On a link
# that takes less its full packets would vanish, so it is made anew.
fit_ingress() {
  local mtu
  mtu=$(link_mtu)
  [ "$mtu" -lt 1500 ] || return 0
  docker_api GET /networks/ingress "$STATE/answer"
  if [ "$CODE" = 200 ]; then
    grep -F "\"com.docker.network.driver.mtu\":\"$((mtu - 50))\"" "$STATE/answer" >/dev/null &&
      return 0
    docker_api DELETE /networks/ingress "$STATE/answer"
    [ "$CODE" = 204 ] || log "the ingress network stays: $CODE $(said "$STATE/answer")"
    wait_for 60 ingress_is_gone
  fi
  printf '{"Name":"ingress","Driver":"overlay","Ingress":true,"Options":{"com.docker.network.driver.mtu":"%s"}}' \
    "$((mtu - 50))" >"$STATE/ingress.json"
  docker_api POST /networks/create "$STATE/answer" "$STATE/ingress.json"
  [ "$CODE" = 201 ] || {
    log "the ingress network was not made: $CODE $(said "$STATE/answer")"
    return 1
  }
}

ingress_is_gone() {
  docker_api GET /networks/ingress "$STATE/answer"
  [ "$CODE" = 404 ]
}

start_tokens() { # the first manager tells magnumd when somebody has drawn new tokens
  install -D -m 755 "$BUNDLE/magnumd-tokens.sh" /etc/magnumd/tokens.sh
  install -m 644 "$BUNDLE/magnumd-tokens.service" /etc/systemd/system/magnumd-tokens.service
  install -m 644 "$BUNDLE/magnumd-tokens.timer" /etc/systemd/system/magnumd-tokens.timer
  systemctl daemon-reload
  systemctl enable --now magnumd-tokens.timer
}

become_node() {
  become_host

  if [ -n "$TLS" ]; then
    phase certs 'Asking for a certificate.'
    step authority place_authority
    step docker-certificate request_certificate docker-server "$PKI/docker-server"
    phase_done 'The certificate is here.'
  fi

  become_docker_host

  if [ "$MASTER_INDEX" = 0 ]; then
    phase control-plane 'Founding the swarm.'
    step found found_swarm
    step ingress fit_ingress
    step hand-over hand_over
    step tokens start_tokens
    phase_done 'The swarm is founded.'
  else
    phase control-plane 'Joining the swarm.'
    [ -e "$DONE/join" ] || await join-token "$PATIENCE" fetch_token
    step join join_swarm
    phase_done 'The node has joined the swarm.'
  fi

  be_ready
}
