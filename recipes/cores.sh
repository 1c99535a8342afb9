#!/usr/bin/env bash
# Cores of generators, each trained for as long on the same codes, and compared in one table.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data=data/wesnoth split=recipes/wesnoth/split.yml codecs=weights/compact output=weights/cores minutes=60 generator=generator_512
presets=compact,prior_transformer,prior_wavenet,prior_pixelcnn

usage() {
    cat <<HELP
usage: recipes/cores.sh [--minutes M] [--presets NAME,...] [--generator NAME] [--data-dir DIR] [--val-split F.yml]
                        [--vqvae-weights-dir DIR] [--output-dir DIR] [-- OPTION...]

Trains the top generator of each preset for M minutes on the codes of one codec. The presets must share that codec. What is
trained already is not trained again. With a split.yml, research.evaluate then measures each generator and its music on the
test tracks, and prints the tables. By default the codec is that of preset compact, which does not ship; train it first:
  python scripts/train_vqvae.py --preset compact --model vqvae_512 --data-dir $data --val-split $split \\
      --output-dir $codecs

  --minutes M              for each (default $minutes)
  --presets NAME,...       (default $presets)
  --generator NAME         the top generator of each (default $generator)
  --data-dir DIR           prepared music (default $data)
  --val-split F.yml|SHARE  what is held out (default $split)
  --vqvae-weights-dir DIR  the codec's (default $codecs)
  --output-dir DIR         a folder for each preset goes here (default $output)
  -- OPTION...             further options of train_generator.py, for all alike

Of VQ-VAE-2's two levels, with the codec that recipes/family.sh --step train --presets spectrogram_vqvae2 made:
  recipes/cores.sh --presets spectrogram_vqvae2,prior_vqvae2_transformer,prior_vqvae2_wavenet,prior_vqvae2_pixelcnn \\
      --generator generator_2048 --vqvae-weights-dir weights/family/spectrogram_vqvae2 --output-dir weights/cores_vqvae2
HELP
}

fail() { printf 'recipes/cores.sh: %s\n' "$*" >&2; exit 2; }

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --minutes | --presets | --generator | --data-dir | --val-split | --vqvae-weights-dir | --output-dir)
            [ $# -gt 1 ] || fail "$1 needs a value (see --help)" ;;&
        --minutes) minutes=$2; shift 2 ;;
        --presets) presets=$2; shift 2 ;;
        --generator) generator=$2; shift 2 ;;
        --data-dir) data=$2; shift 2 ;;
        --val-split) split=$2; shift 2 ;;
        --vqvae-weights-dir) codecs=$2; shift 2 ;;
        --output-dir) output=$2; shift 2 ;;
        --) shift; break ;;
        *) fail "unknown argument '$1' (see --help)" ;;
    esac
done

[ ! -e .venv/bin/activate ] || . .venv/bin/activate
command -v python >/dev/null || fail "there is no Python environment here: bash setup.sh makes it"

length=(--minutes "$minutes")
[[ " $* " != *" --steps "* ]] || length=()
for preset in ${presets//,/ }; do
    printf '== %s\n' "$preset" >&2
    # The tables alone go to standard output.
    python scripts/train_generator.py --preset "$preset" --generator "$generator" --data-dir "$data" --val-split "$split" \
        --vqvae-weights-dir "$codecs" --output-dir "$output/$preset" --seed 1 "${length[@]}" "$@" >&2
done
if [ -f "$split" ]; then
    for preset in ${presets//,/ }; do
        python -m research.evaluate --name "$preset" --only generators,chain,notes,health --data-dir "$data" \
            --split "$split" --vqvae-weights-dir "$codecs" --generator-weights-dir "$output/$preset"
    done
fi
