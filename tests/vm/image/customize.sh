#!/bin/sh
# What makes the disk a machine of the tests; runs in its tree.
echo stack-vm > /etc/hostname
printf '127.0.0.1 localhost\n127.0.1.1 stack-vm\n' > /etc/hosts
: > /etc/fstab
: > /etc/resolv.conf
systemctl enable stack-vm.service
# Nobody logs in, nothing is updated, and dockerd is started by the case that wants it.
systemctl disable docker.service docker.socket containerd.service
systemctl mask getty@tty1.service serial-getty@ttyS0.service apt-daily.timer apt-daily-upgrade.timer \
  e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer systemd-timesyncd.service
