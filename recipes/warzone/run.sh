#!/usr/bin/env bash
# The soundtrack of Warzone 2100: the third set of tracks, which no model is trained on. Only codecs are measured on it.
about='The soundtrack of Warzone 2100: 30 electronic and ambient tracks, 4.05 hours, by Martin Severn and LupusMechanicus.
GPL-2.0-or-later, most of it also CC BY-SA 3.0. No model is trained on it, and nothing is chosen by it: it shows what the
shipped codec does with music that nobody looked at.'
package=warzone2100-music
music=usr/share/games/warzone2100/music
hours=''
hardware='one CPU core, 4 GB of memory, 1 GB of disk, and a few minutes'
. "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
work=$'measures\nthe shipped codec on six of its tracks'
steps='fetch prepare evaluate'
all=$steps
more_steps='Options of the step evaluate are of research.clarity.'
ship=''

evaluate() {
    say "measuring"
    python -m research.clarity --name "$page" --data-dirs "data/$name" "$@"
}

run "$@"
