#!/bin/busybox sh
# First program of the guest, in the initramfs: loads modules, then makes the host's files the root, read-only below a
# throw-away layer. What the kernel package brings for user space lies in between.
b=/bin/busybox
$b mount -t devtmpfs devtmpfs /dev
$b mount -t proc proc /proc
for module in $($b cat /modules); do
    $b insmod "/lib/$module.ko" || echo "init: $module does not load"
done
# Where the console is behind a module, the kernel could not open it, and udev does not live without.
exec <>/dev/console >&0 2>&1

$b mount -t tmpfs -o mode=755 tmpfs /layer
$b mkdir /layer/upper /layer/work
options=trans=virtio,version=9p2000.L,msize=512000
$b mount -t 9p -o "ro,cache=loose,$options" host /host || exit
$b mount -t 9p -o "ro,cache=loose,$options" extra /extra || exit
$b mount -t overlay -o lowerdir=/extra:/host,upperdir=/layer/upper,workdir=/layer/work overlay /root || exit

for folder in dev proc sys run; do $b mkdir -p "/root/$folder"; done
$b mount --move /dev /root/dev
$b mount --move /proc /root/proc
$b mount -t sysfs sysfs /root/sys
$b mount -t tmpfs -o mode=755 tmpfs /root/run
$b mkdir -p /root/dev/pts /root/dev/shm /root/run/guest/share /root/run/lock
$b mkdir -m 1777 /root/run/tmp
$b mount -t devpts -o ptmxmode=666,mode=620,gid=5 devpts /root/dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs /root/dev/shm
$b mount -t 9p -o "rw,cache=none,$options" share /root/run/guest/share || exit
$b cp /bin/busybox /root/run/guest/
exec $b switch_root /root /run/guest/busybox sh /run/guest/share/start.sh
