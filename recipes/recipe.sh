# What the recipes share; sourced by recipes/NAME/run.sh, which says what is fetched:
#   package, music (the folder of music inside it), url and sha256 (of the package, for where there is no such apt), hours
# shellcheck shell=bash disable=SC2154
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
name=$(basename "$here")
cd "$here/../.."

usage() {
    cat <<HELP
usage: recipes/$name/run.sh [--hours H] [--music DIR] [--step STEP] [-- OPTION...]

$about

Fetches the music (Debian's $package, without installing it), prepares it, trains the compact
size at every level, evaluates, and fills RESULTS.md. What is done is not done again: the same command again goes on
where it was stopped. Needs $hardware.

  --hours H     for training, shared out over the eight models (default $hours)
  --music DIR   the music is here already
  --step STEP   do one step only: fetch, prepare, train or evaluate
  -- OPTION...  further options, of that step's script: prepare_audio.py, train_all.py or evaluate.py

The music goes to data/music/$name, its prepared form to data/$name, models to weights/$name. To ship them, train with
  recipes/$name/run.sh --step train -- --promote
and copy the sets without a number: vqvae_* to final_weights/, generator_* to weights/.
HELP
}

say() { printf '== %s\n' "$*" >&2; }
fail() { printf '%s: %s\n' "recipes/$name/run.sh" "$*" >&2; exit 2; }

given='' step=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --hours | --music | --step) [ $# -gt 1 ] || fail "$1 needs a value (see --help)" ;;&
        --hours) hours=$2; shift 2 ;;
        --music) given=$2; shift 2 ;;
        --step) step=$2; shift 2 ;;
        --) shift; break ;;
        *) fail "unknown argument '$1' (see --help)" ;;
    esac
done
case $step in '' | fetch | prepare | train | evaluate) ;; *) fail "there is no step '$step' (see --help)" ;; esac
[ -n "$step" ] || [ $# -eq 0 ] || fail "options after -- are of one step: name it with --step"
[ -z "$given" ] || [ -d "$given" ] || fail "$given: no such folder"

[ ! -e .venv/bin/activate ] || . .venv/bin/activate
command -v python >/dev/null || fail "there is no Python environment here: bash setup.sh makes it"

fetched=data/music/$name
source=${given:-$fetched/$music}

unpack() {
    if command -v dpkg-deb >/dev/null; then
        dpkg-deb -x "$1" "$2"
    elif command -v ar >/dev/null; then
        ar p "$1" data.tar.xz | tar -xJ -C "$2"
    else
        fail "neither dpkg-deb nor ar is here to unpack $1: unpack it yourself, and give the folder with --music"
    fi
}

fetch() {
    if [ -n "$given" ] || [ -d "$source" ]; then
        say "music: $source"
        return
    fi
    say "fetching $package"
    local part=$fetched.part deb
    rm -rf "$part"
    mkdir -p "$part/unpacked"
    # apt knows the package's checksum itself; it wants a folder that its own user may write to.
    if command -v apt-get >/dev/null && (cd "$part" && apt-get download -q "$package" >&2) 2>/dev/null; then
        deb=$(echo "$part"/*.deb)
    else
        deb=$part/package.deb
        say "apt has no $package; from $url"
        python - "$url" "$deb" "$sha256" <<'PYTHON' || fail "$url could not be fetched: fetch the package elsewhere, unpack it, and give the folder of music with --music"
import hashlib, shutil, sys, urllib.request
url, path, wanted = sys.argv[1:]
try:
    with urllib.request.urlopen(url, timeout=60) as source, open(path, "wb") as file:
        shutil.copyfileobj(source, file)
except OSError as e:
    sys.exit(f"{url}: {e}")
with open(path, "rb") as file:
    if hashlib.file_digest(file, "sha256").hexdigest() != wanted if sys.version_info >= (3, 11) else (
            hashlib.sha256(file.read()).hexdigest() != wanted):
        sys.exit(f"{url}: is not the package that this recipe knows (its checksum is another)")
PYTHON
    fi
    unpack "$deb" "$part/unpacked"
    [ -d "$part/unpacked/$music" ] || fail "$package holds no folder $music"
    rm -rf "$fetched"
    mv "$part/unpacked" "$fetched"
    rm -rf "$part"
}

prepare() {
    [ -d "$source" ] || fail "$source: the music is not there; the step before this one is fetch"
    say "preparing"
    python scripts/prepare_audio.py "$source" "data/$name" "$@"
}

train() {
    local length=(--hours "$hours")
    [[ " $* " != *" --steps "* ]] || length=()
    say "training"
    python scripts/train_all.py --data-dir "data/$name" --output-dir "weights/$name" "${length[@]}" \
        --val-split "recipes/$name/split.yml" "$@"
}

evaluate() {
    say "evaluating"
    python scripts/evaluate.py --data-dir "data/$name" --split "recipes/$name/split.yml" --runs "weights/$name" \
        --vqvae-weights-dir "weights/$name" --generator-weights-dir "weights/$name" "$@"
}

if [ -n "$step" ]; then
    "$step" "$@"
else
    fetch
    prepare
    train
    evaluate
    say "done: RESULTS.md. To listen: python scripts/generate_audio.py --vqvae-weights-dir weights/$name" \
        "--generator-weights-dir weights/$name"
fi
