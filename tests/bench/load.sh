#!/usr/bin/env bash
# Sourced by run.sh: what reading, merging and checking a project costs, and how much memory it takes. The clock of a busy
# machine says little, so these rows are processor time, of the fastest of several runs.
load_services() { # COUNT: twenty-one lines each
  mkdir -p "$work/load$1"
  {
    printf 'name: big\nservices:\n'
    for i in $(seq "$1"); do
      printf '  s%05d:\n    image: registry.example.com/team/app:1.%d\n    command: ["serve", "--port", "8080"]\n' "$i" "$i"
      printf '    environment:\n      LOG_LEVEL: info\n      DATABASE_URL: postgres://db:5432/${NAME:-app}\n      INDEX: %d\n' "$i"
      [ "$i" -eq 1 ] || printf '    depends_on:\n      - s%05d\n' $((i - 1))
      printf '    labels:\n      com.example.tier: backend\n      com.example.index: "%d"\n' "$i"
      printf '    volumes:\n      - data:/var/lib/data\n      - ./conf/%d:/etc/app:ro\n' "$i"
      printf '    ports:\n      - "127.0.0.1::8080"\n    restart: unless-stopped\n    networks: [front]\n    mem_limit: 512m\n    user: "1000"\n'
    done
    printf 'volumes:\n  data:\nnetworks:\n  front:\n'
  } >"$work/load$1/compose.yaml"
}
# load_row NAME BUDGET_MS COUNT ARGS...: the processor time and the memory of `stack config ARGS`
load_row() {
  local name=$1 budget=$2 count=$3; shift 3
  python3 - "$name" "$budget" "$binary" -f "$work/load$count/compose.yaml" config "$@" <<'PY'
import os, sys
name, budget, command = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
times, memory = [], 0
for _ in range(15):
    child = os.fork()
    if child == 0:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
        os.execv(command[0], command)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{command}: status {status}")
    times.append((usage.ru_utime + usage.ru_stime) * 1000)
    memory = max(memory, usage.ru_maxrss / 1024)
print(f"{name:<52} {min(times):10.1f} ms {memory:10.1f} MB           <= {budget:g} ms")
PY
}
for count in 10 500 5000; do load_services "$count"; done
echo
load_row 'config, 10 services, the whole process' 10 10
load_row 'load and check 500 services (10,000 lines)' 50 500 -q
load_row 'load and check 5,000 services (100,000 lines)' 600 5000 -q
