#!/usr/bin/env bash
# Makes .venv and installs VQWave into it. Run it as often as you like: it takes seconds when there is nothing to do.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: bash setup.sh [--demo] [--test] [--no-apt] [--help]

Makes the Python environment .venv beside this file, installs VQWave into it in editable mode and prepares the shipped
models for playing. It skips what is done already; if it was interrupted, run it again.

  --demo     installs only what plays (400 MB), and makes 20 seconds of music from the shipped weights: demo.wav
  --test     then runs ruff, mypy and the tests
  --no-apt   installs no Debian package; shows the command instead
  --help     shows this

As root, or with passwordless sudo, it installs these Debian packages through apt if they are missing:
  portaudio19-dev gcc python3.X-dev   for live playback (without them music goes to files)
  python3.X-venv                      where Python has no venv module
  chromium, firefox-esr, pulseaudio   with --test, for the tests of the pages (skipped without them)
With --test and npm, it also fetches axe-core, which tests the accessibility of the pages, into .venv, and
ONNX Runtime Web, with which pages play without a server, into the cache.
Otherwise it shows the command to type, and goes on without them where it can.

Without --demo it installs training, pictures and tests too (3.9 GB). Outside this folder it writes ~/.cache/vqwave
(the exported models, 70 MB; VQWAVE_CACHE moves it) and pip's cache; the libraries leave ~/.keras and ~/.cache/matplotlib.

An NVIDIA GPU (one that nvidia-smi shows) adds TensorFlow's CUDA libraries.

  PYTHON=python3.12 bash setup.sh    uses that Python (3.11 or later) in place of python3
HELP
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup.sh: $*"; exit 2; }

demo=no test=no apt=yes
for argument in "$@"; do
    case $argument in
        --demo) demo=yes ;;
        --test) test=yes ;;
        --no-apt) apt=no ;;
        -h | --help) usage; exit 0 ;;
        *) fail "unknown argument '$argument' (see bash setup.sh --help)" ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")"
