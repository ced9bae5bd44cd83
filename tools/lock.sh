#!/usr/bin/env bash
# Renew the lock files: every package with its hashes, for every Python from 3.11 on, without any download address.
# Usage: lock.sh UV
set -euo pipefail
uv=$1
cd "$(dirname "$0")/.."
common=(--quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header)
"$uv" pip compile "${common[@]}" --extra proxy --extra loader -o requirements/runtime.txt pyproject.toml
"$uv" pip compile "${common[@]}" --all-extras --group dev -o requirements/dev.txt pyproject.toml
