#!/bin/sh
# demo.sh STACK: brings examples/stacks/hello up, shows its page from the host and from the other container, and takes
# it down again. With DEMO_ROOT, everything is kept beneath that directory.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
stack=$1
port=${HELLO_PORT:-8080}
if [ -n "${DEMO_ROOT:-}" ]; then set -- "$stack" --root "$DEMO_ROOT"; else set -- "$stack"; fi
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say "$@"; "$@"; }

cd "$here/stacks/hello"
IMAGES=busybox:latest "$here/base-images.sh" "$@"
trap '"$@" down >/dev/null 2>&1 || true' EXIT
run "$@" up -d
run "$@" ps
say "the page, fetched from the host: http://127.0.0.1:$port/"
if command -v curl >/dev/null; then curl -sS --fail --max-time 10 "http://127.0.0.1:$port/"
else wget -q -T 10 -O - "http://127.0.0.1:$port/"; fi
say "the page, fetched by the other container as http://page/"
"$@" exec -T reader wget -q -O - http://page/
run "$@" down
trap - EXIT
