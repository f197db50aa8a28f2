#!/usr/bin/env bash
# image.sh: makes the virtual machine's disk once and prints the directory that has it: disk.img (ext4), vmlinuz, initrd.
#
# Debian packages only. The directory is kept outside the tree and named after what image/ says, so that a changed list of
# packages makes another one; to remove it is always safe.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
suite=bookworm # Linux 6.1
key=$({ echo "$suite"; cat "$here"/image/*; } | sha256sum | cut -c 1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/stack-vm
image=$cache/$key
if [ -e "$image/disk.img" ]; then
  printf '%s\n' "$image"
  exit
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/making.XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "making the virtual machine's disk of Debian packages (once, some minutes)" >&2
include=$(paste -s -d , "$here/image/packages")
# shellcheck disable=SC2016 # mmdebstrap gives its hooks the tree as $1
timeout -k 30 1200 mmdebstrap --quiet --variant=minbase --include="$include" --format=directory \
  --dpkgopt=path-exclude='/usr/share/doc/*' --dpkgopt=path-exclude='/usr/share/man/*' \
  --dpkgopt=path-exclude='/usr/share/locale/*' \
  --essential-hook='mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"' \
  --essential-hook="cp '$here/image/initramfs' \"\$1/etc/initramfs-tools/conf.d/stack-vm\"" \
  --essential-hook="cp '$here/image/modules' \"\$1/usr/share/initramfs-tools/modules.d/stack-vm\"" \
  --customize-hook="copy-in $here/image/stack-vm.service /etc/systemd/system" \
  --customize-hook="chroot \"\$1\" sh -eu < $here/image/customize.sh" \
  "$suite" "$work/tree" >&2
mkdir "$work/image"
cp "$work"/tree/boot/vmlinuz-* "$work/image/vmlinuz"
cp "$work"/tree/boot/initrd.img-* "$work/image/initrd"
rm -rf "$work/tree/boot"
truncate -s 4G "$work/image/disk.img"
/sbin/mkfs.ext4 -q -d "$work/tree" "$work/image/disk.img"
# Renamed last: a directory of this name is whole. Another run may have been faster.
mv -T "$work/image" "$image" 2>/dev/null || [ -e "$image/disk.img" ]
printf '%s\n' "$image"
