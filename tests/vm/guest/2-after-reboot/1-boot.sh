#!/usr/bin/env bash
# After an orderly reboot: the unit has brought back what its policy says, with network, names and published ports.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
root=
cd /srv/boot
# `start` waits for a unit that is being started.
systemctl start stack.service
systemctl status --no-pager stack.service | tee "$work/status"
stack ps -a
for service in page reader failing; do
  is_state "$service" running 0 || fail "$service did not come back"
done
if is_state once running 0; then fail "what has no restart policy came back"; fi
equal "the page" "$(curl -sS --max-time 10 http://127.0.0.1:8088/)" "back again"
wget_again() { [ "$(stack logs --no-log-prefix reader | grep -c 'back again')" -ge 2 ]; }
until_true 60 wget_again
note "$(systemd-analyze blame --no-pager | grep stack.service)"
