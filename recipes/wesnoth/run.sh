#!/usr/bin/env bash
# The soundtrack of The Battle for Wesnoth: orchestral, many composers.
about='The soundtrack of The Battle for Wesnoth: 41 orchestral tracks, 2.1 hours, many composers. GPL-2.0-or-later, parts
CC BY-SA 4.0.'
package=wesnoth-1.16-music
music=usr/share/games/wesnoth/1.16/data/core/music
url=https://deb.debian.org/debian/pool/main/w/wesnoth-1.16/wesnoth-1.16-music_1.16.9-1_all.deb
sha256=f9bc3cde92b4ab30db5d7b85f89b4bcc3d788dd92602956d0347250850bf59bb
hours=20
hardware='two CPU cores, 8 GB of memory, 2 GB of disk, the hours named below, and one more to evaluate'
. "$(dirname "${BASH_SOURCE[0]}")/../recipe.sh"
