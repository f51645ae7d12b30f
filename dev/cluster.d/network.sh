# shellcheck shell=bash
# The bridge between this machine and the nodes, and what the kernel is set to: all that the cluster
# changes outside of its own namespaces, and how it is put back.

network_up() {
  ip link add "$BRIDGE" type bridge
  ip address add "$HOST_IP/24" dev "$BRIDGE"
  # Nodes have a default route to us, so that a pod's attempt to get out is seen; it ends here.
  sysctl -qw "net.ipv4.conf.$BRIDGE.forwarding=0"
  ip link set "$BRIDGE" up
}

# network_node INDEX PROCESS: a cable to the node whose network namespace PROCESS is in, and routes to its pods.
network_node() {
  local index=$1 link=$NODE_LINK$1 address other
  address=$(node_address "$index")
  ip link add "$link" type veth peer name eth0 netns "$2"
  ip link set "$link" master "$BRIDGE" up
  ip route add "$POD_PREFIX.$index.0/24" via "$address" dev "$BRIDGE"
  # Services too, so that the apiserver and tests here reach them, through node1's kube-proxy.
  [[ $index != 1 ]] || ip route add "$SERVICE_NETWORK" via "$address" dev "$BRIDGE"

  inside() { nsenter --target "$1" --net "${@:2}"; }
  inside "$2" ip link set lo up
  inside "$2" ip address add "$address/24" dev eth0
  inside "$2" ip link set eth0 up
  for other in {1..4}; do
    [[ $other == "$index" ]] || inside "$2" ip route add "$POD_PREFIX.$other.0/24" via "$(node_address "$other")"
  done
  inside "$2" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1
  # The last step: node-init waits for it.
  inside "$2" ip route add default via "$HOST_IP"
}

# network_down: links take their addresses and routes with them.
network_down() {
  local link
  for link in $(ip -o link show | awk -F'[ :@]+' -v bridge="$BRIDGE" -v node="^${NODE_LINK}[0-9]+$" \
    '$2 == bridge || $2 ~ node {print $2}'); do
    # A node's end goes by itself when its namespace dies, perhaps before us.
    ip link delete "$link" 2>/dev/null || true
  done
  [[ ! -e /sys/class/net/$BRIDGE ]] || die "the link $BRIDGE cannot be removed" "$(ip link delete "$BRIDGE" 2>&1 || true)" \
    "ip link delete $BRIDGE"
}

# kernel_save, kernel_restore: the settings that a kubelet changes machine-wide.
kernel_save() { sysctl "${KUBELET_SYSCTLS[@]}" | tr -d ' ' >"$STATE/sysctl"; }

kernel_restore() {
  [[ -s $STATE/sysctl ]] || return 0
  local settings
  mapfile -t settings <"$STATE/sysctl"
  sysctl -qw "${settings[@]}"
}
