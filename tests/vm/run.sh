#!/usr/bin/env bash
# run.sh STACK [TEST…]: what a development machine cannot show, shown in a virtual machine: Debian with systemd,
# cgroups v2 alone and Linux 6.1, emulated by QEMU without KVM and without a network.
#
#   image.sh    makes its disk, once            image/   what the disk gets beside packages
#   payload.sh  packs the program and cases     guest/   the cases: a directory for each boot, a file for each case
#   boot.sh     boots it once
#
# A boot ends as the file `end` of its directory says: `next` goes down in order, `cut` is a power cut. ONLY=PATTERN runs the
# cases whose name (boot/case) it matches; KEEP=1 keeps disk and console.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
started=$SECONDS
image=$("$here/image.sh")
work=$(mktemp -d /tmp/stack-vm.XXXXXX)
if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else trap 'rm -rf "$work"' EXIT; fi

qemu-img create -q -f qcow2 -F raw -b "$image/disk.img" "$work/disk.qcow2"
"$here/payload.sh" "$work/payload.tar" "$@"
failed=0
for phase in "$here"/guest/*/; do
  phase=$(basename "$phase")
  printf '== %s (%s s)\n' "$phase" "$((SECONDS - started))"
  "$here/boot.sh" "$image" "$work/disk.qcow2" "$work/payload.tar" "$phase" "$work/console-$phase" || failed=$?
  [ "$failed" != 2 ] || break
done
printf '== done (%s s)\n' "$((SECONDS - started))"
exit "$failed"
