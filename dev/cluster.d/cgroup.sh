# shellcheck shell=bash
# The cluster's cgroup, /gantry-cluster: every process of it is born inside, so that `down` finds all
# of them whatever became of the process that started them. Version 1 and version 2.

# What the kubelet needs of version 1, each mounted at /sys/fs/cgroup/NAME.
CGROUP_V1=(cpu cpuacct cpuset memory devices freezer blkio pids)
CGROUP_V2=(cpu cpuset memory pids)

# cgroup_missing: the controllers that are not there, empty when all are.
cgroup_missing() {
  local name missing=()
  if cgroup_is_v2; then
    for name in "${CGROUP_V2[@]}"; do
      grep -qw "$name" /sys/fs/cgroup/cgroup.controllers || missing+=("$name")
    done
  else
    for name in "${CGROUP_V1[@]}"; do
      [[ -e /sys/fs/cgroup/$name/cgroup.procs ]] || missing+=("$name")
    done
  fi
  echo "${missing[*]}"
}

# cgroup_make PATH: a cgroup below ours, in every hierarchy.
cgroup_make() {
  local root part path
  while read -r root; do
    path=$root
    for part in "$CGROUP" ${1//\// }; do
      # In version 2 a parent hands its controllers on.
      ! cgroup_is_v2 || printf '+%s ' "${CGROUP_V2[@]}" >"$path/cgroup.subtree_control"
      mkdir -p "$path/$part"
      # In version 1 a cpuset is born without processors, and takes no process so.
      if [[ -e $path/cpuset.cpus ]] && ! cgroup_is_v2; then
        cat "$path/cpuset.cpus" >"$path/$part/cpuset.cpus"
        cat "$path/cpuset.mems" >"$path/$part/cpuset.mems"
      fi
      path+=/$part
    done
  done < <(cgroup_roots)
}

# cgroup_enter PATH: moves the calling (sub)shell into it.
cgroup_enter() { echo "$BASHPID" >"$(cgroup_home)/$1/cgroup.procs"; }

# cgroup_processes: the numbers of all processes in ours and below.
cgroup_processes() {
  local home
  home=$(cgroup_home)
  [[ ! -d $home ]] || find "$home" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -un || true
}

# cgroup_kill: ends all processes, at once and for sure.
cgroup_kill() {
  local processes all=()
  for _ in {1..200}; do
    mapfile -t processes < <(cgroup_processes)
    [[ ${#processes[@]} -gt 0 ]] || break
    all+=("${processes[@]}")
    kill -KILL "${processes[@]}" 2>/dev/null || true
    sleep 0.05
  done
  # A process leaves its cgroup before it has let go of its mounts and its number.
  wait_for 10 all_gone "${all[@]}" || die "processes ${all[*]} do not end" "SIGKILL was sent 10 s ago: they hang in the kernel" \
    "see /proc/NUMBER/stack; a reboot ends them"
}

all_gone() {
  local process
  for process in "$@"; do
    ! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$process/status" || return 1
  done
}

# cgroup_remove: the empty cgroups.
cgroup_remove() {
  local root
  while read -r root; do
    [[ ! -d $root/$CGROUP ]] || wait_for 10 cgroup_remove_tree "$root/$CGROUP" ||
      die "the cgroup $root/$CGROUP cannot be removed" "something is in it: $(cgroup_processes | tr '\n' ' ')" \
        "end that and run dev/cluster down again"
  done < <(cgroup_roots)
}

cgroup_remove_tree() {
  find "$1" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  [[ ! -d $1 ]]
}

# cgroup_home: where membership is read from; cgroup_roots: all hierarchies.
cgroup_home() { if cgroup_is_v2; then echo "/sys/fs/cgroup/$CGROUP"; else echo "/sys/fs/cgroup/pids/$CGROUP"; fi; }

# Of version 1 also systemd's and version 2's hierarchies without controllers, which runc puts pods into as well.
cgroup_roots() { awk '$3 ~ /^cgroup2?$/ && $2 ~ /^\/sys\/fs\/cgroup/ {print $2}' /proc/mounts; }

cgroup_is_v2() { [[ -e /sys/fs/cgroup/cgroup.controllers ]]; }
