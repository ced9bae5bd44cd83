#!/usr/bin/env bash
# Install the Debian package of each command that is missing (here package and command share their name).
# Usage: system-packages.sh COMMAND...
set -euo pipefail
missing=()
for command in "$@"; do
    command -v "$command" >/dev/null || missing+=("$command")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "== installing ${missing[*]}"
    "$(dirname "$0")/apt-install.sh" "${missing[@]}"
fi
