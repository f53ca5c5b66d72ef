#!/bin/bash
# install.sh [DIR]: a real Keystone and a small server for it, from PyPI. Does nothing, quickly, when it is there.
# Prints the Python of its environment; serve.py and people.py run with that.
set -eu
cd "$(dirname "$0")"
dir=${1:-${FERRIC_KEYSTONE:-$PWD/../../target/keystone}}
packages="keystone==30.0.0 cheroot==11.1.2"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

exec 8> "$dir/install.lock"
flock 8
if [ "$(cat "$dir/stamp" 2> /dev/null)" != "$packages" ]; then
  python=""
  # Keystone 30 needs Python 3.11
  for candidate in python3.12 python3.13 python3.11 "$HOME"/.pyenv/versions/3.1[123]*/bin/python3 python3; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
      python=$candidate
      break
    fi
  done
  [ -n "$python" ] || { echo "install.sh: no Python 3.11 or newer with venv; install python3 and python3-venv" >&2; exit 1; }
  rm -rf "$dir/venv"
  "$python" -m venv "$dir/venv" >&2
  # shellcheck disable=SC2086  # word splitting is meant
  "$dir/venv/bin/pip" install --quiet --disable-pip-version-check $packages >&2
  "$dir/venv/bin/python" -c 'import keystone, cheroot' >&2
  echo "$packages" > "$dir/stamp"
fi
echo "$dir/venv/bin/python"
