#!/usr/bin/env bash
# Installs Debian's nginx and Caddy for the tests of other people's gateways (or the packages that are named, for `make bench`)
# when they are missing and we may; never fails: the run says what did not run. Their services are not started: tests and
# benchmarks start servers of their own.
set -u
PATH=$PATH:/usr/sbin:/sbin
names=("$@") missing=()
[ $# -gt 0 ] || names=(nginx caddy)
has() { command -v "$1" >/dev/null || dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }
for name in "${names[@]}"; do has "$name" || missing+=("$name"); done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "${missing[*]}: missing, and only root can install them (apt-get install ${missing[*]}): what needs them will not run." >&2
  exit 0
fi
echo "Installing ${missing[*]} to compare with and to stand before ..."
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && trap 'rm -f "$policy"' EXIT; }
apt-get update -q >"$log" 2>&1 </dev/null
for name in "${missing[@]}"; do # one by one: where Debian lacks one, the other is installed
  if ! apt-get install -y -q --no-install-recommends "$name" >"$log" 2>&1 </dev/null; then
    tail -n 5 "$log" >&2
    echo "$name could not be installed: what needs it will not run." >&2
  fi
done
rm -f "$log"
