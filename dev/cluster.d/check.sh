# shellcheck shell=bash
# What a machine must have before anything is started, each with the next step when it has not.

# Debian packages, by the program that shows them. dev/setup cluster installs them.
declare -A PACKAGES=([runc]=runc [nft]=nftables [ip]=iproute2 [ss]=iproute2 [nsenter]=util-linux
  [unshare]=util-linux [mount]=mount [sysctl]=procps [openssl]=openssl [curl]=curl [python3]=python3
  [busybox]=busybox-static)

# shellcheck disable=SC2034 # build.sh's
BUILD_GIB=8     # Go's caches of an empty machine, and the programs
STATE_GIB=3     # images and logs of an idle cluster
MEMORY_MIB=1600 # an idle cluster takes about 750, with two nodes 1160

# check_machine: whether a cluster can run here at all.
check_machine() {
  check_root
  check_packages
  check_namespaces
  check_cgroups
  check_overlay
  check_memory
  mkdir -p "$(dirname "$STATE")"
  check_space "$(dirname "$STATE")" "$STATE_GIB" "GANTRY_CLUSTER_STATE"
}

# check_free: whether nothing else has our ports and networks.
check_free() {
  local port network
  for port in "$API_PORT" "$ETCD_PORT" "$ETCD_PEER_PORT" "$CONTROLLER_MANAGER_PORT" "$SCHEDULER_PORT"; do
    check_port "$port"
  done
  for network in "NODE $NODE_NETWORK" "POD $POD_NETWORK" "SERVICE $SERVICE_NETWORK"; do
    # shellcheck disable=SC2086 # two words
    check_network $network
  done
}

check_root() {
  [[ $EUID -eq 0 ]] || die "the cluster cannot be touched by user $(id -un)" \
    "namespaces, cgroups and links need root" \
    "sudo --preserve-env=HOME dev/cluster … (dev/cluster build needs no root)"
}

check_packages() {
  local program missing=()
  for program in "${!PACKAGES[@]}"; do
    command -v "$program" >/dev/null || [[ " ${missing[*]} " == *" ${PACKAGES[$program]} "* ]] ||
      missing+=("${PACKAGES[$program]}")
  done
  [[ ${#missing[@]} -eq 0 ]] || die "programs of these Debian packages are missing: ${missing[*]}" \
    "they are not installed, or not on the PATH ($PATH)" "dev/setup cluster"
}

check_namespaces() {
  local answer
  answer=$(unshare --mount --pid --net --uts --ipc --fork true 2>&1) || die "no namespaces can be made: $answer" \
    "this root has no CAP_SYS_ADMIN, as in an unprivileged container" "use a virtual machine or a privileged container"
}

check_cgroups() {
  local missing
  missing=$(cgroup_missing)
  [[ -z $missing ]] || die "these cgroup controllers are not mounted: $missing" \
    "the kubelet counts and limits pods by them" \
    "mount cgroup2 at /sys/fs/cgroup, or each version 1 controller at /sys/fs/cgroup/NAME"
}

check_overlay() {
  grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || die "the kernel has no overlayfs" \
    "containerd puts images together by it" "modprobe overlay, or use a kernel with CONFIG_OVERLAY_FS"
}

check_memory() {
  local free
  free=$(($(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024))
  ((free >= MEMORY_MIB)) || die "only $free MiB of memory are free, $MEMORY_MIB are needed" \
    "a control plane and a node run as processes here" "end what takes it (ps --sort=-rss -eo rss,args | head)"
}

# check_space FOLDER GIB VARIABLE: VARIABLE is what moves FOLDER elsewhere.
check_space() {
  local free
  free=$(($(df --output=avail --block-size=1M "$1" | tail -1) / 1024))
  ((free >= $2)) || die "only $free GiB are free under $1, $2 are needed" \
    "$(df --output=source,target "$1" | tail -1) is nearly full" "free some, or set $3 to a folder with more space"
}

check_port() {
  local taken
  taken=$(ss --no-header --listening --tcp --numeric --processes "sport = :$1")
  [[ -z $taken ]] || die "port $1 is taken" "by $(sed -n 's/.*users:((\(.*\))).*/\1/p' <<<"$taken")" \
    "end that process$([[ $1 != "$API_PORT" ]] || echo ", or set GANTRY_CLUSTER_API_PORT")"
}

# check_network NAME NETWORK: a route into it or over it (the default route aside) would be ours to break.
check_network() {
  local taken
  taken=$({
    ip -4 route show table all root "$2"
    ip -4 route show table all match "$2"
  } | awk '$1 != "default" && !seen++')
  [[ -z $taken ]] || die "the network $2 is in use on this machine" "a route is there: $taken" \
    "set GANTRY_CLUSTER_$1_PREFIX to one that is free (now ${2%%.0*})"
}
