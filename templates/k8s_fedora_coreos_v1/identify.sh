
# Who this node is, from Nova's own words: Ignition leaves none behind, and the hostname comes later.
config_drive() { # a copy of what Nova wrote about this server; Ignition leaves none behind
  local drive=$STATE/config-drive
  mkdir -p "$drive"
  mount -o ro /dev/disk/by-label/config-2 "$drive"
  cp "$drive/openstack/latest/meta_data.json" "$STATE/meta_data.new"
  umount "$drive"
  mv "$STATE/meta_data.new" "$STATE/meta_data.json"
}

about_server() { # KEY: what the copy says under a key that it has once
  sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$STATE/meta_data.json"
}

identify() { # sets NODE and INSTANCE
  [ -s "$STATE/meta_data.json" ] || config_drive
  NODE=$(about_server hostname)
  NODE=${NODE%%.*}
  INSTANCE=$(about_server uuid)
}
