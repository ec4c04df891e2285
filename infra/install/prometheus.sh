#!/bin/sh
# Installs Debian's Prometheus for the tests of dashboards and alerts, where it is absent and can be had. Nothing else needs
# it, so that it is never a reason to fail: those tests are then left out, and say so.
set -eu
if command -v prometheus >/dev/null 2>&1; then exit 0; fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
  echo 'prometheus was not found: the tests of dashboards and alerts will be skipped. On Debian as root:  apt-get install -y prometheus' >&2
  exit 0
fi
echo 'Installing prometheus for the tests …'
# RUNLEVEL=1: the package must not start a server of its own.
if ! { apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus >/dev/null; }; then
  echo 'prometheus could not be installed: the tests of dashboards and alerts will be skipped.' >&2
fi
