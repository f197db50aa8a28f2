#!/usr/bin/env bash
# payload.sh ARCHIVE STACK [TEST-BINARY…]: packs what the virtual machine runs.
#
#   stack           the program                guest/      the cases
#   examples/       as in the tree             rust-tests/ test binaries, named as cargo names them without the hash
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
archive=$1 binary=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
strip -o "$work/stack" "$binary"
mkdir "$work/rust-tests"
for test in "$@"; do
  name=${test##*/}
  strip -o "$work/rust-tests/${name%-*}" "$test"
done
cp -r "$here/guest" "$here/../../examples" "$work/"
tar -C "$work" -cf "$archive" .
