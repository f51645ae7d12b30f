# shellcheck shell=bash
# Long-running processes: started in the cluster's cgroup with a log each, watched while we wait.

LOGS=$STATE/log
PIDS=$STATE/pid

# start NAME CGROUP COMMAND…: nothing of our environment (proxies!), terminal or lock goes along.
start() {
  local name=$1 cgroup=$2
  shift 2
  (
    cgroup_enter "$cgroup"
    exec setsid env -i PATH="$PROGRAMS:$PATH" HOME=/root LC_ALL=C.UTF-8 "$@" </dev/null >>"$LOGS/$name.log" 2>&1 9>&-
  ) &
  echo $! >"$PIDS/$name"
  disown $! 2>/dev/null || true
  wait_for 10 runs "$name" || die "$name did not start" "it is not in the cgroup $cgroup" "read $name.log of the kept logs"
}

# runs NAME: whether the process that we started under that name is there; a pid alone may be another's by now.
runs() { [[ -e $PIDS/$1 ]] && cgroup_processes | grep -x "$(<"$PIDS/$1")" >/dev/null; }

# all_run: whether there is a cluster with every process of it.
all_run() {
  local file any=no
  for file in "$PIDS"/*; do
    [[ -e $file ]] || continue
    runs "${file##*/}" || return 1
    any=yes
  done
  [[ $any == yes && -e $STATE/complete ]]
}

# wait_up SECONDS NAME COMMAND…: until COMMAND succeeds; tells when process NAME ends or the time is over.
wait_up() {
  local name=$2 code=0
  wait_for "$1" ended_or "$name" "${@:3}" || code=$?
  runs "$name" || die "$name ended while it started" "$(last_words "$name")" "read $name.log of the kept logs"
  [[ $code -eq 0 ]] || die "$name is not ready after $1 s" "$(last_words "$name")" "read $name.log of the kept logs"
}

ended_or() {
  runs "$1" || return 0
  "${@:2}" >/dev/null 2>&1
}

last_words() { tail -n 3 "$LOGS/$1.log" 2>/dev/null || true; }
