#!/bin/sh
# Installs the packages of the lock file, the pinned Node among them. Needs npm; any Node from 18 on will do for that.
set -eu
if ! command -v npm >/dev/null 2>&1; then
  echo 'npm was not found. Install it first, on Debian with:  apt-get install -y npm' >&2
  exit 1
fi
echo 'Installing packages …'
npm ci --no-audit --no-fund --loglevel=error
# npm runs only the install scripts that package.json allows; Node's own puts the binary in place.
if ! node_modules/.bin/node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 24 ? 0 : 1)' 2>/dev/null; then
  npm rebuild node --no-audit --no-fund --loglevel=error
fi
node_modules/.bin/node -e 'if (Number(process.versions.node.split(".")[0]) < 24) { console.error(`The pinned Node was not installed: this is ${process.versions.node}; expected 24 or later`); process.exit(1) }'
