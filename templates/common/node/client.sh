
# How a node asks and tells magnumd what it must: the client of the bootstrap interface.

# METHOD WHAT ANSWER-FILE [BODY-FILE]: calls until it is answered with success.
call_surely() {
  local wait=3
  while :; do
    call "$@"
    case $CODE in
    2??) return 0 ;;
    000 | 408 | 429 | 5??) ;;
    *) # refused: only time or an operator can change that
      log "$1 $2: refused with $CODE: $(head -c 300 "$3" 2>/dev/null || true)"
      wait=60
      ;;
    esac
    log "$1 $2: $CODE, trying again"
    pause "$wait"
    wait=$((wait < 30 ? wait * 2 : wait))
  done
}

escape() { # text on stdin, what stands between the quotes of JSON on stdout
  LC_ALL=C tr -cd '\11\12\40-\176' | sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/\t/\\t/g' |
    awk '{ printf "%s\\n", $0 }'
}

report_body() { # STATE MESSAGE
  local message
  message=$(printf '%s' "$2" | head -c 1000 | escape)
  printf '{"phase":"%s","state":"%s","message":"%s","log_tail":"%s"}' "$PHASE" "$1" \
    "${message%\\n}" "$(tail -c 16384 "$LOG" 2>/dev/null | escape)" >"$STATE/report.json"
}

report() { # STATE MESSAGE: tells magnumd, or goes on without
  report_body "$@"
  call POST status "$STATE/answer" "$STATE/report.json"
  log "$PHASE $1: $2 (reported: $CODE)"
}

report_surely() {
  report_body "$@"
  call_surely POST status "$STATE/answer" "$STATE/report.json"
  log "$PHASE $1: $2"
}

fetch_bundle() { # DIRECTORY: what makes this server a node
  call_surely GET bundle "$STATE/bundle.tar"
  tar -x -f "$STATE/bundle.tar" -C "$1" --no-same-owner
  rm -f "$STATE/bundle.tar"
}
