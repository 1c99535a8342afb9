"""Measure the clarity of a codec on held-out tracks: `python -m research.clarity`.

Each track is encoded and decoded for a minute, from 20 s on. The figures of recordings and copies
stand side by side; what targets bound are their differences. `vqwave.dsp.clarity` says what each
figure is deaf to.
"""

import json
import sys

import numpy as np

from vqwave import cli, progress
from vqwave.dsp import clarity
from vqwave.io.files import CHECKOUT, printable
from vqwave.play.engine import CodecEngine
from vqwave.report import judge, tables

from . import excerpts, results

SIDES = ("test", "fresh")
ROWS = {f"contrast_{band}": f"contrast from {band} Hz" for band in clarity.CONTRAST_BANDS} | {
    f"roughness_{rate}": f"roughness at {rate} Hz, dB" for rate in clarity.FRAME_RATES} | {
    f"step_{edge}": f"step at {edge} Hz, dB" for edge in clarity.EDGES} | {
    "on_grid": "partials near quarter tones", "flicker": "flicker, dB", "drift": "drift, dB",
    "highs": "above 5 kHz, dB", "loudness": "loudness, dBFS"}
COPIES = {"whistle": "whistle: more frames than in the recordings", "whistle_hz": "… at, Hz",
          "notes": "notes kept", "chroma": "chroma", "note_events": "note events",
          "contour": "contour", "attacks": "attacks", "mel": "mel", "sc_db": "SC, dB"}
"""Figures that recordings do not have."""
BOUNDED = {"contrast": "contrast error, worst of five bands", "step": "step error, worst edge, dB",
           "roughness": "roughness excess, worst rate, dB",
           "whistle": COPIES["whistle"], "on_grid": "grid excess",
           "highs": "highs change, dB", "loudness": "loudness change, dB",
           "beat_kept": "windows with a beat, of the recordings'"} | {
           key: COPIES[key] for key in ("notes", "chroma", "note_events", "contour", "attacks",
                                        "mel", "sc_db")}
"""Figures that targets bound, by their names in a file of targets."""


def parser():
    parser = cli.parser(" ".join(__doc__.split()), "--data-dirs data/wesnoth data/warzone")
    results.add_corpora(parser)
    parser.add_argument("--targets", metavar="F.yml", help="bounds (default: those of wesnoth)",
                        default=str(CHECKOUT / "recipes" / "wesnoth" / "clarity_targets.yml"))
    excerpts.add_codec(parser)
    results.add_output(parser, "clarity")
    return parser


def measure(pairs: list[excerpts.Pair], rate: int) -> dict[str, dict]:
    """{"real", "codec": {key in `ROWS` or `COPIES`: value}, "compared": {key in `BOUNDED`: value}}
    of recordings and copies.
    """
    sounds = [[clarity.measure(sound, rate) for sound in side] for side in zip(*pairs, strict=True)]
    rows = [judge.measure(*pair, rate) for pair in pairs]
    kept = {key: float(np.average([row[key] for row in rows], weights=[len(x) for x, _ in pairs]))
            for key in rows[0]}
    compared = kept | clarity.compare(*sounds)
    real, codec = (clarity.mean(side).figures for side in sounds)
    if kept["beat_of_original"]:
        compared["beat_kept"] = kept["beat"] / kept["beat_of_original"]
    return {"real": real | {"beat": kept["beat_of_original"]}, "codec": compared | codec,
            "compared": compared}


def table(sides: dict[str, dict]) -> str:
    """Recordings beside copies: a row for each figure, two columns for each side."""
    titles = ROWS | {"beat": "windows with a beat"} | COPIES
    columns = [tables.Column("figure", "figure")] + [
        tables.Column(f"{side}: {kind}" if kind == "real" else kind, f"{side} {kind}", ".4g")
        for side in sides for kind in ("real", "codec")]
    return tables.render([{"figure": title} | {
        f"{side} {kind}": figures[kind].get(key) for side, figures in sides.items()
        for kind in ("real", "codec")} for key, title in titles.items()], columns)


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    weight_set, figures, blocks = excerpts.find_codec(args), {}, []
    rate, targets = weight_set.config.sample_rate, results.read_targets(args.targets)
    with progress.bar() as bar:
        for side in excerpts.sides(results.corpora(args), CodecEngine(weight_set), SIDES, bar):
            figures[side.name] = measure(side.pairs, rate)
            blocks.append(side.describe(weight_set))
    if args.json:
        print(json.dumps(figures, indent=1))
        return 0
    bounded = {name: {"targets": {title: values["compared"][key] for key, title in BOUNDED.items()
                                  if key in values["compared"]}}
               for name, values in figures.items()}
    page = results.page(args.name, "clarity", argv, *blocks, table(figures), "## Targets",
                        *results.figure_tables(bounded, targets).values())
    print(f"wrote {printable(results.write(args.output_dir, args.name, page))}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
