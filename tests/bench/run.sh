#!/usr/bin/env bash
# bench/run.sh STACK: the budget table of the design. With PEER="… docker compose" the same work is measured there, in
# turns with ours, and the last column is the ratio of the minima. RUNS says how many times (3).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
binary=$1
peer=${PEER:-}
runs=${RUNS:-3}
# /tmp, because the peers of a development machine see nothing else of it.
work=$(mktemp -d /tmp/stack-bench.XXXXXX)
# As installed: what is kept on the disk, live state in memory, as /run is (where it is not, /dev/shm). The peer's daemons
# do the same.
export STACK_ROOT=$work/root
memory=/run
[ "$(stat -f -c %T /run)" = tmpfs ] || memory=/dev/shm
STACK_RUN=$(mktemp -d "$memory/stack-bench.XXXXXX")
export STACK_RUN
stack() { "$binary" "$@"; }
cleanup() {
  cd /
  for project in "$work"/*/compose.yaml; do
    (cd "$(dirname "$project")" && stack down -v -t 0 >/dev/null 2>&1) || true
    [ -z "$peer" ] || $peer -f "$project" down -v -t 0 >/dev/null 2>&1 || true
  done
  [ -z "${registry_pid:-}" ] || kill "$registry_pid" 2>/dev/null || true
  rm -rf "$work" "$STACK_RUN"
}
trap cleanup EXIT

services() { # DIRECTORY COUNT
  mkdir -p "$work/$1"
  { echo services:; for i in $(seq "$2"); do
      printf '  s%03d:\n    image: busybox\n    command: sleep infinity\n    init: true\n' "$i"; done
  } > "$work/$1/compose.yaml"
}
now() { date +%s%N; }
# once COMMAND...: milliseconds, with two decimals
once() {
  local start end
  start=$(now); "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2; return 1; }; end=$(now)
  awk -v ns=$((end - start)) 'BEGIN { printf "%.2f\n", ns / 1e6 }'
}
minimum() { sort -n | head -n 1; }
row() { # NAME BUDGET OURS THEIRS
  if [ -n "${4:-}" ]; then
    awk -v n="$1" -v b="$2" -v o="$3" -v t="$4" 'BEGIN { printf "%-52s %10.1f ms %10.1f ms  1/%-6.1f %s\n", n, o, t, t / o, b }'
  else
    printf '%-52s %10.1f ms %10s     %-8s %s\n' "$1" "$3" - - "$2"
  fi
}
# measure NAME BUDGET PREPARE WORK: functions that take `ours` or `theirs`
measure() {
  local ours=() theirs=() i
  for i in $(seq "$runs"); do
    $3 ours; ours+=("$(once "$4" ours)")
    [ -z "$peer" ] || { $3 theirs; theirs+=("$(once "$4" theirs)"); }
  done
  last=$(printf '%s\n' "${ours[@]}" | minimum)
  row "$1" "$2" "$last" "$([ -z "$peer" ] || printf '%s\n' "${theirs[@]}" | minimum)"
}
compose() { # SIDE ARGS...: in the project directory $project
  local side=$1; shift
  if [ "$side" = ours ]; then (cd "$work/$project" && stack "$@"); else $peer -f "$work/$project/compose.yaml" "$@"; fi
}
quiet() { "$@" >/dev/null 2>&1; }
down() { quiet compose "$1" down -t 0; }
up() { compose "$1" up -d; }
running() { quiet compose "$1" up -d; }
nothing() { :; }

services one 1; services fifty 50; services many 200
IMAGES=busybox:latest "$top/examples/base-images.sh" "$binary"
echo
printf '%-52s %13s %13s  %-8s %s\n' work stack "${peer:+peer}" ratio budget
project=one;   measure 'up -d, 1 service' '<= 1/10' down up; down ours; [ -z "$peer" ] || down theirs
project=fifty; measure 'up -d, 50 services' '<= 1/15' down up; fifty=$last
measure 'up -d with nothing to do, 50 services' '<= 1/5' running up

# What each running container costs beyond its own processes: the monitor and its child, proportionally shared.
memory=0; count=0
for pid in $(pgrep -f "monitor .*--root $STACK_ROOT" || true) ; do
  kb=$(awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup" 2>/dev/null || echo 0)
  memory=$((memory + kb)); count=$((count + 1))
done
containers=$(cd "$work/fifty" && stack ps -q | wc -l)
measure 'down -t 0, 50 services' '<= 1/10' running down
project=many;  RUNS=2; measured_runs=$runs; runs=2; saved=$peer; peer=
measure 'up -d, 200 services' '<= 4.2 x the time of 50' down up
awk -v a="$last" -v b="$fifty" 'BEGIN { printf "%-52s %10.2f x\n", "  200 services against 50", a / b }'
down ours; peer=$saved; runs=$measured_runs
awk -v kb="$memory" -v n="$containers" -v p="$count" \
  'BEGIN { printf "%-52s %10.2f MB                          <= 2 MB (%d processes for %d containers)\n", "memory for each running container (PSS)", kb / 1024 / (n ? n : 1), p, n }'

# shellcheck source=tests/bench/build.sh
. "$here/build.sh"
# shellcheck source=tests/bench/pull.sh
. "$here/pull.sh"
# shellcheck source=tests/bench/load.sh
. "$here/load.sh"
