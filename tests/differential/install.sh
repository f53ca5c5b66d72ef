#!/bin/bash
# install.sh: a real Ironic out of PyPI, every package pinned by ironic.lock. Prints the folder of its Python environment.
# FERRIC_IRONIC_VENV names one that is there already.
cd "$(dirname "$0")"
if [ -n "${FERRIC_IRONIC_VENV:-}" ]; then
  echo "$FERRIC_IRONIC_VENV"
  exit 0
fi
. ../e2e/env.sh

# Ironic needs Python 3.11 or newer.
python() {
  local one
  for one in python3.12 python3.11 python3.13 python3; do
    if "$one" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null; then
      echo "$one"
      return
    fi
  done
  say "no Python 3.11 to 3.13 found: apt-get install python3 python3-venv"
  return 1
}

# A Python environment knows its own place, so it is made where it stays; the stamp beside it says that it is complete.
venv() {
  rm -rf "$CACHE/ironic"
  "$(python)" -m venv "$CACHE/ironic"
  "$CACHE/ironic/bin/pip" install --quiet --disable-pip-version-check -r ironic.lock
  # else every start compiles it again where PYTHONDONTWRITEBYTECODE is set
  "$CACHE/ironic/bin/python" -m compileall -q "$CACHE/ironic/lib" > /dev/null 2>&1 || true
  "$CACHE/ironic/bin/ironic-dbsync" --version > "$1/version" 2>&1
}
cached ironic-venv ironic.lock -- venv > /dev/null
echo "$CACHE/ironic"
