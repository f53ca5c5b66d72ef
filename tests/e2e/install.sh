#!/bin/bash
# install.sh: what the end-to-end tests need from Debian 12 and from PyPI. Does nothing, quickly, when it is all there.
# Prints the folder of the clients' Python environment.
cd "$(dirname "$0")"
. ./env.sh
clients="python-openstackclient==10.5.0 python-ironicclient==6.3.0"

exec 8> "$CACHE/install.lock"
flock 8
# shellcheck disable=SC2046  # word splitting is meant
../../scripts/apt.sh $(tr '\n' ' ' << 'LIST'
qemu-system-x86 qemu-utils seabios ovmf ipxe ipxe-qemu pxelinux syslinux syslinux-common grub-efi-amd64-signed shim-signed
openipmi ipmitool socat iproute2 kmod cpio xorriso mtools dosfstools e2fsprogs gdisk fdisk busybox-static binutils zstd xz-utils
python3 python3-venv python3-pip util-linux debootstrap
LIST
) >&2 8>&-
# the kernel packages are only downloaded, which needs apt's lists
apt-cache show linux-image-cloud-amd64 > /dev/null 2>&1 || apt-get update -q >&2
exec 8>&-

# A Python environment knows its own place, so it is made where it stays; the stamp beside it says that it is complete.
venv() {
  rm -rf "$CACHE/venv"
  python3 -m venv "$CACHE/venv"
  # shellcheck disable=SC2086
  "$CACHE/venv/bin/pip" install --quiet --disable-pip-version-check $clients
  "$CACHE/venv/bin/openstack" --version > "$1/version"
}
cached clients "$clients" -- venv > /dev/null
echo "$CACHE/venv"
