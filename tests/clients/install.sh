#!/bin/bash
# install.sh: the clients that are tested, from PyPI, into an environment of their own. Does nothing, quickly, when it
# is there. Prints its folder.
cd "$(dirname "$0")"
. ../e2e/env.sh
packages="python-openstackclient==10.5.0 python-ironicclient==6.3.0 openstacksdk==4.22.0 metalsmith==2.5.0
  sushy==5.14.0 oslotest==6.1.1 testtools==2.9.1 fixtures==4.3.2 testscenarios==0.7.0"

../../scripts/apt.sh python3 python3-venv python3-pip >&2

# A Python environment knows its own place, so it is made where it stays; the stamp beside it says that it is complete.
venv() {
  rm -rf "$CACHE/venv-clients"
  python3 -m venv "$CACHE/venv-clients"
  # shellcheck disable=SC2086
  "$CACHE/venv-clients/bin/pip" install --quiet --disable-pip-version-check $packages
  "$CACHE/venv-clients/bin/openstack" --version > "$1/version"
}
cached proofs "$packages" -- venv > /dev/null
echo "$CACHE/venv-clients"
