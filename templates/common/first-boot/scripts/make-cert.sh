# shellcheck shell=bash disable=SC2154
# Certificates by Magnum's API: a token of the trust, the authority, a request. Sourced.

ask() { # ANSWER-FILE OPTION... URL
  local answer=$1
  shift
  local options=(--silent --show-error --fail --noproxy '*' --connect-timeout 20
    --max-time 60 --output "$answer")
  [ "$VERIFY_CA" = True ] || options+=(--insecure)
  curl "${options[@]}" "$@"
}

# Nobody may read a token in a list of processes, so headers come from files.
new_token() {
  (
    umask 077
    ask /dev/null --dump-header "$STATE/token-headers" --header 'Content-Type: application/json' \
      --data-binary @/etc/magnumd/trust.json "$AUTH_URL/auth/tokens" || exit 1
    {
      sed -n 's/\r$//; s/^[Xx]-[Ss]ubject-[Tt]oken: */X-Auth-Token: /p' "$STATE/token-headers"
      printf 'OpenStack-API-Version: container-infra latest\nContent-Type: application/json\n'
    } >"$STATE/magnum-headers"
    rm -f "$STATE/token-headers"
  )
}

# curl of that time reads no headers from a file, but it reads options from one.
magnum() { # ANSWER-FILE OPTION... URL
  local answer=$1
  shift
  sed 's/^/header = "/; s/$/"/' "$STATE/magnum-headers" | ask "$answer" --config - "$@"
}

pem_of() { # FILE: the PEM in Magnum's answer
  tr -d '\n' <"$1" | sed -n 's/.*"pem" *: *"\([^"]*\)".*/\1/p' | sed 's/\\n/\n/g'
}

fetch_authority() { # FILE
  new_token && magnum "$STATE/answer" "$MAGNUM_URL/certificates/$CLUSTER_UUID" &&
    pem_of "$STATE/answer" >"$1.new" && openssl x509 -in "$1.new" -noout && mv "$1.new" "$1"
}

sign() { # NAME
  local csr
  csr=$(awk '{ printf "%s\\n", $0 }' "$STATE/$1.csr")
  printf '{"cluster_uuid": "%s", "csr": "%s"}' "$CLUSTER_UUID" "$csr" >"$STATE/$1.json"
  new_token && magnum "$STATE/answer" --data-binary "@$STATE/$1.json" "$MAGNUM_URL/certificates" &&
    pem_of "$STATE/answer" >"$CERTS/$1.crt.new" && openssl x509 -in "$CERTS/$1.crt.new" -noout &&
    mv "$CERTS/$1.crt.new" "$CERTS/$1.crt"
}

make_certificate() { # NAME SUBJECT USAGES [NAMES]
  local config=$STATE/$1.cnf
  mkdir -p "$CERTS"
  {
    printf '[req]\ndistinguished_name = dn\nreq_extensions = v3\nprompt = no\n[dn]\n'
    printf '%s\n' "$2" | tr '/' '\n'
    printf '[v3]\nkeyUsage = digitalSignature, keyEncipherment\nextendedKeyUsage = %s\n' "$3"
    [ -z "${4:-}" ] || printf 'subjectAltName = %s\n' "$4"
  } >"$config"
  (
    umask 077
    [ -s "$CERTS/$1.key" ] ||
      openssl ecparam -name prime256v1 -genkey -noout -out "$CERTS/$1.key"
  )
  openssl req -new -config "$config" -key "$CERTS/$1.key" -out "$STATE/$1.csr"
  # Keystone and Magnum may be away for a while; what they refuse, they refuse later too.
  wait_for 1200 sign "$1"
}

node_certificates() {
  local node
  node=$(hostname -s)
  mkdir -p "$CERTS"
  wait_for 1200 fetch_authority "$CERTS/ca.crt"
  make_certificate kubelet "CN = system:node:$node/O = system:nodes" 'clientAuth, serverAuth' \
    "DNS:$node,IP:$KUBE_NODE_IP"
  make_certificate proxy "CN = system:kube-proxy/O = system:node-proxier" clientAuth
}

master_certificates() { # one for the API server and etcd, as callee and as caller
  local names address
  names="DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
  names+=",DNS:kubernetes.default.svc.cluster.local,DNS:$(hostname -s),IP:127.0.0.1"
  names+=",IP:$KUBE_SERVICE_IP"
  for address in "$KUBE_NODE_IP" "$KUBE_NODE_PUBLIC_IP" "$KUBE_API_PRIVATE_ADDRESS" \
    "$KUBE_API_PUBLIC_ADDRESS"; do
    [ -z "$address" ] || [[ ",$names," == *",IP:$address,"* ]] || names+=",IP:$address"
  done
  make_certificate server 'CN = kubernetes' 'clientAuth, serverAuth' "$names"
  make_certificate admin 'CN = admin/O = system:masters' clientAuth
}
