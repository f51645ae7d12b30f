# shellcheck shell=bash
# One authority, ECDSA certificates and kubeconfigs, new for every cluster; nothing of them outlives it.

PKI=$STATE/pki

certificates_make() {
  mkdir -p "$PKI"
  openssl req -x509 -days 3650 -subj "/CN=gantry-cluster" "${NEW_KEY[@]}" \
    -keyout "$PKI/ca.key" -out "$PKI/ca.crt" 2>/dev/null
  openssl ecparam -genkey -noout -name prime256v1 -out "$PKI/service-accounts.key"
  openssl ec -in "$PKI/service-accounts.key" -pubout -out "$PKI/service-accounts.pub" 2>/dev/null

  local names=DNS:localhost name
  for name in kubernetes{,.default,.default.svc,.default.svc.cluster.local}; do names+=,DNS:$name; done
  certificate apiserver /CN=kube-apiserver "$names,IP:127.0.0.1,IP:$HOST_IP,IP:$API_SERVICE_IP"
  certificate apiserver-to-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate front-proxy /CN=front-proxy-client
  local user
  for user in admin:/O=system:masters/CN=admin controller-manager:/CN=system:kube-controller-manager \
    scheduler:/CN=system:kube-scheduler proxy:/CN=system:kube-proxy; do
    certificate "${user%%:*}" "${user#*:}"
    kubeconfig "${user%%:*}" >"$STATE/${user%%:*}.kubeconfig"
  done
}

NEW_KEY=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)

# certificate NAME SUBJECT [ALTERNATIVE-NAMES]: NAME.crt and NAME.key, for server and client.
certificate() {
  local names=${3:+subjectAltName=$3}
  openssl req -new -subj "$2" "${NEW_KEY[@]}" -keyout "$PKI/$1.key" 2>/dev/null |
    openssl x509 -req -days 3650 -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -CAcreateserial -out "$PKI/$1.crt" \
      -extfile <(printf '%s\n' basicConstraints=CA:FALSE keyUsage=digitalSignature,keyEncipherment \
        extendedKeyUsage=serverAuth,clientAuth "$names") 2>/dev/null
}

# kubeconfig NAME: with everything inside, so that the file works from anywhere.
kubeconfig() {
  cat <<END
apiVersion: v1
kind: Config
clusters:
- {name: gantry, cluster: {server: "$API_URL", certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")}}
users:
- {name: $1, user: {client-certificate-data: $(base64 -w0 "$PKI/$1.crt"), client-key-data: $(base64 -w0 "$PKI/$1.key")}}
contexts:
- {name: gantry, context: {cluster: gantry, user: $1}}
current-context: gantry
END
}