# What points a Python or pip elsewhere must not reach into the environment made here.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV
PATH=${PATH//"$PWD/.venv/bin:"/}
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1

venv=.venv
py=$venv/bin/python
# Of locks/: what plays, or also training and tests.
lock=dev
if [ $demo = yes ] && [ $test = no ]; then lock=play; fi
stamp=$venv/setup-stamp
log=$venv/setup.log

# ---- what there is -------------------------------------------------------------------------------------------------
# The Python that was asked for, else the one the environment was made with, else the system's.
find_python() {
    local candidate current
    current=$("$py" -c 'import sys; print(sys._base_executable)' 2>/dev/null) || current=
    for candidate in ${PYTHON:+"$PYTHON"} ${current:+"$current"} python3 python3.{13,12,11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
        [ "$candidate" != "${PYTHON:-}" ] || fail "PYTHON=$PYTHON is not a Python 3.11 or later"
    done
    fail "Python 3.11 or later is needed and python3 is not one: install it, or name one with PYTHON=/path/to/python3"
}

has_gpu() { [[ $(nvidia-smi -L 2>/dev/null) == GPU* ]]; }

# PyAudio comes as source: it takes PortAudio's and Python's headers and a compiler.
can_build_pyaudio() {
    local include
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    command -v cc >/dev/null || command -v gcc >/dev/null || return 1
    [ -e "$include/Python.h" ] || return 1
    local folder
    for folder in /usr/include /usr/local/include /opt/homebrew/include; do
        [ ! -e "$folder/portaudio.h" ] || return 0
    done
    return 1
}

has_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null

# Firefox plays nothing without a sound server.
has_firefox() { command -v firefox-esr && command -v pulseaudio; } >/dev/null

has_pyaudio() { "$py" -c 'import pyaudio' 2>/dev/null; }

works() {
    [ -x "$py" ] && "$py" - "$PWD" "$lock" 2>/dev/null <<'PY'
import importlib.util
import pathlib
import sys

import av, fastapi, h5py, numpy, onnxruntime, uvicorn, yaml  # noqa: E401, F401
import pip, vqwave  # noqa: E401, F401

training = "tensorflow", "keras", "onnx", "tf2onnx", "matplotlib", "pytest", "xdist", "playwright", "tensorboard"
for module in training if sys.argv[2] == "dev" else ():
    assert importlib.util.find_spec(module), module
# A checkout that was moved or copied has an environment that still points to the old place.
assert pathlib.Path(sys.argv[1], "lib").resolve() in pathlib.Path(next(iter(vqwave.__path__))).resolve().parents
PY
}

hash_of_stdin() { "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'; }

# What the environment depends on, in one word.
key() {
    {
        cat pyproject.toml setup.py setup.sh locks/*.txt
        echo "$lock"
        "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
        if has_gpu; then echo gpu; fi
        if can_build_pyaudio; then echo playback; fi
    } | hash_of_stdin
}

# ---- apt -----------------------------------------------------------------------------------------------------------
as_root() {
    if [ "$(id -u)" = 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    else
        sudo -n env DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

# Installs packages, or returns 1 where that is not possible.
apt_install() {
    [ $apt = yes ] || return 1
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || return 1
    local named="${*/--no-install-recommends/}"
    say "Installing ${named% } (apt) ..."
    as_root apt-get install -y -qq "$@" </dev/null >/dev/null 2>&1 && return
    # A fresh machine has no package lists yet.
    as_root apt-get update -qq </dev/null >/dev/null 2>&1 || true
    as_root apt-get install -y -qq "$@" </dev/null >/dev/null 2>&1
}

# ---- installing ----------------------------------------------------------------------------------------------------
# Runs a command into the log; on a terminal shows how long it has run and what it is at.
logged() {
    local started=$SECONDS status=0
    "$@" >"$log" 2>&1 &
    child=$!
    while [ -t 2 ] && kill -0 "$child" 2>/dev/null; do
        printf '\r\033[K  %3d s  %.90s' $((SECONDS - started)) "$(tail -n 1 "$log" | tr -d '\r')" >&2
        sleep 1
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
    wait "$child" || status=$?
    child=
    return $status
}

unreachable() { grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Max retries' "$log"; }

why() {
    if grep -q 'No space left' "$log"; then
        echo "no space left on the disk (about 4 GB are needed, 9 GB with CUDA, 0.5 GB with --demo)"
    elif unreachable; then
        echo "the package index cannot be reached; is there a network?"
    elif grep -q 'No matching distribution found for' "$log"; then
        echo "there is no $(sed -n 's/.*No matching distribution found for \([^ ]*\).*/\1/p' "$log" | head -n 1) for $("$python" -V)" \
            "on this system; name another Python: PYTHON=python3.12 bash setup.sh"
    elif grep -q 'DO NOT MATCH THE HASHES' "$log"; then
        echo "$(sed -n 's/^    \([^ ]*==[^ ]*\) from .*/\1/p' "$log" | head -n 1) does not match its hash in locks/"
    else
        { grep -E '^(ERROR|error):' "$log" || tail -n 1 "$log"; } | tail -n 1 | cut -c 1-300
    fi
}

make_venv() {
    if "$py" -m pip --version >/dev/null 2>&1; then
        # Kept, unless it is of another Python than the one asked for.
        [ "$("$py" -c 'import sys; print(sys.version)')" != "$("$python" -c 'import sys; print(sys.version)')" ] || return 0
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        local package
        package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        apt_install "$package" || true
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "Python's venv module is missing; install it and run this again: sudo apt-get install $package"
    fi
    say "Making $venv with $("$python" -V) ..."
    local output
    output=$("$python" -m venv --clear "$venv" 2>&1) ||
        fail "$python -m venv $venv failed: $(tail -n 1 <<<"$output")"
}

# install_lock LOCK ARGUMENT...: the packages of a lock file and no other versions or files.
install_lock() { logged "$py" -m pip install --require-hashes -r "locks/$1.txt" "${@:2}"; }

install_playback() {
    if ! can_build_pyaudio; then
        apt_install "${playback_packages[@]}" || true
        can_build_pyaudio || return 0
    fi
    install_lock playback --no-build-isolation || say "PyAudio could not be built: $(why)"
}

install() {
    make_venv
    rm -f "$stamp"
    if [ $lock = play ]; then
        say "Installing what plays into $venv (ONNX Runtime, ...: about 400 MB) ..."
    else
        say "Installing into $venv (TensorFlow, ONNX Runtime, ...: about 3.9 GB, minutes the first time) ..."
    fi
    install_lock "$lock" --only-binary :all: ||
        fail "pip could not install the dependencies: $(why) (pip's words: $log)"
    if [ $lock = dev ] && has_gpu; then
        say "An NVIDIA GPU is here: adding TensorFlow's CUDA libraries ..."
        install_lock cuda --only-binary :all: ||
            say "The CUDA libraries could not be installed ($(why)); going on without."
    fi
    logged "$py" -m pip install --no-deps --no-build-isolation -e . ||
        fail "pip could not install VQWave: $(why) (pip's words: $log)"
    install_playback
    works || fail "the environment does not work after installing; remove it and run this again: rm -r $venv"
    key >"$stamp.new"
    mv "$stamp.new" "$stamp"
}

# ---- the run -------------------------------------------------------------------------------------------------------
child='' installed=no
# Jobs in the background of a script do not hear Ctrl-C themselves.
trap '[ -z "$child" ] || kill "$child" 2>/dev/null; say; say "setup.sh: stopped; run it again to go on"; exit 130' INT TERM

python=$(find_python)
playback_packages=(portaudio19-dev gcc "$("$python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')")

# Two runs at once take turns (where flock exists).
exec 9<.
if command -v flock >/dev/null && ! flock -n 9; then
    say "Another setup.sh is at work here; waiting for it ..."
    flock 9 || true
fi
# What trains plays, too.
if [ "$(cat "$stamp" 2>/dev/null)" = "$(lock=dev; key)" ]; then lock=dev; fi
if [ "$(cat "$stamp" 2>/dev/null)" != "$(key)" ] || ! works; then
    install
    installed=yes
fi
if ! has_pyaudio; then
    say "Without live playback (music goes to files). To have it: sudo apt-get install ${playback_packages[*]} && bash setup.sh"
fi
if [ $lock = dev ] && compgen -G 'final_weights/vqvae_*_decoder.weights.h5' >/dev/null; then
    # Its graphs are cached: seconds when they are there.
    [ $installed = no ] || say "Preparing the shipped models for playing ..."
    logged "$py" scripts/export.py ||
        fail "the shipped weights could not be made ready for playing: $(tail -n 1 "$log")"
fi
exec 9<&-

if [ $demo = yes ]; then
    say "Generating 20 seconds of music ..."
    "$py" scripts/generate_audio.py --seconds 20 --seed 1 --output demo.wav --force
    say "Listen to it: $PWD/demo.wav    Live, without end: source activate.sh && vqwave play"
    [ $lock = dev ] || say "To train on your own music, and for pictures: bash setup.sh (3.9 GB)"
fi
if [ $test = yes ]; then
    has_chromium || apt_install chromium --no-install-recommends || true
    has_chromium || say "Without Chromium the tests of the studio's page are left out. To have them: sudo apt-get install chromium"
    has_firefox || apt_install firefox-esr pulseaudio --no-install-recommends || true
    has_firefox || say "Without Firefox one test is left out. To have it: sudo apt-get install firefox-esr pulseaudio"
    axe=$venv/axe/node_modules/axe-core/axe.min.js
    if ! [ -e "$axe" ] && command -v npm >/dev/null; then
        timeout 120 npm install --prefix "$venv/axe" --no-save --no-audit --no-fund --loglevel=error axe-core@4.14.1 >/dev/null || true
    fi
    [ -e "$axe" ] || say "Without axe-core (it needs npm and a network) the studio's page is not searched for barriers."
    "$py" -c 'from vqwave.studio.site import runtime; runtime()' >/dev/null 2>&1 ||
        say "Without ONNX Runtime Web (it needs npm) the page that export-web writes is not tested."
    "$py" -m ruff check .
    "$py" -m mypy
    # A process a core, up to eight: each holds TensorFlow. -rs: what was skipped, and why.
    workers=$("$py" -c 'import os; print(min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))')
    "$py" -m pytest -q -rs -m "not large" -n "$workers" --dist worksteal
elif [ $demo = no ]; then
    say "Ready. Enter the environment: source activate.sh    Hear it: vqwave play, or bash setup.sh --demo"
fi
