#!/bin/bash
# What Bitnami's postgresql chart expects of its image, over Debian's PostgreSQL: a data folder on the claim,
# made at the first start, with the chart's users, passwords and database. Root file system read-only.
set -euo pipefail

# value NAME: of the variable, or of the file that NAME_FILE names.
value() {
  local file=$1_FILE
  if [[ -n ${!file:-} ]]; then cat "${!file}"; else printf '%s' "${!1:-}"; fi
}

volume=${POSTGRESQL_VOLUME_DIR:-/bitnami/postgresql}
export PGDATA=${PGDATA:-$volume/data}
port=${POSTGRESQL_PORT_NUMBER:-5432}
user=${POSTGRES_USER:-postgres}
password=$(value POSTGRES_PASSWORD)
administrator=$(value POSTGRES_POSTGRES_PASSWORD)
[[ $user != postgres ]] || administrator=${administrator:-$password}
[[ -n $administrator || ${ALLOW_EMPTY_PASSWORD:-no} == yes ]] || {
  echo "POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE is not set" >&2
  exit 1
}

# Bitnami's readiness probe looks for one of these files.
initialized=/opt/bitnami/postgresql/tmp/.initialized
options=(-p "$port" -k /tmp -c "shared_preload_libraries=${POSTGRESQL_SHARED_PRELOAD_LIBRARIES:-}"
  -c "client_min_messages=${POSTGRESQL_CLIENT_MIN_MESSAGES:-error}" -c shared_buffers=32MB -c jit=off)

if [[ ! -s $PGDATA/PG_VERSION ]]; then
  # Under a temporary name: a start that is killed half-way begins anew.
  rm -rf "$PGDATA.new"
  initdb --pgdata "$PGDATA.new" --username postgres --pwfile <(printf '%s\n' "${administrator:-none}") \
    --auth-local trust --auth-host scram-sha-256 --locale C.UTF-8 --no-instructions
  echo "host all all all scram-sha-256" >>"$PGDATA.new/pg_hba.conf"
  chmod 700 "$PGDATA.new"
  pg_ctl start --pgdata "$PGDATA.new" --wait --silent -o "-k /tmp -c listen_addresses= -p $port"
  run() { psql --quiet --host /tmp --port "$port" --username postgres --set ON_ERROR_STOP=1 "$@"; }
  if [[ $user != postgres ]]; then
    run --set name="$user" --set word="$password" <<'SQL'
CREATE ROLE :"name" LOGIN CREATEDB PASSWORD :'word'
SQL
  fi
  database=${POSTGRES_DATABASE:-${POSTGRES_DB:-}}
  if [[ -n $database && $database != postgres ]]; then
    run --set name="$database" --set owner="$user" <<'SQL'
CREATE DATABASE :"name" OWNER :"owner"
SQL
  fi
  pg_ctl stop --pgdata "$PGDATA.new" --wait --silent --mode fast
  mv "$PGDATA.new" "$PGDATA"
fi
[[ ! -d ${initialized%/*} ]] || touch "$initialized"
exec postgres -D "$PGDATA" -c 'listen_addresses=*' "${options[@]}" "$@"
