#!/usr/bin/env bash
# `mem_limit` on cgroups v2: what takes more is killed with 137, and the record says that memory was the reason.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
project <<'COMPOSE'
services:
  greedy:
    image: busybox
    mem_limit: 32m
    # tail keeps what it has read until it has seen the end.
    command: tail -c 500m /dev/zero
  modest:
    image: busybox
    mem_limit: 32m
    command: sleep infinity
    init: true
COMPOSE
modest=$(group modest)
equal memory.max "$(cat "$modest/memory.max")" 33554432
until_true 60 is_state greedy exited 137
grep -l '"oom":true' "$root"/lib/containers/*/exit.json
code=0
stack exec -T modest tail -c 500m /dev/zero || code=$?
equal "the exit code of a greedy exec" "$code" 137
is_state modest running 0 || fail "the container ended with what was executed in it"
down
