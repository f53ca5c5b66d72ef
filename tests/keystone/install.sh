#!/bin/bash
# install.sh [DIR]: a real Keystone and a small server for it, from PyPI, and a folder with people in it. Does nothing,
# quickly, when it is there. Prints DIR; serve.py and people.py run with DIR/venv/bin/python on copies of DIR/template.
set -eu
cd "$(dirname "$0")"
dir=${1:-${FERRIC_KEYSTONE:-$PWD/../../target/keystone}}
packages=$(sha256sum < keystone.lock | cut -c1-16)
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

exec 8> "$dir/install.lock"
flock 8
if [ "$(cat "$dir/stamp" 2> /dev/null)" != "$packages" ]; then
  python3 -c 'import venv, ensurepip' 2> /dev/null || ../../scripts/apt.sh python3 python3-venv >&2 8>&-
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
  "$dir/venv/bin/pip" install --quiet --disable-pip-version-check -r keystone.lock >&2
  "$dir/venv/bin/python" -c 'import keystone, cheroot' >&2
  rm -rf "$dir/template"
  echo "$packages" > "$dir/stamp"
fi
# A Keystone with its people, which tests copy: making them takes longer than any test.
if [ ! -e "$dir/template/people" ]; then
  rm -rf "$dir/template"
  coproc SERVE { exec "$dir/venv/bin/python" serve.py "$dir/template" 0 2> "$dir/template.log"; }
  pid=$SERVE_PID
  trap 'kill "$pid" 2> /dev/null' EXIT
  read -r _ url <&"${SERVE[0]}" || { cat "$dir/template.log" >&2; exit 1; }
  "$dir/venv/bin/python" people.py "$url" make >&2
  kill "$pid"
  wait "$pid" 2> /dev/null || true
  trap - EXIT
  touch "$dir/template/people"
fi
echo "$dir"
