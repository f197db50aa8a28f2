#!/usr/bin/env bash
# Beside a dockerd, whose policy drops what is forwarded: the network's own test, and the first example.
# limit: 600
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# It sets that policy where nobody forwarded before it.
sysctl -q -w net.ipv4.ip_forward=0
systemctl start docker.service
iptables-save | grep ':FORWARD DROP' || fail "dockerd drops nothing"
rules() { iptables-save | grep -e ^-A -e ^: | sed 's/ \[.*//'; } # without its counters
before=$(rules)
"$top/rust-tests/lib" --ignored --exact net::tests::beside_dockerd
import_busybox
cd "$top/examples/stacks/hello"
stack up -d
equal "the page from the host" "$(curl -sS --max-time 10 http://127.0.0.1:8080/)" "$(cat www/index.html)"
equal "the page from the other container" "$(stack exec -T reader wget -q -O - http://page/)" "$(cat www/index.html)"
down
equal "dockerd's rules" "$(rules)" "$before"
systemctl stop docker.service docker.socket containerd.service
