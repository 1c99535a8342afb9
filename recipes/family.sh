#!/usr/bin/env bash
# The codecs of the family's presets, each trained for a while on the same music, and compared in one section of RESULTS.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

steps='prepare train compare'
presets=soundstream,soundstream_som,soundstream_energy,soundstream_multires,jukebox,technogen,spectrogram_vae,spectrogram_vqvae,spectrogram_rvq,spectrogram_vqvae2,cvae,cvae_22050
minutes=60 equal=1000 seeds=1,2 output=weights/family step=''

usage() {
    cat <<HELP
usage: recipes/family.sh [--step STEP] [--presets NAME,...] [--minutes M] [--steps N] [--seeds S,...] [--output-dir DIR]
                         [-- OPTION...]

Trains the codecs of presets and writes the section "the family of codecs" of RESULTS.md, with sounds and pictures. The
presets soundstream* differ in one axis each and train for equally many steps, once with each seed; the others for M
minutes, shared out over their codecs. What is trained already is not trained again: the same command again goes on
where it was stopped. Needs two CPU cores, 8 GB of memory and 2 GB of disk.

  --step STEP        do one step only: ${steps// /, }
  --presets NAME,... train these only (default: all; compare takes those that are trained)
  --minutes M        for each preset (default $minutes)
  --steps N          for each of soundstream* (default $equal)
  --seeds S,...      of soundstream* (default $seeds)
  --output-dir DIR   a folder for each preset goes here (default $output)
  -- OPTION...       further options, of that step's script: prepare_audio.py, train_vqvae.py or compare_codecs.py

The music is Wesnoth's, at 44,100 Hz for technogen; cvae is conditional, on the soundtracks of Wesnoth and Singularity
at 3,000 Hz, a label each.
HELP
}

say() { printf '== %s\n' "$*" >&2; }
fail() { printf 'recipes/family.sh: %s\n' "$*" >&2; exit 2; }

prepare() {
    bash recipes/universal/run.sh --step fetch
    local music
    music=data/music/wesnoth/$(sed -n 's/^music=//p' recipes/wesnoth/run.sh)
    bash recipes/wesnoth/run.sh --step prepare -- "$@"
    say "preparing for technogen and cvae"
    python scripts/prepare_audio.py "$music" data/wesnoth_44100 --sample-rate 44100 "$@"
    bash recipes/universal/run.sh --step prepare
    python scripts/prepare_audio.py data/music/universal data/universal_3000 --sample-rate 3000 "$@"
}

train() {
    local preset codec codecs data split label length seed each
    for preset in ${presets//,/ }; do
        codecs=$(python -c "from vqwave import config; print(*config.preset('$preset').chain.codecs.values())")
        data=data/wesnoth split=recipes/wesnoth/split.yml label=() each=${seeds%%,*}
        case $preset in
            technogen) data=data/wesnoth_44100 ;;
            cvae) data=data/universal_3000 split=recipes/both/split.yml label=(--label folder) ;;
            soundstream*) each=${seeds//,/ } ;;
        esac
        length=(--minutes "$(awk -v minutes="$minutes" -v models="$(wc -w <<< "$codecs")" 'BEGIN { print minutes / models }')")
        [[ $preset != soundstream* ]] || length=(--steps "$equal")
        [[ " $* " != *" --steps "* ]] || length=()
        for seed in $each; do
            for codec in $codecs; do
                say "training $codec of $preset, seed $seed"
                python scripts/train_vqvae.py --preset "$preset" --model "$codec" --data-dir "$data" --val-split "$split" \
                    --output-dir "$(folder_of "$preset" "$seed")" --seed "$seed" "${label[@]}" "${length[@]}" --fp16 "$@"
            done
        done
    done
}

# The first seed's folder has the preset's name.
folder_of() { printf '%s' "$output/$1$([ "$2" = "${seeds%%,*}" ] || printf '_%s' "$2")"; }

compare() {
    local preset seed found=() sliced=()
    for preset in ${presets//,/ }; do
        for seed in ${seeds//,/ }; do
            [ ! -d "$(folder_of "$preset" "$seed")" ] || found+=("$preset=$(folder_of "$preset" "$seed")")
        done
    done
    [ ${#found[@]} -gt 0 ] || fail "$output: holds none of these presets; the step before this one is train"
    [[ " ${found[*]} " != *" technogen="* ]] || sliced=(--slice-loss technogen)
    say "measuring"
    python scripts/compare_codecs.py --section family --codecs "${found[@]}" --data-dirs data/wesnoth data/wesnoth_44100 \
        data/universal_3000 --splits recipes/wesnoth/split.yml recipes/wesnoth/split.yml recipes/both/split.yml \
        "${sliced[@]}" "$@"
}

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --step | --presets | --minutes | --steps | --seeds | --output-dir) [ $# -gt 1 ] || fail "$1 needs a value (see --help)" ;;&
        --step) step=$2; shift 2 ;;
        --presets) presets=$2; shift 2 ;;
        --minutes) minutes=$2; shift 2 ;;
        --steps) equal=$2; shift 2 ;;
        --seeds) seeds=$2; shift 2 ;;
        --output-dir) output=$2; shift 2 ;;
        --) shift; break ;;
        *) fail "unknown argument '$1' (see --help)" ;;
    esac
done
[[ " $steps " == *" ${step:-prepare} "* ]] || fail "there is no step '$step' (see --help)"
[ -n "$step" ] || [ $# -eq 0 ] || fail "options after -- are of one step: name it with --step"

[ ! -e .venv/bin/activate ] || . .venv/bin/activate
command -v python >/dev/null || fail "there is no Python environment here: bash setup.sh makes it"
for one in ${step:-$steps}; do
    "$one" "$@"
done
