#!/usr/bin/env bash
# Run the whole suite on the main environment, and on each further Python (3.11 and later) that this machine has the
# tests that start no process, but for those of every byte of something, which no interpreter changes. The last line printed is the closing line of the whole suite. Usage: test.sh VENV
set -uo pipefail
venv=$1
cd "$(dirname "$0")/.."

main_version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
failed=0

# Shims of version managers exist without working: only what runs counts. PYENV_ROOT's versions are looked at too.
candidates=$(
    { compgen -c python3. | grep -E '^python3\.(1[1-9]|[2-9][0-9])$'
      ls -d "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3.[1-9][0-9] 2>/dev/null; } | sort -u
)
seen=" $main_version "
for python in $candidates; do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case "$seen" in *" $version "*) continue ;; esac
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || continue
    seen="$seen$version "
    other=".venv-$version"
    if [ ! -e "$other/.installed" ] || [ requirements/dev.txt -nt "$other/.installed" ] || [ pyproject.toml -nt "$other/.installed" ]; then
        tools/setup.sh "$python" "$other" || { failed=1; continue; }
    fi
    echo "== tests without processes on Python $version"
    "$other/bin/python" -m pytest -q -n 2 --dist worksteal -m "not e2e and not exhaustive" || failed=1
done

echo "== every test on Python $main_version"
"$venv/bin/python" -m pytest -n 2 --dist worksteal || failed=1
exit $failed
