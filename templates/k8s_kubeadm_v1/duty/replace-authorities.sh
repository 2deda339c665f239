# shellcheck shell=bash
# The next authorities are trusted beside the present ones. Sourced by duty.sh.

# shellcheck source=authorities.sh
. "$BUNDLE/authorities.sh"

perform() {
  step place-authorities place_authorities
  step embed-authority embed_authority
  restart_node
}
