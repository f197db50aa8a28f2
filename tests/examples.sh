#!/usr/bin/env bash
# examples.sh STACK: runs the examples as a user does, with a root and ports of their own, and looks for what they left.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
binary=$1
root=$(mktemp -d)
stack=("$binary" --root "$root")
say() { printf '\n== %s\n' "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

tidy() {
  for example in hello guestbook; do
    (cd "$here/examples/stacks/$example" && "${stack[@]}" down -v -t 1 >/dev/null 2>&1) || true
  done
  rm -rf "$root"
}
trap tidy EXIT

# A port nobody listens on now; below the range from which the kernel gives ports to clients.
free_port() {
  local port
  while :; do
    port=$((10000 + RANDOM % 20000))
    grep -qi "$(printf ':%04X .* 0A ' $port)" /proc/net/tcp /proc/net/tcp6 || break
  done
  echo $port
}

# Everything this root may leave in the kernel, one a line.
leftovers() {
  local instance
  instance=$(cat "$root/lib/instance")
  pgrep -af -- "--root $root" | sed 's/^/process /' || true
  grep -F "$root" /proc/self/mounts | sed 's/^/mount /' || true
  ip -br link | grep "^s${instance:0:4}" | sed 's/^/link /' || true
  nft list tables | grep -F "stack-$instance" | sed 's/^/nft /' || true
  find /sys/fs/cgroup -maxdepth 4 -name "stack-$instance" | sed 's/^/cgroup /'
}

nothing_left() {
  local tries=50
  while [ -n "$(leftovers)" ]; do
    # What the kernel takes apart in the background (links of a namespace) gets five seconds.
    [ $((tries--)) -gt 0 ] || fail "left behind after $1:"$'\n'"$(leftovers)"
    sleep 0.1
  done
  echo "nothing left after $1"
}

say "hello: examples/demo.sh"
HELLO_PORT=$(free_port) DEMO_ROOT=$root "$here/examples/demo.sh" "$binary" 2>&1 | tee "$root/demo"
[ "$(grep -c '^Hello from a container' "$root/demo")" = 2 ] || fail "the page was not shown twice"
nothing_left "the demo"

say "guestbook: base images, build"
"$here/examples/base-images.sh" "${stack[@]}"
cd "$here/examples/stacks/guestbook"
GUESTBOOK_PORT=$(free_port)
export GUESTBOOK_PORT
page=http://127.0.0.1:$GUESTBOOK_PORT/
"${stack[@]}" build >"$root/build" 2>&1 || { cat "$root/build"; fail "stack build"; }
grep -E '(Built|Error)' "$root/build"

say "guestbook: up, in order of health"
"${stack[@]}" up -d 2>&1 | tee "$root/up"
line() { grep -n -m 1 -F " Container guestbook-$1" "$root/up" | cut -d : -f 1; }
for service in db cache; do
  [ "$(line "$service-1  Healthy")" -lt "$(line 'web-1  Starting')" ] || fail "web started before $service was healthy"
done
"${stack[@]}" up -d --wait
"${stack[@]}" ps

say "guestbook: an entry outlives down and up"
curl -sS --fail --max-time 20 --data-urlencode 'entry=written <before> down' "$page"
curl -sS --fail --max-time 20 "$page" | grep -F 'written &lt;before&gt; down'
"${stack[@]}" down
nothing_left "down"
"${stack[@]}" up -d --wait
curl -sS --fail --max-time 20 "$page" | grep -F 'written &lt;before&gt; down'

say "guestbook: down -v removes it"
"${stack[@]}" down -v
nothing_left "down -v"
[ -z "$(ls "$root/lib/volumes")" ] || fail "volumes left: $(ls "$root/lib/volumes")"
