#!/usr/bin/env bash
# Install Debian packages, quietly. Usage: apt-install.sh PACKAGE...
set -euo pipefail
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "error: these packages are missing and this user cannot install them: $*" >&2
    echo "  fix: as root, run: apt-get install $*" >&2
    exit 5
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get -qq update && apt-get -qq install -y --no-install-recommends "$@"; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 5
fi
