#!/usr/bin/env bash
# boot.sh IMAGE DISK PAYLOAD PHASE CONSOLE: boots the machine once, prints what its cases say, and ends with it.
#
# The guest speaks through its second serial port, which is QEMU's standard output; the console goes to the file CONSOLE.
# The last line is a word to this script:
#
#   @next   all cases were run; the machine goes down by itself
#   @cut    the same, but the power is to be cut at once: QEMU is killed
#
# Exit code: 0 every case passed, 1 one failed, 2 the machine ended otherwise. ONLY: see run.sh.
set -euo pipefail
image=$1 disk=$2 payload=$3 phase=$4 console=$5
silence=${STACK_VM_SILENCE:-900} # seconds without a word before the machine is given up

coproc machine {
  exec qemu-system-x86_64 \
    -nodefaults -display none -no-reboot -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 2G \
    -kernel "$image/vmlinuz" -initrd "$image/initrd" \
    -append "root=/dev/vda rw console=ttyS0 panic=-1 quiet stack.phase=$phase stack.only=${ONLY:-*}" \
    -drive "file=$disk,if=virtio,format=qcow2" \
    -drive "file=$payload,if=virtio,format=raw,readonly=on" \
    -serial "file:$console" -serial stdio </dev/null
}
# Both are unset when the process ends.
# shellcheck disable=SC2154 # coproc sets it
pid=$machine_PID
disown "$pid" # its end is no news
exec {words}<&"${machine[0]}"
trap 'kill -9 "$pid" 2>/dev/null || true' EXIT

failed=0 ended='' status=0
while :; do
  IFS= read -r -t "$silence" -u "$words" line || { status=$?; break; }
  line=${line%$'\r'}
  case $line in
    @next) ended='next' ;;
    @cut)
      ended='cut'
      kill -9 "$pid"
      ;;
    *)
      printf '%s\n' "$line"
      [[ $line != FAILED* ]] || failed=$((failed + 1))
      ;;
  esac
done
if [ "$status" -gt 128 ]; then
  echo "FAILED: the machine said nothing for $silence s"
  ended=''
fi
if [ -z "$ended" ]; then
  echo "FAILED: the machine did not come to the end of $phase; the end of its console:"
  tail -n 40 "$console"
  exit 2
fi
[ "$failed" = 0 ]
