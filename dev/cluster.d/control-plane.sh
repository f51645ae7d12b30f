# shellcheck shell=bash
# etcd, kube-apiserver, kube-controller-manager and kube-scheduler as plain processes of this machine,
# so that the apiserver reaches webhooks of a test program, and the test program every pod.

control_plane_start() {
  cgroup_make control-plane
  start etcd control-plane etcd "${ETCD[@]}"
  start apiserver control-plane kube-apiserver "${APISERVER[@]}"
  # The other two end when they come before the apiserver has made their rights.
  wait_up 60 apiserver api /readyz
  start controller-manager control-plane kube-controller-manager "${CONTROLLER_MANAGER[@]}"
  start scheduler control-plane kube-scheduler "${SCHEDULER[@]}"
  wait_up 30 controller-manager healthy "$CONTROLLER_MANAGER_PORT/healthz"
  wait_up 30 scheduler healthy "$SCHEDULER_PORT/readyz"
}

healthy() { curl --silent --fail --insecure --noproxy '*' --max-time 5 "https://127.0.0.1:$1"; }

gates() { (IFS=, && echo "${FEATURES[*]}"); }

ETCD=(
  --name=gantry --data-dir="$STATE/etcd" --log-level=warn
  --listen-client-urls="http://127.0.0.1:$ETCD_PORT" --advertise-client-urls="http://127.0.0.1:$ETCD_PORT"
  --listen-peer-urls="http://127.0.0.1:$ETCD_PEER_PORT" --initial-advertise-peer-urls="http://127.0.0.1:$ETCD_PEER_PORT"
  --initial-cluster="gantry=http://127.0.0.1:$ETCD_PEER_PORT"
  # Nothing here is to outlive the power.
  --unsafe-no-fsync
)

# shellcheck disable=SC2054 # a list in a flag
APISERVER=(
  --etcd-servers="http://127.0.0.1:$ETCD_PORT"
  --bind-address="$HOST_IP" --advertise-address="$HOST_IP" --secure-port="$API_PORT"
  --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" --client-ca-file="$PKI/ca.crt"
  --kubelet-client-certificate="$PKI/apiserver-to-kubelet.crt" --kubelet-client-key="$PKI/apiserver-to-kubelet.key"
  --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP
  --requestheader-client-ca-file="$PKI/ca.crt" --requestheader-allowed-names=front-proxy-client
  --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group
  --requestheader-extra-headers-prefix=X-Remote-Extra-
  --proxy-client-cert-file="$PKI/front-proxy.crt" --proxy-client-key-file="$PKI/front-proxy.key"
  --enable-aggregator-routing=true
  --service-account-issuer=https://kubernetes.default.svc.cluster.local
  --service-account-key-file="$PKI/service-accounts.pub" --service-account-signing-key-file="$PKI/service-accounts.key"
  --service-cluster-ip-range="$SERVICE_NETWORK"
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true
  --feature-gates="$(gates)" --endpoint-reconciler-type=lease --profiling=false --v=1
)

CONTROLLER_MANAGER=(
  --kubeconfig="$STATE/controller-manager.kubeconfig"
  --authentication-kubeconfig="$STATE/controller-manager.kubeconfig"
  --authorization-kubeconfig="$STATE/controller-manager.kubeconfig"
  --bind-address=127.0.0.1 --secure-port="$CONTROLLER_MANAGER_PORT" --leader-elect=false
  --use-service-account-credentials=true --service-account-private-key-file="$PKI/service-accounts.key"
  --root-ca-file="$PKI/ca.crt" --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key"
  --cluster-cidr="$POD_NETWORK" --allocate-node-cidrs=false --service-cluster-ip-range="$SERVICE_NETWORK"
  --feature-gates="$(gates)" --profiling=false --v=1
)

SCHEDULER=(
  --kubeconfig="$STATE/scheduler.kubeconfig"
  --authentication-kubeconfig="$STATE/scheduler.kubeconfig"
  --authorization-kubeconfig="$STATE/scheduler.kubeconfig"
  --bind-address=127.0.0.1 --secure-port="$SCHEDULER_PORT" --leader-elect=false
  --feature-gates="$(gates)" --profiling=false --v=1
)
