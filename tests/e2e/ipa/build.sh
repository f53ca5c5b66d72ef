#!/bin/bash
# ipa/build.sh: prints a folder with kernel and initramfs of a Debian 12 ramdisk that runs ironic-python-agent
# exactly as PyPI has it. Slow the first time (debootstrap, pip, packing: some minutes), cached after.
# That agent is never to run outside a virtual machine: as root on a host it sees that host's disks.
cd "$(dirname "$0")/.."
. ./env.sh

agent=ironic-python-agent==13.0.0
packages=python3,python3-distutils,iproute2,iputils-arping,udev,kmod,parted,gdisk,fdisk,dosfstools,e2fsprogs,\
xfsprogs,qemu-utils,dmidecode,lshw,lsscsi,pciutils,hdparm,mdadm,smartmontools,nvme-cli,ethtool,psmisc,\
efibootmgr,util-linux-extra,ca-certificates,ipmitool,busybox-static,procps,dbus

# the mirror that apt uses on this machine
mirror() {
  local found
  found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -oE 'https?://[^ ]*/debian/?( |$)' || true)
  found=${found%%$'\n'*}
  echo "${found:-http://deb.debian.org/debian}" | tr -d ' '
}

build() {
  local out=$1 root=$1/root kernel name
  kernel=$(./kernel.sh)
  say "debootstrap from $(mirror)"
  debootstrap --variant=minbase --include="$packages" bookworm "$root" "$(mirror)" > "$out/debootstrap.log" 2>&1 ||
    { tail -20 "$out/debootstrap.log"; return 1; }
  say "$agent from PyPI"
  # any CPython 3.11 makes wheels good for Debian 12's own
  python3.11 -m pip install --quiet --no-warn-script-location --target "$root/opt/ipa" "$agent"
  echo /opt/ipa > "$root/usr/lib/python3/dist-packages/ipa.pth"
  install -m755 ipa/init "$root/init"
  cp -r "$kernel/modules" "$root/modules"
  cp "$kernel/vmlinuz" "$out/kernel"
  # there is no init system to talk to
  for name in poweroff reboot; do
    rm -f "$root/usr/sbin/$name"
    printf '#!/bin/sh\nexec /bin/busybox %s -f\n' "$name" > "$root/usr/sbin/$name"
    chmod 755 "$root/usr/sbin/$name"
  done
  mkdir -p "$root/etc/ironic-python-agent.d"
  printf '[DEFAULT]\ndebug = True\n' > "$root/etc/ironic-python-agent.d/e2e.conf"
  python3.11 -m compileall -q -j2 "$root/opt/ipa" "$root/usr/lib/python3" > /dev/null 2>&1 || true
  say "packing"
  (cd "$root" && find . \( -path ./var/lib/dpkg -o -path ./var/cache -o -path ./var/lib/apt -o -path ./boot -o -path ./debootstrap \
      -o -path ./usr/share/doc -o -path ./usr/share/man -o -path ./usr/share/locale -o -path ./usr/share/perl \
      -o -path ./usr/share/zoneinfo -o -path ./usr/lib/udev/hwdb.d -o -path ./usr/lib/udev/hwdb.bin \
      -o -path ./usr/lib/x86_64-linux-gnu/gconv -o -path ./usr/lib/python3.11/ensurepip -o -path ./opt/ipa/setuptools \
      -o -path './opt/ipa/*/tests' \) -prune -o -print |
    cpio -o -H newc -R 0:0 --quiet) | gzip -6 > "$out/initramfs"
  rm -rf "$root"
  ls -l "$out"
}

cached ipa "$agent" "$packages" ipa/build.sh ipa/init kernel.sh -- build
