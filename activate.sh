#!/usr/bin/env bash
# Enters VQWave's environment: source activate.sh (leave it again with `deactivate`).
# shellcheck disable=SC1091
if ! (return 0 2>/dev/null); then
    echo "activate.sh: has to be sourced: source activate.sh" >&2
    exit 2
fi
# bash says where a sourced file is in BASH_SOURCE, zsh in $0.
_vqwave_root=$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")" && pwd)
if [ -f "$_vqwave_root/.venv/bin/activate" ]; then
    . "$_vqwave_root/.venv/bin/activate"
    unset _vqwave_root
else
    echo "activate.sh: there is no .venv yet; make it first: bash $_vqwave_root/setup.sh" >&2
    unset _vqwave_root
    return 2
fi
