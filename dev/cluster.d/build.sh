# shellcheck shell=bash
# Programs and images: built when missing or when what they are made of changed, kept in $CACHE.
# One stamp each holds the digest of the sources; a build that is killed leaves no stamp.

PROGRAMS=$CACHE/bin
IMAGES=$CACHE/images

cluster_build() {
  take_turns
  mkdir -p "$CACHE/log"
  build_once programs "$(programs_key)" build_programs
  build_once images "$(images_key)" build_images
}

# build_once NAME KEY COMMAND: runs COMMAND unless NAME's stamp holds KEY; its output goes to a log.
build_once() {
  local name=$1 key=$2 stamp=$CACHE/$1.stamp log=$CACHE/log/build-$1.log code
  shift 2
  [[ ! -e $stamp || $(<"$stamp") != "$key" ]] || return 0
  rm -f "$stamp"
  say "building the $name (once; $log) …"
  # A subshell with its own -e, outside of `if`: else bash would run on after a failure in it.
  set +e
  trap - ERR
  (
    set -e
    "$@"
  ) >"$log" 2>&1
  code=$?
  set -e
  trap unforeseen ERR
  [[ $code -eq 0 ]] || die "the $name could not be built" "$(grep -v '^time: ' "$log" | tail -n 3)" "read $log, mend it, and run the same again"
  echo "$key" >"$stamp"
  took "$name built$(sed -n 's/^time: /: /p' "$log")"
}

# --- programs ---------------------------------------------------------------------------------

PROGRAM_FLAGS=(-trimpath -buildvcs=false -mod=readonly "-tags=no_btrfs no_devmapper no_zfs")

programs_key() {
  local file
  {
    for file in "$PARTS"/programs/go.{mod,sum} "$PARTS"/programs/coredns/main.go; do sha256sum <"$file"; done
    declare -f version_flags
    echo "${PROGRAM_FLAGS[@]}"
    # A missing program makes the key a new one.
    [[ -x $PROGRAMS/kubelet && -x $PROGRAMS/coredns && -x $PROGRAMS/cni/ptp ]] || date +%s%N
  } | sha256sum
}

build_programs() {
  command -v go >/dev/null || die "there is no Go to build the cluster's programs with" "go is not on the PATH" "dev/setup cluster"
  check_space "$CACHE" "$BUILD_GIB" GANTRY_CACHE
  local fresh=$PROGRAMS.fresh plugin
  rm -rf "$fresh"
  mkdir -p "$fresh/cni"
  cd "$PARTS/programs"
  local storage=github.com/rancher/local-path-provisioner tools
  mapfile -t tools < <(awk '/^tool \(/, /^\)/ {if (NF == 1 && $1 != ")") print $1}' go.mod | grep -vx "$storage")
  # Other people's work goes first on a shared machine; GOFLAGS=-p=1 halves the load further.
  go_build() { CGO_ENABLED=0 nice -n 19 go build "${PROGRAM_FLAGS[@]}" -ldflags "$(version_flags)" -o "$fresh/" "$@"; }
  local TIMEFORMAT='time: %U s in programs, %S s in the kernel, %R s by the clock'
  # The second apart: it spells logrus with a capital, etcd without, which Go refuses in one command.
  # (bash ignores -e in what it times.)
  time { go_build "${tools[@]}" ./coredns && go_build "$storage"; } || exit 1
  mv "$fresh/server" "$fresh/etcd"
  for plugin in host-local loopback portmap ptp; do mv "$fresh/$plugin" "$fresh/cni/"; done
  rm -rf "$PROGRAMS"
  mv "$fresh" "$PROGRAMS"
}

# version_flags: -ldflags; programs that lack a symbol ignore it.
version_flags() {
  local kubernetes minor package flags='-s -w'
  kubernetes=$(pinned k8s.io/kubernetes)
  minor=${kubernetes#v1.}
  minor=${minor%.*}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=$minor"
    flags+=" -X $package.gitTreeState=clean"
  done
  flags+=" -X github.com/containerd/containerd/v2/version.Version=$(pinned github.com/containerd/containerd/v2)"
  flags+=" -X github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=$(pinned github.com/containernetworking/plugins)"
  echo "$flags"
}

# pinned MODULE: its version in go.mod.
pinned() { awk -v module="$1" '$1 == module {print $2; exit}' "$PARTS/programs/go.mod"; }

# --- images -----------------------------------------------------------------------------------

# The cluster's own images; .internal is reserved for private use, no registry will ever answer.
IMAGE_PREFIX=gantry.internal

images_key() {
  {
    sha256sum <"$PARTS/image.py"
    declare -f build_images
    cat "$CACHE/programs.stamp"
    sha256sum <"$(command -v busybox)"
    [[ -e $IMAGES/pause.tar && -e $IMAGES/coredns.tar ]] || date +%s%N
  } | sha256sum
}

build_images() {
  local fresh=$IMAGES.fresh busybox etc applet links=()
  rm -rf "$fresh"
  mkdir -p "$fresh"
  busybox=$(command -v busybox)
  etc=$fresh/etc
  mkdir "$etc"
  echo 'root:x:0:0:root:/:/bin/sh' >"$etc/passwd"
  echo 'root:x:0:' >"$etc/group"
  echo 'hosts: files dns' >"$etc/nsswitch.conf"
  for applet in $("$busybox" --list); do
    [[ $applet == busybox ]] || links+=("bin/$applet->busybox")
  done
  image() { python3 "$PARTS/image.py" "$fresh/$1.tar" "$IMAGE_PREFIX/$1:1" "${@:2}"; }
  # What a sandbox sleeps in. Busybox acts on the name it is called by: the file must have it.
  image pause --entrypoint=/bin/busybox,sleep,2147483647 "bin/busybox=$busybox"
  image busybox --env=PATH=/bin "bin/busybox=$busybox" "${links[@]}" "etc/passwd=$etc/passwd" \
    "etc/group=$etc/group" "etc/nsswitch.conf=$etc/nsswitch.conf" tmp/
  image coredns --entrypoint=/coredns "coredns=$PROGRAMS/coredns"
  image local-path-provisioner --entrypoint=/local-path-provisioner \
    "local-path-provisioner=$PROGRAMS/local-path-provisioner"
  rm -rf "$etc" "$IMAGES"
  mv "$fresh" "$IMAGES"
}
