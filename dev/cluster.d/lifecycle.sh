# shellcheck shell=bash
# The verbs of dev/cluster: up, down, reset, ready, status, env, import, node.

cluster_up() {
  local count=$1 index
  check_root
  take_turns
  if all_run; then
    already_up "$count"
    return
  fi
  check_machine
  cluster_build
  if anything_left; then
    say "the rest of an earlier cluster goes first"
    tear_down
  fi
  check_free

  trap up_failed EXIT
  mkdir -p "$LOGS" "$PIDS"
  certificates_make
  kernel_save
  network_up
  control_plane_start
  took "control plane ready"
  for ((index = 1; index <= count; index++)); do node_start "$index"; done
  if ((count > 0)); then
    api_apply "$PARTS/manifests/coredns.yaml"
    api_apply "$PARTS/manifests/storage.yaml"
  fi
  echo "$count" >"$STATE/complete"
  wait_ready "read the kept logs; dev/cluster up starts afresh"
  trap - EXIT
  took "up: . <(dev/cluster env) tells a shell where"
}

cluster_down() {
  check_root
  take_turns
  if anything_left; then
    tear_down
    took "down"
  else
    say "nothing is there to end"
  fi
}

cluster_reset() {
  cluster_down
  cluster_up "$1"
}

cluster_ready() {
  local part code=0
  for part in $(parts); do
    if "ready_$part"; then
      echo "$part: ready"
    else
      echo "$part: not ready"
      code=1
    fi
  done
  [[ $code -eq 0 ]] || exit "$code"
}

cluster_status() {
  local file name pid
  anything_left || die "no cluster is here" "dev/cluster up was not called, or down was" "dev/cluster up"
  for file in "$PIDS"/*; do
    name=${file##*/}
    pid=$(<"$file")
    if runs "$name"; then
      printf '%-20s process %-8s %s\n' "$name" "$pid" "$LOGS/$name.log"
    else
      printf '%-20s ended          %s\n' "$name" "$LOGS/$name.log"
    fi
  done
  # shellcheck disable=SC2046 # a list of numbers
  ps -o rss= -p "$(cgroup_processes | paste -sd,)" | awk '{n++; sum += $1} END {printf "%d processes, %d MiB\n", n, sum / 1024}'
  cluster_ready
}

cluster_env() {
  cat <<END
export KUBECONFIG=$STATE/admin.kubeconfig
# The address of this machine that pods and nodes reach: registries and webhooks of tests listen here.
export GANTRY_CLUSTER_HOST=$HOST_IP
# A node's / is $NODES/NAME/root here: its images' hosts.toml files belong into etc/containerd/certs.d.
export GANTRY_CLUSTER_NODES=$NODES
# Names of images that every node has: busybox, pause, coredns, local-path-provisioner (tag 1).
export GANTRY_CLUSTER_IMAGES=$IMAGE_PREFIX
END
}

cluster_import() {
  local file name
  check_root
  all_run || not_up
  for file in "$@"; do
    [[ -r $file ]] || die "$file cannot be read" "it is not there, or not for us" "name an image archive"
    for name in $(node_names); do
      node_enter "$name" ctr -n k8s.io images import --digests=false - <"$file" ||
        die "$file could not be brought into $name" "containerd refused it (above)" "give an OCI or docker archive"
    done
  done
}

cluster_node() {
  check_root
  runs "$1" || die "there is no running node $1" "nodes: $(node_names | tr '\n' ' ')" "dev/cluster up"
  # Its exit code is ours, and no failure of the cluster.
  trap - ERR
  node_enter "$@"
}

# --- up ---------------------------------------------------------------------------------------

already_up() {
  local count
  count=$(<"$STATE/complete")
  [[ $count == "$1" ]] || die "the cluster is up with $count nodes, not $1" "up changes nothing that runs" "dev/cluster reset $1"
  wait_ready "dev/cluster status, then dev/cluster reset"
  say "up already, since $(date -r "$STATE/complete" +%H:%M:%S)"
}

# wait_ready NEXT: what the user does when it does not come.
wait_ready() {
  local part
  for part in $(parts); do
    wait_for 90 "ready_$part" || die "$part is not ready after 90 s" \
      "processes: $(for file in "$PIDS"/*; do runs "${file##*/}" || echo "${file##*/} ended;"; done)" \
      "$1"
    took "$part ready"
  done
}

# What is to be ready: of a control plane alone just the API.
parts() {
  echo api
  [[ $(cat "$STATE/complete" 2>/dev/null) == 0 ]] || printf '%s\n' nodes dns storage
}

ready_api() { api /readyz >/dev/null 2>&1; }

ready_nodes() {
  api_says 'o["items"] and all(any(c["type"] == "Ready" and c["status"] == "True" for c in n["status"]["conditions"])
    for n in o["items"]) and len(o["items"]) == '"$(cat "$STATE/complete" 2>/dev/null || echo 1)" /api/v1/nodes
}

ready_dns() { available kube-system coredns; }

ready_storage() { available storage local-path && available storage shared-path; }

available() { api_says 'o["status"].get("availableReplicas", 0) > 0' "/apis/apps/v1/namespaces/$1/deployments/$2"; }

# A failed start keeps what is needed to understand it, and leaves nothing else behind.
up_failed() {
  local kept list
  trap - EXIT
  kept=$CACHE/log/failed-$(date +%Y%m%d-%H%M%S)
  mkdir -p "$kept"
  for list in nodes pods events; do
    runs apiserver && api "/api/v1/$list" >"$kept/$list.json" 2>&1
  done
  cp -a "$LOGS" "$kept/control-plane" 2>/dev/null
  for list in $(node_names); do cp -a "$(node_root "$list")/var/log" "$kept/$list" 2>/dev/null; done
  say "up failed; its logs are kept in $kept"
  # The newest five are enough.
  find "$CACHE/log" -maxdepth 1 -name 'failed-*' | sort | head -n -5 | xargs --no-run-if-empty rm -rf
  tear_down
  exit 1
}

# --- down -------------------------------------------------------------------------------------

anything_left() { [[ -e $STATE || -e $(cgroup_home) || -e /sys/class/net/$BRIDGE ]]; }

# tear_down: from whatever is there, in any state.
tear_down() {
  cgroup_kill
  network_down
  cgroup_remove
  kernel_restore
  rm -rf --one-file-system "${STATE:?}"
  [[ ! -e $STATE ]] || die "$STATE cannot be removed" "something is mounted in it: $(grep -o "${STATE}[^ ]*" /proc/mounts | head -1)" \
    "umount that and run dev/cluster down again"
}

# --- all --------------------------------------------------------------------------------------

# take_turns: two runs at once (two worktrees on one machine) would tear at one cluster.
take_turns() {
  [[ ! -e /proc/$$/fd/9 ]] || return 0
  mkdir -p "$CACHE"
  exec 9>"$CACHE/lock"
  flock --nonblock 9 || {
    say "another dev/cluster is at work; waiting for it"
    flock 9
  }
}

not_up() { die "no cluster is up" "$STATE/complete is missing, or a process of it has ended" "dev/cluster up"; }
