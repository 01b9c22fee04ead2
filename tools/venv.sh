#!/usr/bin/env bash
# Put the package at $1 ('.' or '.[dev]'), editable, into .venv, made when missing.
# uv does the work: the one on PATH, else one from the package index, kept inside .venv.
set -euo pipefail
cd "$(dirname "$0")/.."

works() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

if ! works .venv/bin/python; then
    for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python}; do works "$python" && break || python=; done
    if [ -z "$python" ] && [ -z "${PYTHON:-}" ]; then python=$(uv python find --no-python-downloads '>=3.10,<3.14' 2>/dev/null) || true; fi
    if [ -z "$python" ]; then
        found=$("${PYTHON:-python3}" --version 2>&1 | head -n 1) || found='not there'
        echo "mtssl needs Python 3.10, 3.11, 3.12 or 3.13, but ${PYTHON:-python3} is ${found}: install one of them, or name it with make ... PYTHON=/path/to/python3.12." >&2
        exit 1
    fi
    rm -rf .venv
fi

for uv in uv .venv/bin/uv .venv/uv/bin/uv; do "$uv" --version >/dev/null 2>&1 && break || uv=; done
if [ "$uv" = uv ]; then
    [ -d .venv ] || uv venv --quiet --python "$python" .venv
elif [ -z "$uv" ]; then
    # Without ensurepip (Debian's python3 alone) a new environment has no pip, but the system's pip may install into a folder of ours.
    [ -d .venv ] || "$python" -m venv .venv >/dev/null 2>&1 || "$python" -m venv --clear --without-pip .venv
    pip='-m pip install --quiet --disable-pip-version-check'
    if .venv/bin/python -m pip --version >/dev/null 2>&1; then .venv/bin/python $pip uv; uv=.venv/bin/uv
    elif "${python:-python3}" $pip --target .venv/uv uv; then uv=.venv/uv/bin/uv
    else
        echo "mtssl is installed by uv, and here is neither uv nor pip: install uv (https://docs.astral.sh/uv) or your system's python3-venv, and try again." >&2
        exit 1
    fi
fi

[ -t 2 ] && quiet= || quiet=--quiet
echo "Installing $1 into .venv (6 to 8 GB the first time, most of it torch with its libraries for GPUs)"
$uv pip install $quiet --python .venv/bin/python --editable "$1"
