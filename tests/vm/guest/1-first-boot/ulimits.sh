#!/usr/bin/env bash
# `ulimits` above the caller's hard limits: root of a real host may (CAP_SYS_RESOURCE).
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
ulimit -n 1000
ulimit -u 900
project <<'COMPOSE'
services:
  box:
    image: busybox
    command: sleep infinity
    init: true
    ulimits:
      nofile: {soft: 2000, hard: 1000000}
      nproc: 5000
      memlock: -1
      core: 0
COMPOSE
found=$(stack exec -T box sh -c 'grep -E "open files|processes|locked|core" /proc/1/limits' | tr -s ' ' | cut -d ' ' -f 2-)
equal "its limits" "$found" $'core file size 0 0 bytes \nprocesses 5000 5000 processes \nopen files 2000 1000000 files \nlocked memory unlimited unlimited bytes '
down
