#!/usr/bin/env bash
# The whole way once, on real input: what `make demo` runs after dev/setup and a build.
#
# A registry in place of docker.io, ghcr.io and quay.io, a Hugging Face Hub with a real 91 MB
# model, and a site's registry run on loopback for as long as this script does. The chart of
# examples/umbrella, its images and the model are locked, fetched, packed, verified, loaded and
# served; at the end one image and the model are pulled from the depot by skopeo and huggingface_hub
# with every network but loopback out of the picture.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=dev/env
. "$here/../dev/env"
bin=${GANTRY_BIN_DIR:-$here/../target/debug}
gantry=$bin/gantry
testkit=$bin/testkit
model=sentence-transformers/all-MiniLM-L6-v2

main() {
  work=$(mktemp -d "${TMPDIR:-/tmp}/gantry-demo.XXXXXX")
  trap clean_up EXIT
  trap 'exit 130' INT TERM

  say "The world: registries and a Hub on loopback, images made from Debian packages"
  start_world
  note "docker.io, ghcr.io and quay.io are $UPSTREAM, huggingface.co is $HUB, the site's registry is $SITE"

  # A copy, so that the lock and the bundle files are not written to the source tree.
  cp -R "$here/umbrella" "$work/umbrella"
  cd "$work/umbrella"
  export GANTRY_CONFIG GANTRY_STORE="$work/store"

  say "With internet access: gantry.yaml is resolved to gantry.lock, with every digest"
  show "$gantry" lock
  show "$gantry" plan

  say "With internet access: everything into the store, each blob once, then into bundle files of 64 MiB"
  show "$gantry" fetch
  show "$gantry" pack --file-size 64MiB -o "$work/media"
  show ls -l "$work/media"

  say "═══ the air gap: the bundle files are carried; the store and the network stay behind ═══"
  rm -rf "$GANTRY_STORE"
  export GANTRY_STORE="$work/no-store-inside"
  bundle=("$work"/media/*.gantry)

  say "At the site: verify, then load into the site's registry, straight from the bundle files"
  show "$gantry" verify "${bundle[@]}"
  show "$gantry" load "${bundle[@]}" --to "$SITE/site"
  show skopeo list-tags --tls-verify=false "docker://$SITE/site/library/nginx"

  say "At the site: the values that point the chart at this registry, and the proof that nothing points outside"
  show "$gantry" relocate . -f values-offline.yaml --to "$SITE/site" -o overlay.yaml
  show cat overlay.yaml

  say "At the site, with no network but loopback: the depot serves from the bundle files"
  # shellcheck disable=SC2016
  unshare --net --map-root-user -- sh -c 'ip link set lo up && exec "$@"' sh \
    bash "$here/demo.sh" --inside "$work" "${bundle[@]}"

  say "Done. The same way with your own chart: see the tour in README.md"
}

# Runs in a network that has nothing but loopback.
inside() {
  work=$1
  shift
  note "links: $(ip -o link | cut -d: -f2 | xargs); routes: $(ip route | wc -l)"
  cd "$work"
  "$gantry" serve "$@" --listen 127.0.0.1:8099 >"$work/depot.log" 2>&1 &
  depot=$!
  trap 'kill "$depot" 2>/dev/null || true; wait "$depot" 2>/dev/null || true' EXIT
  wait_for "the depot" "$work/depot.log" curl -sf -o /dev/null http://127.0.0.1:8099/readyz

  show skopeo copy --src-tls-verify=false \
    docker://127.0.0.1:8099/docker.io/library/nginx:1.22 "oci:$work/pulled:nginx"
  HF_ENDPOINT=http://127.0.0.1:8099 HF_HOME="$work/hf" HF_HUB_DISABLE_PROGRESS_BARS=1 \
    show "$GANTRY_VENVS/hub-2.4.0/bin/hf" download "$model"
  cmp "$GANTRY_MODEL/model.safetensors" "$work"/hf/hub/models--*/snapshots/*/model.safetensors
  note "the model's weights are the very bytes that the Hub had"
}

start_world() {
  "$testkit" images fast | tail -1 # made now if this is the first time, so that the wait is seen
  mkfifo "$work/hold"
  "$testkit" world "$work" fast <"$work/hold" 2>"$work/world.log" &
  world=$!
  # The world lives for as long as this end is open, however this script ends.
  exec 7>"$work/hold"
  wait_for "the world" "$work/world.log" test -e "$work/world.env"
  # shellcheck source=/dev/null
  . "$work/world.env"
}

# wait_for NAME LOG COMMAND…: until COMMAND succeeds; after half a minute it is an error.
wait_for() {
  local name=$1 log=$2 deadline=$((SECONDS + 30))
  shift 2
  until "$@"; do
    if ((SECONDS > deadline)) || [[ -z $(jobs -r) ]]; then
      echo "demo: $name did not start:" >&2
      cat "$log" >&2
      exit 1
    fi
    sleep 0.02
  done
}

clean_up() {
  local code=$?
  exec 7>&-
  [[ -z ${world:-} ]] || wait "$world" || true
  rm -rf "$work"
  if [[ $code -ne 0 ]]; then echo "demo: failed (exit code $code)" >&2; fi
  exit "$code"
}

say() { printf '\n\033[1m── %s\033[0m\n' "$*"; }
note() { printf '   %s\n' "$*"; }

# Shows a command as a person would type it, runs it, tells its time.
show() {
  local words=("$@") start=${EPOCHREALTIME/./}
  words[0]=${words[0]##*/}
  printf '\n$ %s\n' "$(printf '%s ' "${words[@]}" | sed "s#$work#…#g")"
  "$@" 7>&-
  note "($(((${EPOCHREALTIME/./} - start) / 1000)) ms)"
}

if [[ ${1:-} == --inside ]]; then
  shift
  inside "$@"
else
  main
fi
