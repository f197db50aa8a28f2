#!/usr/bin/env bash
# payload.sh ARCHIVE STACK [TEST…]: packs what the virtual machine runs.
#
#   stack        the program                guest/        the cases
#   examples/    as in the tree             snapshots/    what tests compare with, as in the tree
#                                           rust-tests/   the binaries of these tests: `lib`, or a name for `cargo test --test`
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
archive=$1 binary=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
strip -o "$work/stack" "$binary"
mkdir "$work/rust-tests"
for test in "$@"; do
  case $test in
    lib) which=(--lib) ;;
    *) which=(--test "$test") ;;
  esac
  # cargo says: Executable unittests src/lib.rs (target/debug/deps/stack-0123456789abcdef)
  built=$(cd "$here/../.." && cargo test --locked --no-run "${which[@]}" 2>&1 | sed -n 's/.*Executable .*(\(.*\))$/\1/p')
  strip -o "$work/rust-tests/$test" "$here/../../$built"
done
mkdir "$work/snapshots"
(cd "$here/../.." && find src -path '*/snapshots/*.snap' -exec cp --parents {} "$work/snapshots" \;)
cp -r "$here/guest" "$here/../../examples" "$work/"
tar -C "$work" -cf "$archive" .
