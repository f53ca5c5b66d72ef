#!/bin/bash
# scripts/apt.sh PACKAGE...: installs what is missing of Debian's packages; quick when nothing is.
set -euo pipefail

installed() { dpkg-query -W -f '${db:Status-Abbrev}\n' "$1" 2> /dev/null | grep -q '^ii'; }

missing=() qemu=
for package; do
  installed "$package" && continue
  case $package in qemu-*) qemu=yes ;; *) missing+=("$package") ;; esac
done
[ "${#missing[@]}" -gt 0 ] || [ -n "$qemu" ] || exit 0

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get update -q
if [ -n "$qemu" ]; then
  # All of QEMU from one source: some machines carry a newer qemu-utils from elsewhere, and QEMU's packages of different
  # versions exclude each other.
  version=$(apt-cache policy qemu-system-x86 | awk '/Candidate:/ { print $2 }')
  missing+=("qemu-system-x86=$version" "qemu-utils=$version")
  if installed qemu-block-extra; then missing+=("qemu-block-extra=$version"); fi
fi
# A package's daemon (tgt's, on port 3260 of every address) is not started: whoever needs one starts his own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin "$policy"
fi
echo "apt-get install ${missing[*]}"
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -q --no-install-recommends --allow-downgrades "${missing[@]}"
