
# Addresses are the one thing that did not fit in: the bundle has names in their places.
fill_in() { # DIRECTORY
  local api masters public address index=0 expressions=()
  api=$(sed -n 's/^api //p' "$STATE/addresses")
  masters=$(sed -n 's/^masters //p' "$STATE/addresses")
  public=$(sed -n 's/^public //p' "$STATE/addresses")
  [ -n "$api" ] && [ -n "$masters" ] || return 1
  for address in $masters; do
    expressions+=(-e "s/@MASTER_${index}_ADDRESS@/$address/g")
    index=$((index + 1))
  done
  # Stands as one item of a list, which may become several, or none.
  public=$(for address in $public; do printf ', "%s"' "$address"; done)
  expressions+=(-e "s/@API_HOST@/$api/g" -e "s/, *\"@API_PUBLIC@\"/$public/g")
  find "$1" -type f -exec sed -i "${expressions[@]}" {} +
}

fetch_bundle() { # DIRECTORY: it is here already
  tar -x -z -f "$STATE/bundle.tar.gz" -C "$1" --no-same-owner
  fill_in "$1"
}
