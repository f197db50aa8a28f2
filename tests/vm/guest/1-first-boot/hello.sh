#!/usr/bin/env bash
# The first example, on a kernel without the newer calls: up, seen from the host and the other container, down, nothing left.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
note "$(uname -r), $(stat -f -c %T /sys/fs/cgroup) on /sys/fs/cgroup, systemd $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')"
IMAGES=busybox:latest "$top/examples/base-images.sh" "$top/stack" --root "$root"
cd "$top/examples/stacks/hello"
began=$(date +%s%3N)
stack up -d
note "up -d took $(($(date +%s%3N) - began)) ms, emulated"
equal "the page from the host" "$(curl -sS --max-time 10 http://127.0.0.1:8080/)" "$(cat www/index.html)"
equal "the page from the other container" "$(stack exec -T reader wget -q -O - http://page/)" "$(cat www/index.html)"
equal "a second plan" "$(stack up -d --dry-run)" ""
down
