#!/bin/bash
# kernel.sh: prints a folder with Debian's cloud kernel (vmlinuz) and the modules a small virtual machine
# needs (modules/*.ko, modules/order in loading order). Used by the user image and by the ramdisk of the
# unmodified agent; Ferric's own ramdisk is made by `ferric ramdisk build` and shares nothing with this.
cd "$(dirname "$0")"
. ./env.sh

modules="virtio_pci virtio_net virtio_blk virtio_scsi sd_mod ahci ata_piix e1000 e1000e efivarfs ext4 vfat \
nls_cp437 nls_ascii isofs"

build() {
  local out=$1 tree version
  tree=$(mktemp -d)
  (cd "$tree" && apt-get download -q "$package" && dpkg-deb -x ./*.deb .)
  version=$(ls "$tree/lib/modules")
  cp "$tree/boot/vmlinuz-$version" "$out/vmlinuz"
  depmod -b "$tree" "$version"
  mkdir "$out/modules"
  : > "$out/modules/order"
  local module path name
  for module in $modules; do
    # a module that is built in has no insmod line
    { modprobe -d "$tree" -S "$version" --show-depends "$module" 2>/dev/null || true; } |
      sed -n 's/^insmod \([^ ]*\).*/\1/p' | while read -r path; do
        name=$(basename "$path")
        [ -e "$out/modules/$name" ] && continue
        cp "$path" "$out/modules/$name"
        strip --strip-debug "$out/modules/$name"
        echo "$name" >> "$out/modules/order"
      done
  done
  rm -rf "$tree"
}

package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }')
[ -n "$package" ] || { echo "apt knows no linux-image-cloud-amd64: run apt-get update" >&2; exit 1; }
cached kernel "$package" "$modules" kernel.sh -- build
