#!/usr/bin/env bash
# The kernel tests of the library, on this kernel.
# limit: 1500
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
failed=
export INSTA_WORKSPACE_ROOT=$top/snapshots INSTA_UPDATE=no
for test in "$top"/rust-tests/*; do
  case ${test##*/} in
    lib) filter=(runtime:: sys:: net::) ;;
    *) filter=() ;;
  esac
  echo "== ${test##*/}"
  "$test" "${filter[@]}" 2>&1 | tee "$work/out" || failed=1
  if [ "${test##*/}" = lib ]; then # needs the older iptables, which not every kernel has
    "$test" --ignored net::legacy 2>&1 || failed=1
  fi
  note "${test##*/}: $(grep '^test result' "$work/out" || tail -n 1 "$work/out")"
done
[ -z "$failed" ]
