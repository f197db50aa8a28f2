#!/usr/bin/env bash
# What a container sees of cgroups v2: itself as the root, its own limits, nothing to write to; and devices that it may not open.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
project <<'COMPOSE'
services:
  box:
    image: busybox
    mem_limit: 64m
    pids_limit: 50
    cpus: 1.5
    command: sleep infinity
    init: true
COMPOSE
in_box() { stack exec -T box sh -c "$1"; }
equal "its cgroup" "$(in_box 'cat /proc/self/cgroup')" 0::/
equal "its limits" "$(in_box 'cd /sys/fs/cgroup && cat memory.max pids.max cpu.max')" $'67108864\n50\n150000 100000'
! in_box 'echo max >/sys/fs/cgroup/pids.max' || fail "a container raised its own limit"
! in_box 'mknod /disk b 254 0 && cat /disk' >/dev/null || fail "a container read the host's disk"
equal "a device that it may open" "$(in_box 'head -c 3 /dev/zero | wc -c')" 3
down
