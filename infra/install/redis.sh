#!/bin/sh
# Makes sure that a redis-server of version 7 or later is on the PATH; installs Debian's where there is none.
set -eu
if command -v redis-server >/dev/null 2>&1; then exit 0; fi
command='apt-get update && apt-get install -y --no-install-recommends redis-server'
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
  echo "redis-server was not found and cannot be installed from here. Install Redis 7 or later, on Debian as root with:" >&2
  echo "  $command" >&2
  exit 1
fi
echo 'Installing redis-server …'
# RUNLEVEL=1: the package must not start a server of its own; nrdot starts a private one.
if ! { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server >/dev/null; }; then
  echo "redis-server could not be installed. Try:" >&2
  echo "  $command" >&2
  exit 1
fi
