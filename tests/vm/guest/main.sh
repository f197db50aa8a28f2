#!/usr/bin/env bash
# main.sh: runs the cases of this boot one after the other and says how each ended; see boot.sh for its last word.
#
# A case is a bash script of its own: exit code 0 passes. It has `# limit: N` seconds (400), and its output is shown if it fails.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec >/dev/ttyS1 2>&1 </dev/null
stty -F /dev/ttyS1 raw
set -f
parameter() { tr ' ' '\n' </proc/cmdline | sed -n "s/^stack\.$1=//p"; }
phase=$(parameter phase)
only=$(parameter only)
set +f

log=/run/stack-vm.log
for script in "$here/$phase"/*.sh; do
  name=$phase/$(basename "$script" .sh)
  # shellcheck disable=SC2053 # a pattern
  [[ $name == $only ]] || continue
  limit=$(sed -n 's/^# limit: //p' "$script")
  began=$SECONDS
  timeout -k 10 "${limit:-400}" bash "$script" >"$log" 2>&1
  code=$?
  if [ "$code" = 0 ]; then
    printf 'ok      %s (%s s)\n' "$name" "$((SECONDS - began))"
    sed -n 's/^note: /        /p' "$log"
  else
    printf 'FAILED  %s (exit code %s, %s s)\n' "$name" "$code" "$((SECONDS - began))"
    tail -n 60 "$log" | sed 's/^/        /'
  fi
done

end=$(cat "$here/$phase/end")
printf '@%s\n' "$end"
case $end in
  next) systemctl reboot ;;
  cut) exec sleep infinity ;;
esac
