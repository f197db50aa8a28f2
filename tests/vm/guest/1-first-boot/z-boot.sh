#!/usr/bin/env bash
# Before the host goes down: the program and the unit are installed as README says, and containers of every restart policy run.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
install -m 755 "$top/stack" /usr/local/bin/stack
cp "$top/examples/stack.service" /etc/systemd/system/
systemctl enable stack.service
mkdir -p /srv/boot/www
cd /srv/boot
echo 'back again' >www/index.html
cat >compose.yaml <<'COMPOSE'
services:
  page:
    image: busybox
    command: httpd -f -p 80 -h /www
    restart: always
    ports: ["8088:80"]
    volumes: ["./www:/www:ro"]
  reader:
    image: busybox
    restart: unless-stopped
    command: sh -c 'until wget -q -O - http://page/; do sleep 0.2; done; exec sleep infinity'
  failing:
    image: busybox
    restart: on-failure
    command: sh -c 'trap "exit 3" TERM; while :; do sleep 0.2; done'
  once:
    image: busybox
    command: sleep infinity
COMPOSE
root=
import_busybox
stack up -d
equal "the page" "$(curl -sS --retry 20 --retry-connrefused http://127.0.0.1:8088/)" "back again"
note "$(stack ps --format json | grep -c '"State":"running"') containers run"
