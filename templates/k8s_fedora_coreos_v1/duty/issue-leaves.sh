# shellcheck shell=bash
# Every certificate of this node is issued anew, by the next authorities. Sourced by duty.sh.

# shellcheck source=authorities.sh
. "$BUNDLE/authorities.sh"
# shellcheck source=workloads.sh
. "$BUNDLE/workloads.sh"

perform() {
  if [ "$MAGNUMD_NODE_ROLE" = master ] && [ "$MASTER_INDEX" = 0 ]; then
    step restart-workloads restart_workloads
  fi
  step place-authorities place_authorities
  if [ "$MAGNUMD_NODE_ROLE" = master ]; then
    step certificates master_certificates
  else
    step certificates worker_certificates
  fi
  restart_programs
}
