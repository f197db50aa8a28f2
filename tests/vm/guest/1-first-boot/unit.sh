#!/usr/bin/env bash
# Whoever calls `stack up -d` may go: the end of a unit with KillMode=control-group, and of a transient scope, kills nothing.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
import_busybox
cat >compose.yaml <<'COMPOSE'
services:
  box:
    image: busybox
    command: sh -c 'while :; do echo alive; sleep 0.2; done'
COMPOSE
cat >/run/systemd/system/caller.service <<UNIT
[Service]
Type=oneshot
RemainAfterExit=yes
KillMode=control-group
WorkingDirectory=$work
ExecStart=$top/stack --root $root up -d
UNIT
systemctl daemon-reload
systemctl start caller.service
init=$(cat "$(group box)/cgroup.procs")
init=${init%%$'\n'*}
equal "what the unit still holds" "$(systemctl show -P TasksCurrent caller.service | tr -d '[]')" "not set"
monitor=$(pgrep -o -f "monitor .* --root $root")
equal "where the monitor is" "$(cat "/proc/$monitor/cgroup")" "0::/stack-$(cat "$root/lib/instance")/_mon"
systemctl stop caller.service
[ -d "/proc/$init" ] || fail "the end of the unit ended the container"
[ -d "/proc/$monitor" ] || fail "the end of the unit ended the monitor"
# The log goes on: what is written after now arrives.
lines() { stack logs --no-log-prefix box | grep -c alive; }
before=$(lines)
more() { [ "$(lines)" -gt $((before + 3)) ]; }
until_true 30 more
down
