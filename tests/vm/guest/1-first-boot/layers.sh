#!/usr/bin/env bash
# An image of more layers than one string of the new mount call has room for (before 6.7), built and run.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
import_busybox
mkdir many
{
  echo FROM busybox
  for i in $(seq 60); do
    echo "$i" >"many/$i"
    echo "COPY $i /files/"
  done
  echo 'RUN ls /files | wc -l >/count'
} >many/Dockerfile
cat >compose.yaml <<'COMPOSE'
services:
  box:
    build: many
    command: sh -c 'cat /count; cat /files/* | sort -n | tail -n 1'
COMPOSE
stack up -d --build
until_true 30 is_state box exited 0
equal "what it sees" "$(stack logs --no-log-prefix box)" $'60\n60'
down
