#!/bin/sh
# Installs uv into .tools/ with the machine's own Python; `make` calls this when uv is not on the PATH.
set -eu
python=${PYTHON:-python3}

"$python" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"Python {sys.version.split()[0]} is too old: 3.11 or newer is needed. "
             "Name another one with `make PYTHON=python3.12 …`.")
PY

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    # Debian keeps these two modules in a package of their own.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing the Debian package python3-venv"
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
    else
        echo "Python's venv module is missing: install the package python3-venv, then run this again" >&2
        exit 1
    fi
fi

echo "installing uv into .tools/"
"$python" -m venv .tools
.tools/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
