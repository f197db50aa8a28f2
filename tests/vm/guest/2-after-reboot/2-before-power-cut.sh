#!/usr/bin/env bash
# The last that is done before the power is cut: a root from nothing, an image, a volume; `up` returns, and that is all.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
root=/srv/cut/root
mkdir -p /srv/cut/build
cd /srv/cut
cat >build/Dockerfile <<'DOCKERFILE'
FROM busybox
RUN mkdir /data && echo 'from the image' >/data/first
VOLUME /data
DOCKERFILE
cat >compose.yaml <<'COMPOSE'
services:
  box:
    build: build
    restart: always
    command: sh -c 'echo synced >/data/second; sync; echo ready; exec sleep infinity'
    healthcheck: {test: test -e /data/second, interval: 200ms}
    volumes: [data:/data]
volumes: {data: }
COMPOSE
import_busybox
stack up -d --wait
ready() { stack logs box | grep ready; }
until_true 30 ready
# Whatever these commands did not write to the disk themselves is lost now.
