#!/usr/bin/env bash
# Renew the lock files: every package with its hashes, for every Python from 3.11 on, without any download address.
# Usage: lock.sh UV
set -euo pipefail
uv=$1
cd "$(dirname "$0")/.."
common=(--quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header)
"$uv" pip compile "${common[@]}" --extra proxy --extra loader -o requirements/runtime.txt pyproject.toml
"$uv" pip compile "${common[@]}" --extra proxy --extra loader --extra grpc --extra measure --extra pkcs11 --extra recovery --group dev -o requirements/dev.txt pyproject.toml
# Built from source against a Debian package, so not for every machine: tools/tpm-library.sh installs it.
echo "tpm2-pytss>=3.0" | "$uv" pip compile "${common[@]}" --no-deps -o requirements/tpm.txt -
# What the extra `measure` adds to the rest.
echo "sev-snp-measure>=0.0.13" | "$uv" pip compile "${common[@]}" --no-deps -o requirements/measure.txt -
