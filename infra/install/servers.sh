#!/bin/sh
# Installs Debian's nginx, tinyproxy and squid for the tests of what people have before their backend, where they are absent and
# can be had. Nothing else needs them, so that they are never a reason to fail: those tests are then left out, and say so.
set -eu
missing=''
for program in nginx tinyproxy squid; do
  command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || missing="$missing $program"
done
if [ -z "$missing" ]; then exit 0; fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
  echo "not found:$missing; the tests behind them will be skipped. On Debian as root:  apt-get install -y$missing" >&2
  exit 0
fi
echo "Installing$missing for the tests …"
# RUNLEVEL=1: the packages must not start servers of their own.
# shellcheck disable=SC2086
if ! { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null; }; then
  echo "could not be installed:$missing; the tests behind them will be skipped." >&2
fi
