#!/bin/sh
# base-images.sh STACK-COMMAND...
#
# Makes sure that the images the examples start from are in the store: pulled where a registry answers, else made of
# Debian packages under the same names. Says which it did.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

have() { "$@" image ls -q "$name" 2>/dev/null | grep -q .; }

make_busybox() {
  "$here/need.sh" busybox-static
  tree=$work/busybox
  mkdir -p "$tree/bin" "$tree/etc" "$tree/tmp" "$tree/root" "$tree/var" "$tree/usr" "$tree/home"
  cp /bin/busybox "$tree/bin/"
  for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$tree/bin/$applet"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n' > "$tree/etc/passwd"
  printf 'root:x:0:\nnobody:x:65534:\n' > "$tree/etc/group"
  chmod 1777 "$tree/tmp"
  chmod 700 "$tree/root"
  tar -C "$tree" --sort=name --numeric-owner --owner=0 --group=0 -cf "$work/busybox.tar" .
  "$@" image import --change 'CMD ["sh"]' --change "ENV PATH=$path" "$work/busybox.tar" busybox:latest >/dev/null
}

make_debian() {
  "$here/need.sh" mmdebstrap
  # The tarball outlives this run: making it takes half a minute, and every test may ask for it.
  cache=${XDG_CACHE_HOME:-$HOME/.cache}/stack-examples
  mkdir -p "$cache"
  if [ ! -s "$cache/bookworm.tar" ]; then
    mmdebstrap --quiet --format=tar --variant=minbase --include=ca-certificates bookworm "$cache/bookworm.$$"
    mv "$cache/bookworm.$$" "$cache/bookworm.tar"
  fi
  "$@" image import --change 'CMD ["bash"]' --change "ENV PATH=$path" "$cache/bookworm.tar" debian:bookworm >/dev/null
}

path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for name in ${IMAGES:-busybox:latest debian:bookworm}; do
  if have "$@"; then
    echo "base image $name: already in the store"
  elif "$@" image pull "$name" >"$work/pull" 2>&1; then
    echo "base image $name: pulled"
  else
    case $name in
      busybox:*) make_busybox "$@" ;;
      debian:*) make_debian "$@" ;;
    esac
    echo "base image $name: no registry gave it ($(tail -n 1 "$work/pull")); made of Debian packages instead"
  fi
done
