#!/usr/bin/env python
"""Writes the start of a codec with a filter: the shipped 512x codec, with the head `source_filter`
of a --config file in place of its own. The encoder, the codebooks and the decoder's first stage
stay as they are; the filter begins untrained.

    python -m research.filter_start --config recipes/filter.yml --output-dir weights/filter_start

recipes/README.md has the training that follows.
"""

import sys

from vqwave import cli, config
from vqwave.io import weights
from vqwave.io.files import make_folder
from vqwave.nn.codec import Codec
from vqwave.train.options import ConfigFile

NAME = "vqvae_512"


def names_of(shipped: config.CodecConfig, path: str) -> str:
    """The name in the shipped decoder of a variable of the new decoder."""
    last = len(shipped.stages) - 1
    return path.replace("block_0_", f"block_{last}_").replace("source_filter/clues", "clues")


def main(argv=None) -> int:
    parser = cli.parser(" ".join(__doc__.split("\n\n")[0].split()),
                        "--output-dir weights/filter_start")
    parser.add_argument("--config", default="recipes/filter.yml", metavar="F.yml",
                        help="the codec's head, stages and training")
    parser.add_argument("--codecs", default=weights.CODECS, metavar="DIR",
                        help="folder of the shipped codecs")
    parser.add_argument("--output-dir", required=True, metavar="DIR")
    args = parser.parse_args(argv)
    shipped = weights.find(args.codecs, NAME)
    model = ConfigFile.read(args.config).model | {"adversary": None}
    codec = Codec(config.validate_model(
        config.merge(config.to_dict(shipped.config), model), args.config))
    trained = shipped.load("decoder")
    decoder = {v.path: trained.get(names_of(shipped.config, v.path), weights.to_numpy(v))
               for v in codec.decoder.weights}
    parts = {part: shipped.load(part) for part in ("encoder", "codebook")} | {"decoder": decoder}
    weights.save(make_folder(args.output_dir), NAME, "", parts, codec.config, shipped.record)
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
