#!/usr/bin/env bash
# A host whose older iptables drops what is forwarded: `up` says what to allow, and when that is done packets go through and
# nothing is said any more.
# shellcheck source=../lib.sh
. "$(dirname "$0")/../lib.sh"
# The rest of the world: 192.168.77.2, which knows a way to this host and nothing else.
ip netns add world
ip link add world0 type veth peer name eth0 netns world
ip addr add 192.168.77.1/24 dev world0
ip link set world0 up
ip -n world addr add 192.168.77.2/24 dev eth0
ip -n world link set eth0 up
mkdir www
echo outside >www/index.html
ip netns exec world busybox httpd -f -p 80 -h "$work/www" &
server=$!
trap 'iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F FORWARD; kill $server; ip netns del world' EXIT
iptables-legacy -P FORWARD DROP

project <<'COMPOSE' >"$work/first" 2>&1
services:
  box:
    image: busybox
    command: sh -c 'mkdir /www && echo inside >/www/index.html && exec httpd -f -p 80 -h /www'
    ports: ["8090:80"]
COMPOSE
cat "$work/first"
# shellcheck disable=SC2016 # the backticks are its own
remedy=$(sed -n 's/.*chain `FORWARD` of iptables-legacy drops forwarded packets.* through: //p' "$work/first")
[ -n "$remedy" ] || fail "up says nothing of iptables-legacy"
out() { stack exec -T box wget -T 20 -O - http://192.168.77.2/; }
in_again() { ip netns exec world curl -sS --max-time 20 http://192.168.77.1:8090/; }
equal "the world's page" "$(curl -sS --max-time 20 http://192.168.77.2/)" outside
if out || in_again; then fail "the policy drops nothing: this case shows nothing"; fi
note "$remedy"
eval "$remedy"
equal "what the container reaches" "$(out)" outside
equal "what the world reaches" "$(in_again)" inside
stack up -d >"$work/second" 2>&1
if grep iptables-legacy "$work/second"; then fail "up still warns"; fi
iptables-legacy -P FORWARD ACCEPT
iptables-legacy -F FORWARD
down
