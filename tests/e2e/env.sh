# Sourced by the build scripts of this folder.
set -euo pipefail
CACHE=${FERRIC_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ferric-e2e}
mkdir -p "$CACHE"

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }

# cached NAME KEY... -- COMMAND...
# Prints the folder CACHE/NAME-<hash of the keys' contents>. When it does not exist yet, COMMAND is run
# with an empty folder as its last argument, which takes that name only after COMMAND succeeded; so a
# folder that is there is complete. Builders of one thing in parallel wait for each other.
cached() {
  local name=$1 hash dir
  shift
  local keys=()
  while [ "$1" != -- ]; do keys+=("$1"); shift; done
  shift
  hash=$(for key in "${keys[@]}"; do if [ -f "$key" ]; then cat "$key"; else echo "$key"; fi; done | sha256sum | cut -c1-16)
  dir=$CACHE/$name-$hash
  if [ ! -d "$dir" ]; then
    exec 9> "$CACHE/$name.lock"
    flock 9
    if [ ! -d "$dir" ]; then
      say "building $name (once, into $dir)"
      rm -rf "$dir.part"
      mkdir -p "$dir.part"
      "$@" "$dir.part" >&2 9>&-
      mv "$dir.part" "$dir"
      say "built $name"
    fi
    exec 9>&-
  fi
  echo "$dir"
}
