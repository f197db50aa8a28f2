#!/usr/bin/env bash
# What the cases have in common; sourced. Each case has a root and a directory of its own and leaves nothing running.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d /var/tmp/case.XXXXXX)
root=$work/root
cd "$work"

# With an empty root: the one that is installed, with the machine's own.
stack() {
  if [ -n "$root" ]; then timeout -k 5 200 "$top/stack" --root "$root" "$@"; else timeout -k 5 200 /usr/local/bin/stack "$@"; fi
}

fail() {
  printf 'failed: %s\n' "$*" >&2
  exit 1
}

# Shown by the host though the case passes.
note() { printf 'note: %s\n' "$*"; }

# equal WHAT FOUND EXPECTED
equal() { [ "$2" = "$3" ] || fail "$1 is"$'\n'"$2"$'\n'"and should be"$'\n'"$3"; }

# until_true SECONDS COMMAND…: waits until a command succeeds.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "still not true: $*"
    sleep 0.1
  done
}

# The image that the compose files here start from; its archive is made once.
import_busybox() {
  local tree=/var/tmp/busybox
  if [ ! -e "$tree.tar" ]; then
    mkdir -p "$tree/bin" "$tree/tmp"
    cp /bin/busybox "$tree/bin/"
    chroot "$tree" /bin/busybox --install -s /bin
    tar -C "$tree" -cf "$tree.tar" .
  fi
  stack image import --change 'CMD ["sh"]' --change 'ENV PATH=/bin' "$tree.tar" busybox:latest
}

# A project of what standard input says, in $work/p, brought up.
project() {
  import_busybox
  mkdir -p "$work/p"
  cd "$work/p"
  cat >compose.yaml
  stack up -d
}

# group SERVICE: the cgroup of its container.
group() {
  local id
  id=$(stack ps -a -q --no-trunc "$1")
  printf '/sys/fs/cgroup/stack-%s/%s\n' "$(cat "$root/lib/instance")" "$id"
}

# is_state SERVICE STATE EXIT-CODE: whether `ps` shows it so.
is_state() { stack ps -a --format json "$1" | grep "\"ExitCode\":$3,.*\"State\":\"$2\""; }

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

down() {
  local deadline=$((SECONDS + 20))
  stack down -v -t 1
  while [ -n "$(leftovers)" ]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "left behind: $(leftovers)"
    sleep 0.1
  done
}
