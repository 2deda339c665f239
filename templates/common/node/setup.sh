#!/bin/bash
# From a booted server to a node of its cluster. Run again and again until it ends well; a
# step that has succeeded leaves a stamp and is not done twice.
set -euo pipefail
shopt -s inherit_errexit
BUNDLE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH=$PATH:/usr/local/bin:/opt/bin
# shellcheck source=lib.sh
. "$BUNDLE/lib.sh"
# shellcheck source=/dev/null
. "$BUNDLE/env"
# shellcheck source=steps.sh
. "$BUNDLE/steps.sh"
# shellcheck source=/dev/null
. "$BUNDLE/host.sh"
# shellcheck source=/dev/null
. "$BUNDLE/$MAGNUMD_NODE_ROLE.sh"

# shellcheck disable=SC2034 # told by ended
STEP=start
mkdir -p "$DONE"
trap 'ended $?' EXIT
identify
become_node # of master.sh or worker.sh
touch "$STATE/ready"
systemctl disable magnumd-bootstrap.service || true
