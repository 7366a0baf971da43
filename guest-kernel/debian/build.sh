#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# build.sh MIRROR IMAGE: Debian 12 with systemd as an ext4 image, made by
# debootstrap from MIRROR and this folder's root/. Needs root, no loop device.
# Run by `cargo xtask image`.
set -eu
mirror=$1 image=$2
here=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C DEBIAN_FRONTEND=noninteractive

# debootstrap leaves its mounts behind when it fails; nothing below them is ours.
root=$(mktemp -d "$image.root.XXXXXX")
trap 'umount "$root/proc" "$root/sys" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
chmod 755 "$root"

# The base system, and what this guest is for: logins, networks, vsock.
debootstrap --variant=minbase \
    --include=systemd-sysv,udev,dbus,iproute2,iputils-ping,socat bookworm "$root" "$mirror"

# What nobody reads in a test, and what only an upgrade would need.
rm -rf "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/info/* "$root"/usr/share/locale/* \
    "$root"/usr/share/zoneinfo/* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log \
    "$root"/var/cache/debconf/*-old

cp -r "$here/root/." "$root"
chroot "$root" systemctl --quiet enable systemd-networkd.service vsock-login.service echo.service
chroot "$root" systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service
# The same machine for each copy: nothing here is worth telling apart.
echo 5ec2e7a11ce5ec2e7a11ce5ec2e7a11c >"$root/etc/machine-id"
echo debian >"$root/etc/hostname"
echo "root:secret" | chroot "$root" chpasswd

# As large as its files and some room; holes take no space on disk.
size=$(($(du -sm --one-file-system "$root" | cut -f1) * 5 / 4 + 64))
rm -f "$image.draft"
mke2fs -q -t ext4 -m 0 -L debian -d "$root" "$image.draft" "${size}M"
chown --reference="$here/build.sh" "$image.draft"
mv "$image.draft" "$image"
