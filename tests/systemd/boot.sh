#!/bin/sh
# Becomes the first process of a small machine: makes every place that systemd or a package writes to private, then runs systemd.
#
# Started by namespace.py inside its own mount, process, cgroup, network, host-name and IPC namespaces. The files of the machine
# around it are seen, and nothing of it is changed: what is written to /etc, /usr, /var and /tmp lands on a tmpfs, /run, /dev and /sys
# are new, and the rest is read-only.
set -eu
private=$1

mount -t tmpfs -o mode=0755 tmpfs "$private"
for place in etc usr var tmp; do
    mkdir -p "$private/$place.upper" "$private/$place.work"
    chmod --reference="/$place" "$private/$place.upper"
    mount -t overlay -o "lowerdir=/$place,upperdir=$private/$place.upper,workdir=$private/$place.work" overlay "/$place"
done
mount -t tmpfs -o mode=0755 tmpfs /run

# The machine's /dev is shared with everybody: journald would put its socket there.
mkdir /run/dev
mount -t tmpfs -o mode=0755 tmpfs /run/dev
for node in null zero full random urandom tty; do
    : >"/run/dev/$node"
    mount --bind "/dev/$node" "/run/dev/$node"
done
mkdir /run/dev/pts /run/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts /run/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /run/dev/shm
ln -s pts/ptmx /run/dev/ptmx
ln -s /proc/self/fd /run/dev/fd
mount --move /run/dev /dev
rmdir /run/dev

# systemd raises some of the kernel's limits for everybody; not here.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t sysfs -o ro sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup

mount -o remount,bind,ro /
# As systemd does it where it believes in a machine of its own: credentials reach a service by propagation.
mount --make-rshared /

# Nothing of the machine's own is started: only journald and what the test installs.
rm -rf /etc/systemd/system /etc/fstab /etc/trollbridge /var/lib/trollbridge
mkdir -p /etc/systemd/system /etc/systemd/system.conf.d /etc/systemd/journald.conf.d
for wanted in /lib/systemd/system/*.target.wants/*; do
    case ${wanted##*/} in
    systemd-journald*) ;;
    *) ln -sf /dev/null "/etc/systemd/system/${wanted##*/}" ;;
    esac
done
ln -sf /dev/null /etc/systemd/system/systemd-remount-fs.service
cat >/etc/systemd/system/small.target <<END
[Unit]
Description=A machine with a journal and nothing else
Requires=basic.target
After=basic.target
AllowIsolate=yes
END
printf '[Manager]\nLogTarget=journal\nShowStatus=no\nDefaultTimeoutStopSec=20s\n' >/etc/systemd/system.conf.d/test.conf
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nForwardToSyslog=no\nRateLimitBurst=0\n' >/etc/systemd/journald.conf.d/test.conf
: >/etc/machine-id

container=other
export container
exec /lib/systemd/systemd --system --unit=small.target
