#!/usr/bin/env bash
# The kernel tests of the library, on this kernel.
# limit: 1500
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
failed=
for test in "$top"/rust-tests/*; do
  case ${test##*/} in
    lib) filter=(runtime:: sys:: net::) ;;
    *) filter=() ;;
  esac
  echo "== ${test##*/}"
  "$test" "${filter[@]}" 2>&1 | tee "$work/out" || failed=1
  note "${test##*/}: $(grep '^test result' "$work/out" || tail -n 1 "$work/out")"
done
[ -z "$failed" ]
