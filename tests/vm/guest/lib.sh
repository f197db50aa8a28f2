#!/usr/bin/env bash
# What the cases have in common; sourced. Each case has a directory of its own and leaves nothing running.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
root=$work/root
cd "$work"

stack() { timeout -k 5 100 "$top/stack" --root "$root" "$@"; }

fail() {
  printf 'failed: %s\n' "$*" >&2
  exit 1
}

# Shown by the host though the case passes.
note() { printf 'note: %s\n' "$*"; }

# equal WHAT FOUND EXPECTED
equal() { [ "$2" = "$3" ] || fail "$1 is"$'\n'"$2"$'\n'"and should be"$'\n'"$3"; }

# until SECONDS COMMAND…: waits until a command succeeds.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "still not true: $*"
    sleep 0.1
  done
}

# The images that compose files here start from: only busybox, without a network.
import_busybox() { IMAGES=busybox:latest "$top/examples/base-images.sh" "$top/stack" --root "${1:-$root}"; }

# The container's record of a service: its init's pid, cgroup directory, live state.
init_of() { sed -n 's/.*"init":{"pid":\([0-9]*\).*/\1/p' "$root"/run/c/*/live.json; }

# What this root left in the kernel, one a line.
leftovers() {
  local instance
  instance=$(cat "$root/lib/instance")
  pgrep -af -- "--root $root" | sed 's/^/process /' || true
  grep -F "$root" /proc/self/mounts | sed 's/^/mount /' || true
  ip -br link | grep "^s${instance:0:4}" | sed 's/^/link /' || true
  nft list tables | grep -F "stack-$instance" | sed 's/^/nft /' || true
  find /sys/fs/cgroup -maxdepth 2 -name "stack-$instance" | sed 's/^/cgroup /'
}
is_clean() { [ -z "$(leftovers)" ]; }

down() {
  stack down -v -t 1
  until_true 20 is_clean || fail "left behind: $(leftovers)"
}
