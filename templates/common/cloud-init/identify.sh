
# Who this node is, from what cloud-init leaves behind, or from the firmware where it leaves nothing.
identify() { # sets NODE and INSTANCE
  NODE=$(hostname)
  NODE=${NODE%%.*}
  INSTANCE=
  if [ -s "$ROOT/var/lib/cloud/data/instance-id" ]; then
    INSTANCE=$(tr -d '[:space:]' <"$ROOT/var/lib/cloud/data/instance-id")
  fi
  case $INSTANCE in
  ????????-????-????-????-????????????) ;;
  *) INSTANCE=$(tr -d '[:space:]' <"$ROOT/sys/class/dmi/id/product_uuid" | tr '[:upper:]' '[:lower:]') ;;
  esac
}
