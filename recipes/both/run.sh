#!/usr/bin/env bash
# A generator that is told which of two soundtracks it plays: the folder that a track lies in is its label.
about='The soundtracks of The Battle for Wesnoth and Endgame: Singularity together, a label each: 57 tracks, 3.2 hours.
GPL-2.0-or-later and CC BY-SA.'
hours=1
hardware='two CPU cores, 8 GB of memory, 2 GB of disk, the hours named below, and half of one to evaluate'
. "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
. recipes/together.sh
models='one model'
trains='the top generator of what ships from nothing, which hears the label'
steps='fetch prepare train evaluate'
more_steps='Evaluating measures what the label is worth (recipes/both/targets.yml). research.parts names performances.
With --music the folder holds the folders wesnoth and singularity.'
ship='To hear a label:
  python scripts/generate_audio.py --generator-weights-dir weights/$name --label wesnoth'

prepare() { prepare_together "$@"; }

train() {
    local length=(--minutes "$(awk -v hours="${asked:-$hours}" 'BEGIN { print 60 * hours }')")
    [[ " $* " != *" --steps "* ]] || length=()
    say "training"
    python scripts/train_generator.py --generator generator_512 --data-dir "data/$name" --val-split "recipes/$name/split.yml" \
        --output-dir "weights/$name" --label folder --seed 1 "${length[@]}" --fp16 "$@"
}

evaluate() {
    say "evaluating"
    python -m research.evaluate --data-dir "data/$name" --split "recipes/$name/split.yml" --targets "recipes/$name/targets.yml" \
        --generator-weights-dir "weights/$name" --depth 512 "$@"
}

run "$@"
