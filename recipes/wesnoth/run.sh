#!/usr/bin/env bash
# The soundtrack of The Battle for Wesnoth: orchestral, many composers.
about='The soundtrack of The Battle for Wesnoth: 41 orchestral tracks, 2.1 hours, many composers. GPL-2.0-or-later, parts
CC BY-SA 4.0.'
package=wesnoth-1.16-music
music=usr/share/games/wesnoth/1.16/data/core/music
hours=20
hardware='two CPU cores, 8 GB of memory, 2 GB of disk, the hours named below, and one more to evaluate'
. "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
# What ships was trained on this music, so that an hour of a user's begins with the other recipe's models.
begin=weights/singularity
run "$@"
