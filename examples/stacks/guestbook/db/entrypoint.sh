#!/bin/sh
# Makes the database cluster on the first start, then becomes the server.
set -eu
data=/var/lib/postgresql/data
mkdir -p /run/postgresql
chown postgres:postgres "$data" /run/postgresql
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

if [ ! -s "$data/cluster/PG_VERSION" ]; then
  rm -rf "$data/new"
  password=$(cat /run/secrets/database_password)
  as_postgres initdb -D "$data/new" --auth-local=trust --auth-host=scram-sha-256 >/dev/null
  echo 'host all all all scram-sha-256' >> "$data/new/pg_hba.conf"
  printf "CREATE ROLE guestbook LOGIN PASSWORD '%s'; CREATE DATABASE guestbook OWNER guestbook;\n" "$password" > "$data/new/first.sql"
  chown postgres:postgres "$data/new/first.sql"
  # Single-user mode takes one command a line and needs no socket.
  sed 's/; /;\n/' "$data/new/first.sql" | as_postgres postgres --single -D "$data/new" postgres >/dev/null
  rm "$data/new/first.sql"
  # The rename comes last: a start that was cut short begins again.
  mv "$data/new" "$data/cluster"
fi
exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"
