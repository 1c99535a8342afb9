#!/usr/bin/env bash
# The soundtrack of Endgame: Singularity: ambient electronic music of one composer.
about='The soundtrack of Endgame: Singularity: 16 tracks of ambient electronic music, 1.07 hours, by Max McCracken.
CC BY-SA 3.0.'
package=singularity-music
music=usr/share/games/singularity/music
hours=20
hardware='two CPU cores, 8 GB of memory, 2 GB of disk, the hours named below, and one more to evaluate'
. "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
run "$@"
