#!/usr/bin/env bash
# The codecs of the family's presets, each trained for a while on the same music, and compared in research/results/family.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

steps='prepare train generators compare'
presets=soundstream,soundstream_som,soundstream_energy,soundstream_multires,jukebox,technogen,technogen_small,spectrogram_vae,spectrogram_vqvae,spectrogram_rvq,spectrogram_vqvae2,spectrogram_griffin_lim,cvae,cvae_22050
minutes=60 equal=1000 seeds=1,2 generator_minutes=10 output=weights/family step=''

usage() {
    cat <<HELP
usage: recipes/family.sh [--step STEP] [--presets NAME,...] [--minutes M] [--steps N] [--seeds S,...]
                         [--generator-minutes M] [--output-dir DIR] [-- OPTION...]

Trains the codecs of presets and writes research/results/family.md. The
presets soundstream* differ in one axis each and train for equally many steps, once with each seed; the others for M
minutes, shared out over their codecs. Over each codec that makes codes the generator of the top level is trained too,
and generates 30 s. What is trained already is not trained again: the same command again goes on where
it was stopped. Needs two CPU cores, 8 GB of memory and 4 GB of disk.

  --step STEP            do one step only: ${steps// /, }
  --presets NAME,...     train these only (default: all; compare takes those that are trained)
  --minutes M            for each preset (default $minutes)
  --steps N              for each of soundstream* (default $equal)
  --seeds S,...          of soundstream* (default $seeds); compare takes every seed that is trained
  --generator-minutes M  for each generator, after the first seed's codec (default $generator_minutes)
  --output-dir DIR       a folder for each preset, and for each seed of soundstream*, goes here (default $output)
  -- OPTION...           further options, of that step's script: prepare_audio.py, train_vqvae.py, train_generator.py or
                         research.compare_codecs

The music is Wesnoth's, at 44,100 Hz for technogen*. cvae and cvae_22050 are conditional, on the soundtracks of Wesnoth
and Singularity, a label each, and are compared on the test tracks of both.
HELP
}

say() { printf '== %s\n' "$*" >&2; }
fail() { printf 'recipes/family.sh: %s\n' "$*" >&2; exit 2; }

prepare() {
    bash recipes/two_soundtracks/run.sh --step fetch
    local music
    music=data/music/wesnoth/$(sed -n 's/^music=//p' recipes/wesnoth/run.sh)
    bash recipes/wesnoth/run.sh --step prepare -- "$@"
    say "preparing for technogen and cvae"
    python scripts/prepare_audio.py "$music" data/wesnoth_44100 --sample-rate 44100 "$@"
    bash recipes/two_soundtracks/run.sh --step prepare
    python scripts/prepare_audio.py data/music/two_soundtracks data/two_soundtracks_3000 --sample-rate 3000 "$@"
}

# The music of a preset: sets data, split and label.
music_of() {
    data=data/wesnoth split=recipes/wesnoth/split.yml label=()
    case $1 in
        technogen*) data=data/wesnoth_44100 ;;
        cvae) data=data/two_soundtracks_3000 split=recipes/both/split.yml label=(--label folder) ;;
        cvae_22050) data=data/two_soundtracks split=recipes/both/split.yml label=(--label folder) ;;
    esac
}

# Whether what follows -- says how long to train.
says_length() { [[ " $* " == *" --steps"[\ =]* || " $* " == *" --minutes"[\ =]* ]]; }

train() {
    local preset codec codecs data split label length seed each
    for preset in ${presets//,/ }; do
        codecs=$(python -c "from vqwave import config; print(*config.preset('$preset').chain.codecs.values())")
        music_of "$preset"
        each=${seeds%%,*}
        length=(--minutes "$(awk -v minutes="$minutes" -v models="$(wc -w <<< "$codecs")" 'BEGIN { print minutes / models }')")
        [[ $preset != soundstream* ]] || each=${seeds//,/ } length=(--steps "$equal")
        ! says_length "$@" || length=()
        for seed in $each; do
            for codec in $codecs; do
                say "training $codec of $preset, seed $seed"
                python scripts/train_vqvae.py --preset "$preset" --model "$codec" --data-dir "$data" --val-split "$split" \
                    --output-dir "$(folder_of "$preset" "$seed")" --seed "$seed" "${label[@]}" "${length[@]}" --fp16 "$@"
            done
        done
    done
}

folder_of() {
    case $1 in
        soundstream*) printf '%s' "$output/$1_$2" ;;
        *) printf '%s' "$output/$1" ;;
    esac
}

# The folders that a preset is trained in, a line each: of every seed.
folders_of() {
    local one
    for one in $(case $1 in soundstream*) echo "$output/$1"_[0-9]* ;; *) echo "$output/$1" ;; esac); do
        [ ! -d "$one" ] || echo "$one"
    done
}

generators() {
    local preset generator data split label length folder
    for preset in ${presets//,/ }; do
        generator=$(python -c "
from vqwave import config
chain = config.preset('$preset').chain
print(chain.generators.get(chain.top, ''))")
        folder=$(folder_of "$preset" "${seeds%%,*}")
        [ -n "$generator" ] && [ -d "$folder" ] || continue
        music_of "$preset"
        length=(--minutes "$generator_minutes")
        ! says_length "$@" || length=()
        say "training $generator of $preset"
        python scripts/train_generator.py --preset "$preset" --generator "$generator" --data-dir "$data" \
            --val-split "$split" --vqvae-weights-dir "$folder" --output-dir "$folder" "${length[@]}" --fp16 "$@"
        python scripts/generate_audio.py --preset "$preset" --generators "$generator" --vqvae-weights-dir "$folder" \
            --generator-weights-dir "$folder" --seconds 30 --seed 1 --force --output "$folder/piece.wav"
    done
}

compare() {
    local preset folder found=() alone=()
    local data=(data/wesnoth data/wesnoth_44100 data/two_soundtracks_3000)
    local splits=(recipes/wesnoth/split.yml recipes/wesnoth/split.yml recipes/both/split.yml)
    for preset in ${presets//,/ }; do
        for folder in $(folders_of "$preset"); do
            found+=("$preset=$folder")
        done
        [[ " ${found[*]}" == *" $preset="* ]] || continue
        if [ "$preset" = cvae_22050 ]; then
            # At the rate of data/wesnoth, whose tracks do not lie in folders of its labels.
            data+=(data/two_soundtracks) splits+=(recipes/both/split.yml) alone=(--only-on "$preset=data/two_soundtracks")
        fi
    done
    [ ${#found[@]} -gt 0 ] || fail "$output: holds none of these presets; the step before this one is train"
    say "measuring"
    python -m research.compare_codecs --name family --codecs "${found[@]}" --data-dirs "${data[@]}" \
        --splits "${splits[@]}" "${alone[@]}" "$@"
}

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --step | --presets | --minutes | --steps | --seeds | --generator-minutes | --output-dir) [ $# -gt 1 ] || fail "$1 needs a value (see --help)" ;;&
        --step) step=$2; shift 2 ;;
        --presets) presets=$2; shift 2 ;;
        --minutes) minutes=$2; shift 2 ;;
        --steps) equal=$2; shift 2 ;;
        --seeds) seeds=$2; shift 2 ;;
        --generator-minutes) generator_minutes=$2; shift 2 ;;
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
