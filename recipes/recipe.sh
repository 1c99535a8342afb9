# What the recipes share; sourced by recipes/NAME/run.sh, which says what is fetched:
#   about, package, music (the folder of music inside it), hours, hardware
# and, where they differ from these: steps (and a function for each), all (the steps of a whole run), models, trains,
# work (what follows preparing), begin (trained models that the step `own` begins with). It ends with `run "$@"`. A recipe
# that trains nothing has no hours.
# shellcheck shell=bash disable=SC2154
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
name=$(basename "$here")
cd "$here/../.."

models='nine models'
trains='all levels of preset vqwave'
page=$name
begin=''
steps='fetch prepare train evaluate own'
all='fetch prepare train evaluate'
work=''
more_steps='A step is done only where it is asked for:
  own           an hour of training (--hours) on this music as a user has it, beginning with what was trained on other
                music; options after -- are of train_all.py'
ship='To ship them, train with
  recipes/$name/run.sh --step train -- --promote
and copy the default sets: vqvae_* to final_weights/, score* and generator_* to weights/. The decoders of 512x and 128x that
ship were trained further against an adversary: recipes/README.md says how. Then let the codecs remember what they
do on this music, which is what train_all.py holds them to on other music:
  python scripts/test_vqvae.py --model all --data-dir data/$name --val-split recipes/$name/split.yml --note'

usage() {
    cat <<HELP
usage: recipes/$name/run.sh ${hours:+[--hours H] }[--music DIR] [--step STEP] [-- OPTION...]

$about

Fetches the music (Debian's $package, through apt-get, without installing it), prepares it, ${work:-trains
$trains, evaluates}, and writes research/results/$page.md. What is done is not done again: the same command again goes on
where it was stopped. Needs $hardware.

${hours:+  --hours H     for training, shared out over the $models (default $hours)
}  --music DIR   the music is here already: needed where there is no apt-get, or it does not know the package
  --step STEP   do one step only: ${steps// /, }
  -- OPTION...  further options, of that step's script

$more_steps

The music goes to data/music/$name, its prepared form to data/$name${hours:+, models to weights/$name}. ${ship//\$name/$name}
HELP
}

say() { printf '== %s\n' "$*" >&2; }
fail() { printf '%s: %s\n' "recipes/$name/run.sh" "$*" >&2; exit 2; }

fetch() {
    if [ -n "$given" ] || [ -d "$source" ]; then
        say "music: $source"
        return
    fi
    say "fetching $package"
    local part=$fetched.part
    rm -rf "$part"
    mkdir -p "$part/unpacked"
    # In a folder of its own, which apt's own user may write to; apt checks what it fetches.
    (cd "$part" && apt-get download -q "$package" >&2) || fail "apt-get cannot fetch $package here:" \
        "fetch the package elsewhere, unpack it, and give the folder of music with --music"
    dpkg-deb -x "$part"/*.deb "$part/unpacked"
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
    local length=(--hours "${asked:-$hours}")
    [[ " $* " != *" --steps "* ]] || length=()
    say "training"
    python scripts/train_all.py --from-scratch --data-dir "data/$name" --output-dir "weights/$name" "${length[@]}" \
        --val-split "recipes/$name/split.yml" "$@"
}

evaluate() {
    say "evaluating"
    python -m research.evaluate --data-dir "data/$name" --split "recipes/$name/split.yml" \
        --vqvae-weights-dir "weights/$name" --generator-weights-dir "weights/$name" "$@"
}

own() {
    local length=(--hours "${asked:-1}")
    [[ " $* " != *" --steps "* ]] || length=()
    say "training, beginning with ${begin:-what ships}"
    python scripts/train_all.py --data-dir "data/$name" --output-dir "weights/${name}_own" "${length[@]}" \
        ${begin:+--start-from "$begin"} --val-split "recipes/$name/split.yml" "$@"
}

run() {
    given='' step='' asked=''
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage; exit 0 ;;
            --hours | --music | --step) [ $# -gt 1 ] || fail "$1 needs a value (see --help)" ;;&
            --hours) asked=$2; shift 2 ;;
            --music) given=$2; shift 2 ;;
            --step) step=$2; shift 2 ;;
            --) shift; break ;;
            *) fail "unknown argument '$1' (see --help)" ;;
        esac
    done
    [[ " $steps " == *" ${step:-fetch} "* ]] || fail "there is no step '$step' (see --help)"
    [ -z "$asked" ] || [ -n "$hours" ] || fail "trains nothing, so it takes no --hours"
    [ -n "$step" ] || [ $# -eq 0 ] || fail "options after -- are of one step: name it with --step"
    [ -z "$given" ] || [ -d "$given" ] || fail "$given: no such folder"

    [ ! -e .venv/bin/activate ] || . .venv/bin/activate
    command -v python >/dev/null || fail "there is no Python environment here: bash setup.sh makes it"

    fetched=data/music/$name
    source=${given:-$fetched/$music}
    if [ -n "$step" ]; then
        "$step" "$@"
        return
    fi
    for step in $all; do
        "$step"
    done
    say "done: research/results/$page.md"
}
