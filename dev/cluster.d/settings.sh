# shellcheck shell=bash
# Where the cluster stands: paths, addresses, ports, names. All other parts read them from here.
# shellcheck disable=SC2034 # used by the other parts

# What is built, and the logs of failed starts: kept between runs, outside of any checkout.
CACHE="$GANTRY_CACHE/cluster"
# All that one running cluster writes. On a disk: claims and images live here.
STATE="${GANTRY_CLUSTER_STATE:-/var/lib/gantry-cluster}"

# Three private networks; change one when `up` says that it is taken.
NODE_PREFIX="${GANTRY_CLUSTER_NODE_PREFIX:-10.99.0}"      # a /24: .1 is this machine, .11 node1, .12 node2 …
POD_PREFIX="${GANTRY_CLUSTER_POD_PREFIX:-10.244}"         # a /16: a /24 for each node
SERVICE_PREFIX="${GANTRY_CLUSTER_SERVICE_PREFIX:-10.96}"  # a /16

HOST_IP=$NODE_PREFIX.1
NODE_NETWORK=$NODE_PREFIX.0/24
POD_NETWORK=$POD_PREFIX.0.0/16
SERVICE_NETWORK=$SERVICE_PREFIX.0.0/16
API_SERVICE_IP=$SERVICE_PREFIX.0.1
DNS_IP=$SERVICE_PREFIX.0.10

API_PORT="${GANTRY_CLUSTER_API_PORT:-16443}"
API_URL=https://$HOST_IP:$API_PORT
ETCD_PORT=12379
ETCD_PEER_PORT=12380
CONTROLLER_MANAGER_PORT=10257
SCHEDULER_PORT=10259

# Names that `down` looks for, whatever happened before.
BRIDGE=gantry0
NODE_LINK=gantry-n   # and the node's number
CGROUP=gantry-cluster

# Beside Kubernetes' defaults: image volumes, which `gantry models` can use.
FEATURES=(ImageVolume=true)

# The kubelet sets these for the whole machine; `down` puts the old values back.
KUBELET_SYSCTLS=(kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes
  vm.overcommit_memory vm.panic_on_oom)
