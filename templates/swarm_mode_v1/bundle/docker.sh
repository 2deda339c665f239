# shellcheck shell=bash
# The Docker daemon of a node and the swarm it is in. Sourced by host.sh and magnumd-tokens.sh.

SOCKET=/run/docker.sock
SWARM_PORT=2377
CONFIG=/etc/docker/daemon.json

# METHOD PATH ANSWER-FILE [BODY-FILE]: one call of the daemon's own API; sets CODE, 000 when
# nobody answered. No docker command: the swarm's tokens would stand on its command line.
docker_api() {
  local options=(--silent --show-error --noproxy '*' --max-time 120 --unix-socket "$SOCKET"
    --request "$1" --output "$3" --write-out '%{http_code}')
  [ -z "${4:-}" ] || options+=(--header 'Content-Type: application/json' --data-binary "@$4")
  CODE=$(curl "${options[@]}" "http://docker$2") || CODE=000
}

said() { # ANSWER-FILE: why the daemon refused
  head -c 400 "$1" 2>/dev/null || true
}

field() { # NAME, JSON on stdin: the first text of that name
  tr -d '\n' | sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"
}

docker_answers() {
  docker_api GET /_ping "$STATE/answer"
  [ "$CODE" = 200 ]
}

docker_major() { # of the image's Docker: 28.2.2 gives 28
  docker --version | sed -n 's/^Docker version \([0-9]*\)\..*/\1/p'
}

link_mtu() { # of the interface that has this node's address
  local device
  device=$(ip -4 -o addr show | awk -v a="$NODE_ADDRESS/" 'index($4, a) == 1 { print $2; exit }')
  cat "/sys/class/net/${device%%@*}/mtu"
}

# What the image brought along is put aside, never merged: two settings for one thing keep the
# daemon from starting.
write_docker_config() {
  local mtu hosts='' overlay=''
  mtu=$(link_mtu)
  mkdir -p /etc/docker
  [ ! -e "$CONFIG" ] || [ -e "$CONFIG.image" ] || mv "$CONFIG" "$CONFIG.image"
  if [ -n "$API_PORT" ]; then
    if systemctl cat docker.service | grep -E -- '(-H|--host)[ =]*fd://' >/dev/null; then
      # The daemon gets its sockets from systemd, and speaks TLS on those that are TCP.
      mkdir -p /etc/systemd/system/docker.socket.d
      printf '[Socket]\nListenStream=%s\n' "$API_PORT" \
        >/etc/systemd/system/docker.socket.d/magnumd.conf
    else
      hosts="\"hosts\": [\"unix://$SOCKET\", \"tcp://0.0.0.0:$API_PORT\"],"
    fi
  fi
  # Docker's overlay networks do not look at the network below them; 24 was the first to be told.
  [ "$(docker_major)" -lt 24 ] ||
    overlay="\"default-network-opts\": {\"overlay\": {\"com.docker.network.driver.mtu\": \"$((mtu - 50))\"}},"
  # An image with settings of its own for storage gives them on the daemon's command line.
  if [ -n "$STORAGE_DRIVER" ] && [ -e /etc/sysconfig/docker-storage ]; then
    echo 'DOCKER_STORAGE_OPTIONS=' >/etc/sysconfig/docker-storage
  fi
  sed -e "1s#{#{ $hosts $overlay#" -e "s/\"mtu\": 1500/\"mtu\": $mtu/" "$BUNDLE/daemon.json" >"$CONFIG"
}

start_docker() {
  if [ -e "$BUNDLE/proxy.env" ]; then
    install -D -m 600 "$BUNDLE/proxy.env" /etc/magnumd/proxy.env
    mkdir -p /etc/systemd/system/docker.service.d
    printf '[Service]\nEnvironmentFile=/etc/magnumd/proxy.env\n' \
      >/etc/systemd/system/docker.service.d/magnumd-proxy.conf
  fi
  systemctl daemon-reload
  systemctl stop docker.service
  if systemctl cat docker.socket >/dev/null 2>&1; then
    systemctl enable docker.socket
    systemctl restart docker.socket
  fi
  systemctl enable docker.service
  systemctl restart docker.service
  wait_for 300 docker_answers
}

swarm_state() { # inactive, pending, active, error or locked
  docker_api GET /info "$STATE/info.json"
  [ "$CODE" = 200 ] || return 1
  field LocalNodeState <"$STATE/info.json"
}

swarm_is_active() {
  [ "$(swarm_state)" = active ]
}

# magnumd gives each node what its role needs, once the first manager has handed it over.
fetch_token() {
  (
    umask 077
    : >"$STATE/token.json"
    call GET join "$STATE/token.json"
    [ "$CODE" = 200 ]
  )
}

join_swarm() {
  local body=$STATE/join.json manager token said=
  if [ "$(swarm_state)" = inactive ]; then
    fetch_token
    token=$(field secret <"$STATE/token.json")
    for manager in $MANAGERS; do
      [ "$manager" != "$NODE_ADDRESS" ] || continue
      (
        umask 077
        printf '{"ListenAddr":"%s:%s","AdvertiseAddr":"%s","RemoteAddrs":["%s:%s"],"JoinToken":"%s"}' \
          "$NODE_ADDRESS" "$SWARM_PORT" "$NODE_ADDRESS" "$manager" "$SWARM_PORT" "$token" >"$body"
      )
      docker_api POST /swarm/join "$STATE/answer" "$body"
      [ "$CODE" != 200 ] || break
      said=$(said "$STATE/answer")
      log "$manager did not take this node in: $CODE $said"
      # It may have gone on in the background.
      [ "$(swarm_state)" = inactive ] || break
    done
  fi
  rm -f "$body" "$STATE/token.json"
  wait_for 120 swarm_is_active
}
