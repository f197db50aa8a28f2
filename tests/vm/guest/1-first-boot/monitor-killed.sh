#!/usr/bin/env bash
# A monitor is killed: the container runs on, the next command gives it another one, and its end is seen on a kernel that does
# not tell the exit code of a stranger (before 6.15).
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
project <<'COMPOSE'
services:
  box:
    image: busybox
    command: sh -c 'echo begin; while [ ! -e /go ]; do sleep 0.1; done; echo end; exit 7'
COMPOSE
monitor() { pgrep -o -f "monitor .* --root $root"; }
first=$(monitor)
kill -9 "$first"
gone() { [ ! -d "/proc/$first" ]; }
until_true 10 gone
is_state box running 0 || fail "the container ended with its monitor"
stack up -d
[ "$(monitor)" != "$first" ] || fail "no new monitor"
stack exec -T box touch /go
ended() { stack ps -a --format json box | grep '"State":"exited"'; }
until_true 30 ended
note "$(stack ps -a --format json box | grep -o '"ExitCode":[^,]*\|"Status":"[^"]*"' | tr '\n' ' ')"
# 7, or said to be unknown: never another number.
stack ps -a --format json box | grep -E '"ExitCode":(7|-1),' >/dev/null || fail "$(stack ps -a --format json box)"
equal "the log" "$(stack logs --no-log-prefix box)" $'begin\nend'
down
