#!/bin/bash
# install.sh: schemathesis from PyPI, into a Python environment of its own. Does nothing, quickly, when it is there.
# Prints the environment's folder.
cd "$(dirname "$0")"
. ../e2e/env.sh
tools="schemathesis==4.32.5 hypothesis==6.170.15 jsonschema_rs==0.60.3"

exec 8> "$CACHE/install.lock"
flock 8
../../scripts/apt.sh python3 python3-venv python3-pip >&2 8>&-
exec 8>&-

# A Python environment knows its own place, so it is made where it stays; the stamp beside it says that it is complete.
venv() {
  rm -rf "$CACHE/schemathesis"
  python3 -m venv "$CACHE/schemathesis"
  # shellcheck disable=SC2086
  "$CACHE/schemathesis/bin/pip" install --quiet --disable-pip-version-check $tools
  "$CACHE/schemathesis/bin/schemathesis" --version > "$1/version"
}
cached schemathesis-stamp "$tools" -- venv > /dev/null
echo "$CACHE/schemathesis"
