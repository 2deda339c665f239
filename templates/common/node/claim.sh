
# First contact: the token of the user data opens nothing but a certificate for a key that is made
# here and never leaves. Everything else is asked for with that certificate.
IDENTITY=$STATE/identity

secret_in() { # vendor_data2.json on stdin, of one line or several
  tr -d '\n' | sed -n 's/.*"magnumd": *{ *"secret": *"\([A-Za-z0-9_-]*\)".*/\1/p'
}

vendor_secret() { # what Nova gave this server for magnumd: on its config drive, else what the
  # metadata service has by now; nothing in a cloud whose Nova gives none
  local drive=$STATE/config-drive found=
  mkdir -p "$drive"
  if mount -o ro /dev/disk/by-label/config-2 "$drive" 2>/dev/null ||
    mount -o ro /dev/disk/by-label/CONFIG-2 "$drive" 2>/dev/null; then
    found=$(secret_in <"$drive/openstack/latest/vendor_data2.json") || found=
    umount "$drive"
  fi
  if [ -z "$found" ]; then
    found=$(curl --silent --fail --noproxy '*' --connect-timeout 3 --max-time 15 \
      http://169.254.169.254/openstack/latest/vendor_data2.json | secret_in) || found=
  fi
  printf '%s' "$found"
}

claim_headers() { # what shows that this server sends the claim
  local secret
  secret=$(vendor_secret)
  printf 'Authorization: Bearer %s\nX-Magnumd-Instance: %s\n' "$MAGNUMD_ENROLMENT_TOKEN" "$INSTANCE"
  # An empty one would be a wrong one.
  [ -z "$secret" ] || printf 'X-Magnumd-Vendor-Secret: %s\n' "$secret"
}

# Says who this server is, once; answered again and again until it is known. A lost answer is
# given once more for the same key, so the key must be on the disk before it is shown.
claim() {
  [ ! -s "$IDENTITY/certificate.pem" ] || return 0
  (
    umask 077
    mkdir -p "$IDENTITY" || exit 1
    if [ ! -s "$IDENTITY/key.pem" ]; then
      openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$IDENTITY/key.new" &&
        mv "$IDENTITY/key.new" "$IDENTITY/key.pem" && sync || exit 1
    fi
    openssl req -new -key "$IDENTITY/key.pem" -subj "/CN=$NODE" -out "$IDENTITY/request.pem" &&
      claim_headers >"$IDENTITY/token" &&
      awk 'BEGIN { printf "{\"csr\":\"" } { printf "%s\\n", $0 } END { printf "\"}" }' \
        "$IDENTITY/request.pem" >"$IDENTITY/claim.json"
  ) || {
    CODE=000
    log 'no key can be made for this node'
    return 1
  }
  ask POST claim "$IDENTITY/answer" "$IDENTITY/claim.json" --header "@$IDENTITY/token"
  case $CODE in
  2??) ;;
  *)
    log "POST claim: $CODE $(head -c 300 "$IDENTITY/answer" 2>/dev/null)"
    return 1
    ;;
  esac
  if ! tr -d '\n' <"$IDENTITY/answer" | sed -n 's/.*"certificate" *: *"\([^"]*\)".*/\1/p' |
    sed 's/\\n/\n/g' | awk NF >"$IDENTITY/certificate.new" ||
    ! openssl x509 -in "$IDENTITY/certificate.new" -noout; then
    CODE=000
    return 1
  fi
  sync
  mv "$IDENTITY/certificate.new" "$IDENTITY/certificate.pem"
  rm -f "$IDENTITY/token" "$IDENTITY/request.pem" "$IDENTITY/claim.json" "$IDENTITY/answer" \
    "$STATE/headers"
  log 'this node has its own certificate now'
}

# METHOD WHAT ANSWER-FILE BODY-FILE OPTION…: one attempt; sets CODE, 000 when nobody answered.
# Secrets are in files because everybody may read a command line.
ask() {
  local options=(--silent --show-error --noproxy '*' --connect-timeout 20 --max-time 60
    --request "$1" --output "$3" --write-out '%{http_code}')
  [ ! -s "$CA" ] || options+=(--cacert "$CA")
  [ -z "$4" ] || options+=(--header 'Content-Type: application/json' --data-binary "@$4")
  CODE=$(curl "${options[@]}" "${@:5}" "$MAGNUMD_BOOTSTRAP_URL/bootstrap/v1/$NODE/$2") || CODE=000
}

# METHOD WHAT ANSWER-FILE [BODY-FILE]: the same as the node that this is.
call() {
  claim || return 0
  ask "$1" "$2" "$3" "${4:-}" --cert "$IDENTITY/certificate.pem" --key "$IDENTITY/key.pem"
}
