#!/usr/bin/env bash
# Make a virtual environment that holds exactly the locked packages, and this project in place.
# Usage: setup.sh PYTHON VENV
set -euo pipefail
python=$1
venv=$2
cd "$(dirname "$0")/.."

say() { printf '== %s\n' "$*"; }

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "error: $python is not a Python of version 3.11 or later; name one: make PYTHON=/path/to/python3.11 ..." >&2
    exit 2
fi
if ! "$python" -c 'import ensurepip' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    say "this Python has no ensurepip: installing python$version-venv"
    tools/apt-install.sh "python$version-venv"
fi
say "making $venv with $("$python" --version)"
"$python" -m venv --clear "$venv"
say "installing the locked packages (about 30 s)"
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e simulator
touch "$venv/.installed"
say "$venv is ready"
