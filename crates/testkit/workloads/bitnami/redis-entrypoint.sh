#!/bin/bash
# Debian's Redis as Bitnami's image starts it. Their chart brings scripts of its own and passes this by.
set -euo pipefail
[[ -z ${REDIS_PASSWORD_FILE:-} ]] || REDIS_PASSWORD=$(<"$REDIS_PASSWORD_FILE")
[[ -n ${REDIS_PASSWORD:-} || ${ALLOW_EMPTY_PASSWORD:-no} == yes ]] || {
  echo "REDIS_PASSWORD or REDIS_PASSWORD_FILE is not set, and ALLOW_EMPTY_PASSWORD is not yes" >&2
  exit 1
}
options=(--port "${REDIS_PORT:-6379}" --dir "${REDIS_DATA_DIR:-/data}" --protected-mode no)
[[ -z ${REDIS_PASSWORD:-} ]] || options+=(--requirepass "$REDIS_PASSWORD")
exec redis-server "${options[@]}" "$@"
