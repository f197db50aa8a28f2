#!/usr/bin/env bash
# `pids_limit` on cgroups v2: a fork bomb stops at the limit, and goes with the container.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
project <<'COMPOSE'
services:
  bomb:
    image: busybox
    pids_limit: 20
    command: sh -c 'while :; do (while :; do sleep 100 & done); done'
COMPOSE
group=$(group bomb)
equal pids.max "$(cat "$group/pids.max")" 20
refused() { grep -q 'max [1-9]' "$group/pids.events"; }
until_true 60 refused
[ "$(cat "$group/pids.current")" -le 20 ] || fail "$(cat "$group/pids.current") processes"
stack logs bomb 2>&1 | grep "can't fork" >/dev/null || fail "nothing was refused"
down
