#!/usr/bin/env bash
# Writes requirements.lock: resolves pyproject.toml in a throw-away environment and freezes it.
# Usage: tools/lock.sh [python3]
set -eu
cd "$(dirname "$0")/.."
python=${1:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/venv"
# Named as extras of the project itself, so that the list stands in pyproject.toml alone.
"$scratch/venv/bin/python" -m pip install --disable-pip-version-check --quiet 'hatchling>=1.25' \
    -e '.[test,lint,fast,bench,boards,text,estimate,gguf,chat]'
{
    echo "# Written by \`make lock\`: the versions that \`make setup\` installs."
    echo "# Extras test, lint, fast, bench, boards, text, estimate, gguf and chat."
    echo "# hatchling installs the project itself."
    "$scratch/venv/bin/python" -m pip freeze --disable-pip-version-check --exclude-editable
} >"$scratch/lock"
cp "$scratch/lock" requirements.lock
