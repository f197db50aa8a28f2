#!/usr/bin/env bash
# `cpus` on cgroups v2: a quota of the controller's, and a busy loop that gets no more of it.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
project <<'COMPOSE'
services:
  busy:
    image: busybox
    cpus: 0.2
    command: sh -c 'while :; do :; done'
COMPOSE
group=$(group busy)
equal cpu.max "$(cat "$group/cpu.max")" "20000 100000"
of() { sed -n "s/^$1 //p" "$group/cpu.stat"; }
# In each tenth of a second in which it was stopped it had used up its 20 ms.
before=$(of usage_usec) periods=$(of nr_periods)
enough() { [ "$(of nr_periods)" -ge $((periods + 30)) ]; }
until_true 60 enough
used=$((($(of usage_usec) - before) / 1000)) passed=$((($(of nr_periods) - periods) * 100))
note "$used ms of $passed ms"
[ $((used * 100)) -le $((passed * 30)) ] || fail "it used $used ms in $passed ms"
[ "$(of nr_throttled)" -ge 10 ] || fail "it was stopped $(of nr_throttled) times"
down
