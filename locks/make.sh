#!/usr/bin/env bash
# Makes the lock files from pyproject.toml. It needs uv (pip install uv). Versions that still fit stay as they are:
#   bash locks/make.sh                         after a change of the dependencies
#   bash locks/make.sh --upgrade               the newest versions of all packages
#   bash locks/make.sh --upgrade-package av    the newest version of av
# Each file has the hashes of all files of its packages, for Python 3.11 and later and for every system.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
all=$(mktemp)
trap 'rm "$all"' EXIT

# setuptools builds the package and PyAudio.
resolve() {
    uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-annotate \
        --no-header pyproject.toml - "$@" <<<setuptools
}

# lock NAME BASE EXTRA...: the packages for these extras that locks/BASE.txt lacks, at the versions in $all.
lock() {
    local name=$1 base=$2 extra packages=() arguments=()
    shift 2
    for extra in "$@"; do arguments+=(--extra "$extra"); done
    # Packages of some systems alone are listed again.
    [ -z "$base" ] || mapfile -t packages < <(sed -n 's/^\([a-z0-9-]*\)==[^;]*$/\1/p' locks/play.txt "locks/$base.txt")
    resolve -c "$all" "${arguments[@]}" "${packages[@]/#/--no-emit-package=}" >"$all.new"
    {
        echo "# Made by locks/make.sh."
        [ -z "$base" ] || echo "-r $base.txt"
        cat "$all.new"
    } >"locks/$name.txt"
    rm "$all.new"
}

sed '/^-r/d' locks/*.txt >"$all"
resolve --extra train --extra dev --extra cuda --extra playback "$@" -o "$all" >/dev/null
lock play ""
lock dev play train dev
lock cuda dev train dev cuda
lock playback play playback
