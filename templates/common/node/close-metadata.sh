#!/bin/bash
# Closes Nova's metadata service to pods and containers: there they would read the user data of the
# node they run on. What the node itself asks, and whatever shares its network, passes elsewhere.
set -euo pipefail
METADATA=169.254.169.254

# Before all routing and translation, in a table of its own: whatever network drivers, kube-proxy
# or Docker accept in theirs cannot open it, and when they begin anew it stays.
if command -v nft >/dev/null; then
  nft -f - <<END
table ip magnumd_metadata
delete table ip magnumd_metadata
table ip magnumd_metadata {
  chain prerouting {
    type filter hook prerouting priority -350; policy accept;
    ip daddr $METADATA drop
  }
}
END
else
  iptables -w -t raw -C PREROUTING -d "$METADATA" -j DROP 2>/dev/null ||
    iptables -w -t raw -I PREROUTING -d "$METADATA" -j DROP
fi
