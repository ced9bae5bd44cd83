#!/usr/bin/env bash
# Install what the tests of the TPM path start: swtpm, a resource manager for it on a D-Bus of its own, and the TSS with
# its Python binding, built from source (45 s).
# Usage: tpm-library.sh VENV
set -euo pipefail
python=$1/bin/python
cd "$(dirname "$0")/.."
missing=()
command -v swtpm >/dev/null || missing+=(swtpm)
command -v swtpm_localca >/dev/null || missing+=(swtpm-tools)
command -v dbus-daemon >/dev/null || missing+=(dbus-daemon)
[ -x /usr/sbin/tpm2-abrmd ] || missing+=(tpm2-abrmd)
compgen -G '/usr/lib/*/libtss2-tcti-tabrmd.so.0' >/dev/null || missing+=(libtss2-tcti-tabrmd0)
if ! "$python" -c 'import tpm2_pytss' 2>/dev/null; then
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
    command -v pkg-config >/dev/null || missing+=(pkg-config)
    pkg-config --exists tss2-esys 2>/dev/null || missing+=(libtss2-dev)
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ -e "$headers/Python.h" ] || missing+=("python$version-dev")
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "== installing ${missing[*]}"
    tools/apt-install.sh "${missing[@]}"
fi
if ! "$python" -c 'import tpm2_pytss' 2>/dev/null; then
    echo "== building tpm2-pytss"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/tpm.txt
fi
