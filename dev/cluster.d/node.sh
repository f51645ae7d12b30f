# shellcheck shell=bash
# A node: containerd, kubelet and kube-proxy in mount, pid, network, uts and ipc namespaces of their own
# and under a root of their own, with this machine's /usr read-only. So a pod's hostPath, image or
# sysctl stays in $STATE/nodes/NAME, and one SIGKILL ends the node with all in it.

NODES=$STATE/nodes
# One folder in all nodes, /srv/shared there: what claims that many pods write to are made of.
SHARED=$STATE/shared

# node_start INDEX: lays its root out, starts it, connects it. It becomes Ready later.
node_start() {
  local name=node$1 root process
  root=$(node_root "$name")
  certificate "$name" "/O=system:nodes/CN=system:node:$name" "DNS:$name,IP:$(node_address "$1"),IP:127.0.0.1"
  node_lay_out "$1" "$root"
  cgroup_make "$name/system"
  # Killing unshare kills the first process of the pid namespace, and that all others in it.
  start "$name" "$name/system" unshare --mount --pid --net --uts --ipc --fork --kill-child=KILL \
    "$PARTS/node-init" "$root" "$name" "$(node_address "$1")" "$PROGRAMS" "$IMAGES" "$SHARED"
  wait_up 10 "$name" node_process "$name"
  process=$(node_process "$name")
  network_node "$1" "$process"
  start "network-policy-$name" "$name/system" "$PARTS/network-policy.py" "$API_URL" "$PKI" "$name" "$process"
}

# node_lay_out INDEX ROOT: the files that node-init and the programs in it read, where kubeadm has them.
node_lay_out() {
  local name=node$1 root=$2
  mkdir -p "$root"/{etc/cni/net.d,etc/containerd/certs.d,etc/kubernetes,var/lib/kubelet,var/log,opt/cni/bin,srv/shared}
  mkdir -p "$SHARED" "$root"/{tmp,var/tmp}
  chmod 1777 "$root"/{tmp,var/tmp}
  install -m 600 "$PKI/ca.crt" "$PKI/$name.crt" "$PKI/$name.key" "$root/etc/kubernetes/"
  kubeconfig "$name" >"$root/etc/kubernetes/kubelet.kubeconfig"
  kubeconfig proxy >"$root/etc/kubernetes/proxy.kubeconfig"
  echo "$name" >"$root/etc/hostname"
  printf '127.0.0.1 localhost\n%s %s\n' "$(node_address "$1")" "$name" >"$root/etc/hosts"
  : >"$root/etc/resolv.conf" # no DNS leads out
  node_cni "$1" >"$root/etc/cni/net.d/10-pods.conflist"
  node_containerd >"$root/etc/containerd/config.toml"
  node_kubelet "$name" >"$root/etc/kubernetes/kubelet.yaml"
  node_proxy "$name" >"$root/etc/kubernetes/proxy.yaml"
}

node_cni() {
  cat <<END
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_PREFIX.$1.0/24"}]],
    "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}]}
END
}

# restrict_oom_score_adj: a root without CAP_SYS_RESOURCE may not lower a score, and no sandbox would start.
node_containerd() {
  cat <<END
version = 3
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "$IMAGE_PREFIX/pause:1"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "/etc/containerd/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
END
}

node_kubelet() {
  cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: /etc/kubernetes/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: /etc/kubernetes/$1.crt
tlsPrivateKeyFile: /etc/kubernetes/$1.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP/$1
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
clusterDomain: cluster.local
clusterDNS: [$DNS_IP]
resolvConf: /etc/resolv.conf
featureGates: {$(gates | sed 's/=/: /g')}
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
imageGCHighThresholdPercent: 100
syncFrequency: 10s
nodeStatusUpdateFrequency: 5s
END
}

# conntrack: its limits are the whole machine's, and stay as they are.
node_proxy() {
  cat <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $1
clusterCIDR: $POD_NETWORK
clientConnection: {kubeconfig: /etc/kubernetes/proxy.kubeconfig}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
}

# node_enter NAME COMMAND…: runs COMMAND in the node, as one of its processes.
node_enter() {
  local name=$1 process
  shift
  process=$(node_process "$name")
  (
    cgroup_enter "$name/system"
    exec nsenter --target "$process" --mount --pid --net --uts --ipc --wdns=/ env -i PATH="$NODE_PATH" HOME=/root "$@" 9>&-
  )
}

NODE_PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin

# node_process NAME: the first process of its namespaces, as seen from here; fails before it is born.
node_process() { pgrep --parent "$(<"$PIDS/$1")"; }

node_names() { (cd "$NODES" 2>/dev/null && ls) || true; }

node_root() { echo "$NODES/$1/root"; }

# node_address INDEX
node_address() { echo "$NODE_PREFIX.$((10 + $1))"; }
