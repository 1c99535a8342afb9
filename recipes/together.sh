# What the recipes of both soundtracks share: one data folder, with a folder in it for each; sourced after recipe.sh.
# With --music the folder holds the folders wesnoth and singularity.
# shellcheck shell=bash disable=SC2034,SC2154
package='wesnoth-1.16-music and singularity-music'
music=.
corpora=(wesnoth singularity)

folder_of() {
    if [ -n "$given" ]; then
        printf '%s' "$given/$1"
    else
        printf '%s' "data/music/$1/$(sed -n 's/^music=//p' "recipes/$1/run.sh")"
    fi
}

fetch() {
    local one
    for one in "${corpora[@]}"; do
        [ -d "$(folder_of "$one")" ] || bash "recipes/$one/run.sh" --step fetch
        say "music: $(folder_of "$one")"
    done
}

prepare_together() {
    local one
    if [ -z "$given" ]; then
        mkdir -p "$source"
        for one in "${corpora[@]}"; do
            [ -d "$(folder_of "$one")" ] || fail "$(folder_of "$one"): the music is not there; the step before this one is fetch"
            ln -sfn "$PWD/$(folder_of "$one")" "$source/$one"
        done
    fi
    say "preparing both together"
    python scripts/prepare_audio.py "$source" "data/$name" "$@"
}
