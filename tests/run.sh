#!/usr/bin/env bash
# Every test: `make test` calls this after it has built target/release/stack. Needs root for the kernel's part.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null
export INSTA_UPDATE=no # a test that wants another snapshot fails and writes nothing
step() { printf '\n==== %s (%s s)\n' "$*" "$SECONDS"; }

[ "$(id -u)" = 0 ] || { echo "the tests make namespaces and mounts: run them as root" >&2; exit 1; }
step "cargo test: everything, the kernel tests included"
cargo test --locked --no-fail-fast
step "files that are meant to hurt"
python3 tests/hostile.py "$PWD/target/release/stack"
step "the examples"
tests/examples.sh "$PWD/target/release/stack"
step "done: all tests passed"
