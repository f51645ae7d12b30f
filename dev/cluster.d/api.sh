# shellcheck shell=bash
# The Kubernetes API by curl and the admin's certificate; no kubectl is built.

# api PATH [CURL ARGUMENT…]: the answer on stdout; fails on a status of 400 and above.
api() {
  curl --silent --show-error --fail-with-body --noproxy '*' --max-time 20 \
    --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" "$API_URL$1" "${@:2}"
}

# api_says EXPRESSION PATH: whether the Python EXPRESSION over `o`, the object at PATH, is true.
api_says() {
  api "$2" 2>/dev/null | python3 -c 'import json, sys; o = json.load(sys.stdin); sys.exit(not ('"$1"'))' 2>/dev/null
}

# api_apply FILE: every object of a manifest, by server-side apply. The comment above each object is
# its address; @NAME@ stands for a setting.
api_apply() {
  local text object address answer
  text=$(sed -e "s/@DNS_IP@/$DNS_IP/g" -e "s/@IMAGE_PREFIX@/$IMAGE_PREFIX/g" "$1")
  while IFS= read -r -d '' object; do
    address=$(sed -n 's/^# \(\/.*\)/\1/p' <<<"$object" | head -1)
    [[ -n $address ]] || continue
    answer=$(api "$address?fieldManager=dev-cluster&force=true" -X PATCH \
      -H 'Content-Type: application/apply-patch+yaml' --data-binary @- <<<"$object") ||
      die "$address of $1 cannot be applied" "$answer" "mend the manifest"
  done < <(awk 'BEGIN {RS = "\n---\n"; ORS = "\0"} {print}' <<<"$text")
}
