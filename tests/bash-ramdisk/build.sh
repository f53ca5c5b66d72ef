#!/bin/bash
# build.sh OUT: puts OUT/kernel and OUT/ramdisk there, a deploy ramdisk of the Kilo era's protocol (see init). Made of
# Debian's packages: its cloud kernel with the kernel's own iSCSI target, bash, blkid and busybox. Built once per content, into
# the cache of tests/e2e. Without OUT it prints the folder in the cache.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:+$(realpath -m "$1")}
cd "$here/../e2e" || exit 1
. ./env.sh

modules="virtio_pci virtio_net virtio_blk virtio_scsi virtio_rng sd_mod ahci ata_piix e1000 af_packet configfs
target_core_mod target_core_iblock iscsi_target_mod crc32c_intel ext4 xfs vfat nls_cp437 nls_ascii nls_utf8 efivarfs"

# unpacked PACKAGE: prints the folder of its files, downloaded once. `ferric ramdisk build` keeps its packages so too.
unpacked() {
  local tree=$CACHE/packages/$1 work
  if [ ! -d "$tree" ]; then
    mkdir -p "$CACHE/packages"
    work=$(mktemp -d "$CACHE/packages/.$1.XXXXXX")
    (cd "$work" && apt-get download -q "$1" > /dev/null && dpkg-deb -x ./*.deb tree)
    [ -d "$tree" ] || mv -T "$work/tree" "$tree"
    rm -rf "$work"
  fi
  echo "$tree"
}

build() {
  local to=$1 kernel version tree module path
  kernel=$(unpacked "$package")
  version=$(basename "$kernel"/lib/modules/*)
  tree=$(mktemp -d)
  # depmod writes beside the modules, and the cache is not ours alone
  mkdir -p "$tree/all/lib/modules"
  cp -al "$kernel/lib/modules/$version" "$tree/all/lib/modules/"
  depmod -b "$tree/all" "$version"
  mkdir -p "$tree/root"/{bin,sbin,dev,proc,sys,run,tmp,mnt,etc,lib64,usr/bin,usr/sbin}
  for module in $modules; do
    # a module that is built in has no insmod line
    { modprobe -d "$tree/all" -S "$version" --show-depends "$module" 2> /dev/null || true; } |
      sed -n 's/^insmod \([^ ]*\).*/\1/p' | while read -r path; do
        install -D -m 644 "$path" "$tree/root/${path#"$tree/all/"}"
      done
  done
  cp "$kernel"/lib/modules/"$version"/modules.{builtin,builtin.modinfo,order} "$tree/root/lib/modules/$version/"
  depmod -b "$tree/root" "$version"
  cp "$(unpacked busybox-static)"/bin/busybox "$tree/root/bin/busybox"
  local applet
  for applet in $("$tree/root/bin/busybox" --list); do
    [ "$applet" = busybox ] || [ "$applet" = bash ] || ln -sf /bin/busybox "$tree/root/bin/$applet"
  done
  ln -s /bin/busybox "$tree/root/sbin/modprobe"
  # this machine's, which are Debian's, with the libraries that they load; busybox has no blkid
  local program
  for program in /bin/bash /usr/sbin/blkid; do
    install -D -m 755 "$program" "$tree/root$program"
    ldd "$program" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | while read -r path; do
      install -D -m 755 "$path" "$tree/root$path"
    done
  done
  install -m 755 "$here/init" "$tree/root/init"
  install -m 755 "$here/udhcpc.sh" "$tree/root/etc/udhcpc.sh"
  (cd "$tree/root" && find . -print0 | sort -z | cpio --quiet -0 -o -H newc -R 0:0 | gzip -n -9) > "$to/ramdisk"
  cp "$kernel/boot/vmlinuz-$version" "$to/kernel"
  rm -rf "$tree"
}

package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends:/ { print $2; exit }')
[ -n "$package" ] || { echo "apt knows no linux-image-cloud-amd64: run apt-get update" >&2; exit 1; }
made=$(cached bash-ramdisk "$package" "$here/build.sh" "$here/init" "$here/udhcpc.sh" -- build)
if [ -n "$out" ]; then
  mkdir -p "$out"
  cp "$made/kernel" "$made/ramdisk" "$out/"
  echo "$out"
else
  echo "$made"
fi
