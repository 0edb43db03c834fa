#!/usr/bin/env bash
# Makes .venv and installs a hashed lock into it, only when the lock changed. Usage: env.sh local|dev
set -euo pipefail
cd "$(dirname "$0")/../.."
kind=${1:?local or dev}
venv=.venv
lock=requirements-$kind.txt

digest() { sha256sum "requirements-$1.txt" | cut -d' ' -f1; }
installed() { [ "$(cat "$venv/.installed-$1" 2>/dev/null)" = "$(digest "$1")" ]; }

find_python() {
  local name
  for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  echo "Python 3.11 or newer was not found (set PYTHON=/path/to/python3)." >&2
  return 1
}

make_venv() {
  local python
  python=$(find_python)
  echo "Making $venv with $("$python" --version) ..."
  rm -rf "$venv"
  if ! "$python" -m venv "$venv"; then
    rm -rf "$venv"
    echo "$python cannot make virtual environments. On Debian: apt-get install python3-venv" >&2
    return 1
  fi
}

install_lock() {
  local log=$venv/install-$kind.log all
  all=$(grep -c '^[a-zA-Z]' "$lock")
  echo "Installing up to $all packages of $lock ..."
  if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
    --require-hashes -r "$lock" 2>&1 | tee "$log" | awk '
      /^Collecting/ { if (++n % 15 == 0) { print "  " n " packages fetched"; fflush() } }
      /^Installing collected/ { print "  unpacking " n " packages"; fflush() }'; then
    tail -n 15 "$log" >&2
    echo "The packages could not be installed; the whole log is in $log." >&2
    return 1
  fi
}

"$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || make_venv
# The development lock holds everything of the local one, in the same versions.
if installed "$kind" || { [ "$kind" = local ] && installed dev; }; then exit 0; fi
install_lock
digest "$kind" >"$venv/.installed-$kind"
