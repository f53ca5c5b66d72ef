#!/bin/bash
# image/build.sh [PAYLOAD_MB]: prints a folder with user.raw, user.raw.gz, user.qcow2 (and sums): a bootable whole-disk
# image of about 60 MB, made of Debian's packages without root, mounts or loop devices. It boots by itself on BIOS
# (syslinux) and on UEFI (shim and grub as Debian signed them), and prints a marker and the config
# drive's meta_data on the serial console. With PAYLOAD_MB it carries that much incompressible data in a third
# partition, which its init checks; only the raw form is made then.
#   partition 1: EFI system partition with loaders, kernel, initramfs
#   partition 2: ext4 "e2eroot" with busybox
cd "$(dirname "$0")/.."
. ./env.sh
payload_mb=${1:-0}
esp_mb=40
root_mb=12

build() {
  local out=$1 kernel work
  kernel=$(./kernel.sh)
  work=$(mktemp -d)

  mkdir -p "$work"/root/{bin,sbin,proc,sys,dev,etc,mnt,tmp}
  cp /bin/busybox "$work/root/bin/"
  install -m755 image/init "$work/root/sbin/init"
  echo "$(basename "$out" .part)" > "$work/root/etc/marker"
  if [ "$payload_mb" -gt 0 ]; then
    head -c "${payload_mb}M" /dev/urandom > "$work/payload"
    echo "$(sha256sum < "$work/payload" | cut -d' ' -f1) $payload_mb $((1 + esp_mb + root_mb))" > "$work/root/etc/payload.sha256"
  fi
  truncate -s "${root_mb}M" "$work/root.ext4"
  mkfs.ext4 -q -F -L e2eroot -E root_owner=0:0 -d "$work/root" "$work/root.ext4"

  mkdir -p "$work"/initramfs/{bin,proc,sys,dev,new,modules}
  cp /bin/busybox "$work/initramfs/bin/"
  install -m755 image/initramfs-init "$work/initramfs/init"
  grep -vE '^(e1000e?|efivarfs|virtio_net|failover|net_failover)\.ko$' "$kernel/modules/order" > "$work/initramfs/modules/order"
  (cd "$kernel/modules" && xargs cp -t "$work/initramfs/modules" < "$work/initramfs/modules/order")
  (cd "$work/initramfs" && find . | cpio -o -H newc -R 0:0 --quiet | gzip -9n) > "$work/initrd"

  local arguments="console=ttyS0 panic=1"
  printf 'DEFAULT d\nPROMPT 0\nTIMEOUT 1\nSERIAL 0 115200\nLABEL d\n KERNEL /vmlinuz\n APPEND initrd=/initrd %s\n' "$arguments" > "$work/syslinux.cfg"
  printf 'set timeout=0\nmenuentry d {\n linux /vmlinuz %s\n initrd /initrd\n}\n' "$arguments" > "$work/grub.cfg"
  local esp=$work/esp.fat
  truncate -s "${esp_mb}M" "$esp"
  mkfs.vfat -n ESP "$esp" > /dev/null
  mmd -i "$esp" ::/EFI ::/EFI/BOOT ::/EFI/debian
  mcopy -i "$esp" /usr/lib/shim/shimx64.efi.signed ::/EFI/BOOT/BOOTX64.EFI
  mcopy -i "$esp" /usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed ::/EFI/BOOT/grubx64.efi
  mcopy -i "$esp" "$work/grub.cfg" ::/EFI/debian/grub.cfg
  mcopy -i "$esp" "$work/syslinux.cfg" "$kernel/vmlinuz" "$work/initrd" ::/

  local image=$out/user.raw
  truncate -s $((esp_mb + root_mb + payload_mb + 2))M "$image"
  local third=()
  [ "$payload_mb" -gt 0 ] && third=(-n "3:0:+${payload_mb}M" -t 3:8300 -c 3:payload)
  # attribute 2: legacy BIOS bootable
  sgdisk -a 2048 -n "1:2048:+${esp_mb}M" -t 1:ef00 -c 1:ESP -A 1:set:2 -n "2:0:+${root_mb}M" -t 2:8300 -c 2:e2eroot \
    "${third[@]}" "$image" > /dev/null
  dd if="$esp" of="$image" bs=1M seek=1 conv=notrunc status=none
  dd if="$work/root.ext4" of="$image" bs=1M seek=$((1 + esp_mb)) conv=notrunc status=none
  [ "$payload_mb" -gt 0 ] && dd if="$work/payload" of="$image" bs=1M seek=$((1 + esp_mb + root_mb)) conv=notrunc status=none
  syslinux --install -t $((1024 * 1024)) "$image"
  dd if=/usr/lib/syslinux/mbr/gptmbr.bin of="$image" bs=440 count=1 conv=notrunc status=none
  if [ "$payload_mb" = 0 ]; then
    qemu-img convert -O qcow2 -c "$image" "$out/user.qcow2"
    gzip -6k "$image"
  fi
  (cd "$out" && sha256sum user.* > sums)
  rm -rf "$work"
  ls -ls "$out"
}

cached "image$payload_mb" "$(./kernel.sh)" "$payload_mb" image/build.sh image/init image/initramfs-init -- build
