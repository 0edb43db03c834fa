#!/usr/bin/env bash
# Installs Debian's Chromium for the browser tests when it is missing and we may; never fails: the run says what did not run.
set -u
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "Chromium is missing and only root can install it (apt-get install chromium): browser tests will not run." >&2
  exit 0
fi
echo "Installing Chromium for the browser tests ..."
log=$(mktemp)
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update -q && apt-get install -y -q --no-install-recommends chromium; } >"$log" 2>&1 </dev/null; then
  tail -n 5 "$log" >&2
  echo "Chromium could not be installed: browser tests will not run." >&2
fi
rm -f "$log"
