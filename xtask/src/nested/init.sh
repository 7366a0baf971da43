#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# First process of the nested host: puts the machine's own files at their own
# paths, read-only below a layer in memory, and hands over to xtask, which runs
# the command. A failure here ends as a kernel panic, whose log xtask shows.

/bin/busybox --install -s /bin
export PATH=/bin

fail() {
    echo "nested host: $1" >/dev/kmsg
    exit 1
}

mount -t devtmpfs dev /dev || fail "no devtmpfs"
mount -t proc proc /proc
mount -t sysfs sys /sys

# Debian's kernel has its drivers in modules; ? marks those that may fail.
if [ -e /modules/order ]; then
    while read -r module; do
        file=/modules/${module#\?}
        insmod "$file" 2>/dev/null && continue
        [ "$module" = "${module#\?}" ] && fail "cannot load $file"
    done </modules/order
fi

mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose machine /lower ||
    fail "cannot mount the machine's files"
mount -t tmpfs -o mode=755 tmpfs /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /newroot ||
    fail "cannot mount the overlay"

root=/newroot
mkdir -p $root/proc $root/sys $root/dev $root/run $root/tmp
mount -t proc proc $root/proc
mount -t sysfs sys $root/sys
mount -t devtmpfs dev $root/dev
mkdir -p $root/dev/pts $root/dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts $root/dev/pts
mount -t tmpfs -o mode=1777 tmpfs $root/dev/shm
# The machine's sockets and locks in /run mean nothing here. /tmp stays as it
# is, below the layer in memory: a clone may lie there.
mount -t tmpfs -o mode=755 tmpfs $root/run
ln -sf /proc/self/fd $root/dev/fd
ln -sf fd/0 $root/dev/stdin
ln -sf fd/1 $root/dev/stdout
ln -sf fd/2 $root/dev/stderr

# What a kernel may have been built without.
mount -t debugfs debugfs $root/sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs $root/sys/kernel/tracing 2>/dev/null
mount -t securityfs securityfs $root/sys/kernel/security 2>/dev/null
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup 2>/dev/null
ip link set lo up 2>/dev/null

umount /proc /sys /dev
xtask=$(cat /xtask)
[ -x "$root$xtask" ] || fail "$xtask cannot be read here"
exec switch_root $root "$xtask" __inside
