# shellcheck shell=bash
# The library of a node, sourced and never run: one file, made of this one, client.sh and claim.sh,
# by which it talks to magnumd, and identify.sh, which says who it is.

ROOT=${MAGNUMD_ROOT:-} # tests give a directory; on a server it is empty
STATE=$ROOT/var/lib/magnumd
LOG=$ROOT/var/log/magnumd-bootstrap.log
CA=$ROOT/etc/magnumd/bootstrap-ca.pem
PHASE=booted

# shellcheck source=/dev/null
. "$ROOT/etc/magnumd/node.env"

log() {
  printf '%s %s\n' "$(date -u +%FT%TZ)" "$*"
}

pause() { # SECONDS: that long and up to half as long again, so that nodes do not march in step
  sleep "$(($1 + RANDOM % ($1 / 2 + 1)))"
}
