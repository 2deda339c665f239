# shellcheck shell=bash
# Only the new authorities are trusted from now on. Sourced by duty.sh.

# shellcheck source=authorities.sh
. "$BUNDLE/authorities.sh"

perform() {
  step place-authorities place_authorities
  step embed-authority embed_authority
  restart_node
}
