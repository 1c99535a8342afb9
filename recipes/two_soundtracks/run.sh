#!/usr/bin/env bash
# Codecs that are trained on both recipes' music together, changed in pitch and loudness and mixed. The aim is
# codecs for music that they never heard; no soundtrack that nothing was trained on has tested that yet.
about='Codecs of the soundtracks of The Battle for Wesnoth and Endgame: Singularity together: 57 tracks, 3.2 hours.
GPL-2.0-or-later and CC BY-SA.'
hours=20
hardware='two CPU cores, 8 GB of memory, 3 GB of disk, and the hours named below'
. "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
. recipes/together.sh
page=codecs_on_other_music
models='four codecs'
trains='the codecs of what ships, with the music transposed, quieter and mixed (recipes/two_soundtracks/preset.yml)'
steps='fetch prepare train control evaluate'
more_steps='One step is done only where it is asked for, before evaluate:
  control       the same codecs on each of the two alone, to test them on the other; it takes the hours twice
With --music the folder holds the folders wesnoth and singularity.'
ship='The codecs of the control go to weights/two_soundtracks_wesnoth and
weights/two_soundtracks_singularity. To ship those of both, train with `--step train -- --promote`, train the decoders of
512x and 128x further with --decoder-only, copy the sets to final_weights/, and train generators on their codes.'

# Also each alone, which `control` trains on and `evaluate` measures on.
prepare() {
    local one
    for one in "${corpora[@]}"; do
        bash "recipes/$one/run.sh" --music "$(folder_of "$one")" --step prepare -- "$@"
    done
    prepare_together "$@"
}

# Trains the codecs on the data folder $1 with its recipe's split, into $2.
train_codecs() {
    local data=$1 folder=$2 codecs codec length
    shift 2
    codecs=$(python -c "from vqwave import config; print(*config.preset('recipes/two_soundtracks/preset.yml').chain.codecs.values())")
    length=(--minutes "$(awk -v hours="${asked:-$hours}" -v models="$(wc -w <<< "$codecs")" 'BEGIN { print 60 * hours / models }')")
    [[ " $* " != *" --steps "* ]] || length=()
    for codec in $codecs; do
        say "training $codec on $data"
        python scripts/train_vqvae.py --preset recipes/two_soundtracks/preset.yml --model "$codec" --data-dir "data/$data" \
            --val-split "recipes/$data/split.yml" --output-dir "$folder" "${length[@]}" --fp16 "$@"
    done
}

train() { train_codecs "$name" "weights/$name" "$@"; }

control() {
    local one
    for one in "${corpora[@]}"; do
        train_codecs "$one" "weights/two_soundtracks_$one" "$@"
    done
}

evaluate() {
    local one codecs=(shipped=final_weights)
    for one in "${corpora[@]}"; do
        if [ -d "weights/two_soundtracks_$one" ]; then
            codecs+=("$one=weights/two_soundtracks_$one")
        else
            say "weights/two_soundtracks_$one is not there: the control is left out (--step control)"
        fi
    done
    python -m research.compare_codecs --codecs "${codecs[@]}" "both=weights/$name" --data-dirs "${corpora[@]/#/data/}" "$@"
}

run "$@"
