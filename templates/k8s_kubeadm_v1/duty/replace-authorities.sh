# shellcheck shell=bash
# The authorities that came along are trusted from now on: beside the present ones, or alone. Sourced by duty.sh.

# shellcheck source=authorities.sh
. "$BUNDLE/authorities.sh"

perform() {
  step place-authorities place_authorities
  step embed-authority embed_authority
  restart_node
}
