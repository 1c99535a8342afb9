#!/usr/bin/env bash
# A score model and a performer of two soundtracks, each with the sounds of one of them where a label asks for it.
about='The soundtracks of The Battle for Wesnoth and Endgame: Singularity together, a label each: 57 tracks, 3.2 hours.
GPL-2.0-or-later and CC BY-SA.'
hours=1
hardware='two CPU cores, 8 GB of memory, 2 GB of disk, the hours named below, and half of one to evaluate'
. "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
. recipes/together.sh
models='two models'
trains='the score model and the performer of preset timed from nothing, for the codec that ships'
steps='fetch prepare train evaluate'
more_steps='Evaluating measures what the label is worth, and whether pieces sound like it (recipes/both/targets.yml).
With --music the folder holds the folders wesnoth and singularity.'
ship='To hear a label:
  python scripts/generate_audio.py --vqvae-weights-dir weights/timed --generator-weights-dir weights/$name --label wesnoth'

prepare() { prepare_together "$@"; }

train() {
    local length=() generator
    [ -z "$asked" ] || length=(--minutes "$(awk -v hours="$asked" 'BEGIN { print 30 * hours }')")
    for generator in score generator_512; do
        say "training $generator"
        python scripts/train_generator.py --preset timed --generator "$generator" --data-dir "data/$name" \
            --val-split "recipes/$name/split.yml" --vqvae-weights-dir weights/timed --output-dir "weights/$name" \
            "${length[@]}" --fp16 "$@"
    done
}

evaluate() {
    say "evaluating"
    python -m research.evaluate --data-dir "data/$name" --split "recipes/$name/split.yml" --targets "recipes/$name/targets.yml" \
        --vqvae-weights-dir weights/timed --generator-weights-dir "weights/$name" "$@"
}

run "$@"
