#!/usr/bin/env bash
# After a power cut nothing is lost that a command had reported: images, containers, volumes; `boot` and `up` go on with them.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
root=/srv/cut/root
cd /srv/cut
stack image ls
stack boot
is_state box running 0 || fail "$(stack ps -a)"
equal "the volume" "$(stack exec -T box cat /data/first /data/second)" $'from the image\nsynced'
equal "a plan for what is there" "$(stack up -d --dry-run)" ""
down
cd /srv/boot
root=
systemctl start stack.service
is_state page running 0 || fail "$(stack ps -a)"
equal "the page" "$(curl -sS --max-time 10 http://127.0.0.1:8088/)" "back again"
stack down -v -t 1
