#!/bin/bash
# image/partition.sh: prints a folder with partition.raw, partition.raw.gz, partition.qcow2 (and sums): an ext4 file
# system and nothing around it, made of Debian's packages without root, mounts or loop devices. It holds a kernel, an
# initramfs that believes only the root= of its command line, busybox, and GRUB for BIOS and UEFI with the libraries it
# needs; no boot loader is installed in it: whoever deploys it must run its grub-install and grub-mkconfig. Deployed
# so, it prints the marker of image/build.sh on the serial console.
cd "$(dirname "$0")/.."
. ./env.sh
root_mb=112
packages="grub-common grub2-common grub-pc-bin grub-efi-amd64-bin busybox-static libc6 libdevmapper1.02.1 libefiboot1
libefivar1 liblzma5 libselinux1 libudev1 libpcre2-8-0"

build() {
  local out=$1 kernel work tree
  kernel=$(./kernel.sh)
  work=$(mktemp -d)
  tree=$work/tree

  mkdir -p "$work/debs" "$work/all" "$tree"
  # shellcheck disable=SC2086
  (cd "$work/debs" && apt-get download -q $packages 2> /dev/null)
  local deb
  for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/all"; done
  mkdir -p "$tree"/{bin,sbin,lib,lib64,boot/grub,boot/efi,proc,sys,dev,run,etc/default,etc/grub.d,mnt,tmp,usr/bin,usr/sbin,usr/lib,usr/share}
  (
    cd "$work/all"
    cp -a lib/x86_64-linux-gnu "$tree/lib/"
    cp -a lib64/* "$tree/lib64/" 2> /dev/null || ln -s ../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$tree/lib64/"
    cp -a usr/lib/x86_64-linux-gnu "$tree/usr/lib/"
    cp -a usr/lib/grub "$tree/usr/lib/"
    cp -a usr/bin/grub-* "$tree/usr/bin/"
    cp -a usr/sbin/grub-* "$tree/usr/sbin/"
    cp -a usr/share/grub "$tree/usr/share/"
    cp -a etc/grub.d/{00_header,10_linux} "$tree/etc/grub.d/"
    cp -a bin/busybox "$tree/bin/"
  )
  rm -rf "$tree"/usr/lib/grub/x86_64-efi/monolithic "$tree"/usr/lib/x86_64-linux-gnu/{gconv,audit} \
    "$tree"/lib/x86_64-linux-gnu/{gconv,audit}
  local applet
  for applet in $("$tree/bin/busybox" --list); do
    [ -e "$tree/bin/$applet" ] || [ -e "$tree/usr/bin/$applet" ] || ln -s busybox "$tree/bin/$applet"
  done

  cp "$kernel/vmlinuz" "$tree/boot/vmlinuz-e2e"
  mkdir -p "$work"/initramfs/{bin,proc,sys,dev,new,modules}
  cp "$tree/bin/busybox" "$work/initramfs/bin/"
  install -m755 image/partition-initramfs-init "$work/initramfs/init"
  grep -vE '^(e1000e?|efivarfs|virtio_net|failover|net_failover)\.ko$' "$kernel/modules/order" > "$work/initramfs/modules/order"
  (cd "$kernel/modules" && xargs cp -t "$work/initramfs/modules" < "$work/initramfs/modules/order")
  (cd "$work/initramfs" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -9n) > "$tree/boot/initrd.img-e2e"

  install -m755 image/init "$tree/sbin/init"
  basename "$out" .part > "$tree/etc/marker"
  printf 'root:x:0:0:root:/:/bin/sh\n' > "$tree/etc/passwd"
  printf 'root:x:0:\n' > "$tree/etc/group"
  cat > "$tree/etc/default/grub" << 'END'
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=e2e
GRUB_TERMINAL=serial
GRUB_SERIAL_COMMAND="serial --speed=115200 --unit=0"
GRUB_CMDLINE_LINUX="console=ttyS0 panic=1"
END

  local image=$out/partition.raw
  truncate -s "${root_mb}M" "$image"
  mkfs.ext4 -q -F -L partroot -E root_owner=0:0 -d "$tree" "$image"
  gzip -6k "$image"
  qemu-img convert -O qcow2 -c "$image" "$out/partition.qcow2"
  (cd "$out" && sha256sum partition.* > sums)
  du -sh "$tree" >&2
  rm -rf "$work"
  ls -ls "$out"
}

cached partition "$(./kernel.sh)" image/partition.sh image/init image/partition-initramfs-init -- build
