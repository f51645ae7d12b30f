# shellcheck shell=bash
# What the user sees: progress, errors in three parts, and waiting for a condition.

say() { echo "cluster: $*" >&2; }

# took WHAT: says WHAT with the seconds since the script began.
took() { printf 'cluster: %5.1f s  %s\n' "$(elapsed)" "$*" >&2; }

# die WHAT CAUSE NEXT: the thing, why it is so, and what to do.
die() {
  printf 'cluster: %s\n  cause: %s\n  next:  %s\n' "$1" "$2" "$3" >&2
  exit 1
}

# unforeseen: for the ERR trap; names at least where it was.
unforeseen() { echo "cluster: failed: $BASH_COMMAND (${BASH_SOURCE[1]##*/}, line ${BASH_LINENO[0]})" >&2; }

# wait_for SECONDS COMMAND…: runs COMMAND until it succeeds; fails after SECONDS.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}

elapsed() {
  local now=${EPOCHREALTIME/[^0-9]/}
  printf '%d.%03d' $(((now - BEGAN) / 1000000)) $(((now - BEGAN) / 1000 % 1000))
}

BEGAN=${EPOCHREALTIME/[^0-9]/}
