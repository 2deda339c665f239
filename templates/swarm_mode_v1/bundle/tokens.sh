# shellcheck shell=bash
# How the first manager hands the swarm's join tokens to magnumd, which keeps them sealed and
# gives each node the one of its role. Sourced.

read_tokens() { # sets WORKER_TOKEN and MASTER_TOKEN
  (umask 077 && : >"$STATE/swarm.json")
  docker_api GET /swarm "$STATE/swarm.json"
  if [ "$CODE" != 200 ]; then
    log "the swarm tells no tokens: $CODE $(said "$STATE/swarm.json")"
    rm -f "$STATE/swarm.json"
    return 1
  fi
  WORKER_TOKEN=$(field Worker <"$STATE/swarm.json")
  MASTER_TOKEN=$(field Manager <"$STATE/swarm.json")
  rm -f "$STATE/swarm.json"
  [ -n "$WORKER_TOKEN" ] && [ -n "$MASTER_TOKEN" ]
}

tokens_digest() {
  printf '%s %s' "$WORKER_TOKEN" "$MASTER_TOKEN" | sha256sum | cut -d ' ' -f 1
}

# Once this node is ready, what is in its user data opens nothing any more; what it drew for
# itself and never showed to anybody but magnumd proves that it is still the one that founded.
write_tokens() { # FILE
  (
    umask 077
    [ -s "$STATE/renewal" ] || openssl rand -hex 32 >"$STATE/renewal"
    printf '{"master":"%s","worker":"%s","renewal":"%s"}' \
      "$MASTER_TOKEN" "$WORKER_TOKEN" "$(cat "$STATE/renewal")" >"$1"
  )
}

hand_over() {
  read_tokens
  write_tokens "$STATE/tokens.json"
  call_surely POST join "$STATE/answer" "$STATE/tokens.json"
  rm -f "$STATE/tokens.json"
  tokens_digest >"$STATE/tokens.handed"
}
