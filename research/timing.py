"""How codecs keep time: draws two seconds of waveforms and ten of onset envelopes of tracks
through each codec, with the sounds beside the pictures. Draws bits a second against timing for
several costs of changes of codes, over the validation tracks, and prints these figures.
"""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from vqwave import cli, figures, plots
from vqwave.commands import arguments
from vqwave.dsp import metrics, timing
from vqwave.io import audio, splits, weights
from vqwave.io.files import CHECKOUT, make_folder
from vqwave.play.engine import CodecEngine
from vqwave.report import judge, tables

from .corpus import read_split
from .results import named

TRACKS = "frantic", "casualties_of_war"
WAVEFORM, ENVELOPE, SECONDS = 2.0, 10.0, 60.0
COSTS = (0.0, 0.0), (0.5, 0.3), (1.0, 0.5), (1.5, 1.0), (2.5, 2.0)
"""Costs of changes of shape and of gain."""
MEASURES = "contour", "attacks", "note_events"


def excerpt(data_dir, track, seconds: float, start: int = 0) -> np.ndarray:
    """float32 [samples], whole frames of 512."""
    count = min(round(seconds * track.sample_rate), track.samples - start) // 512 * 512
    return audio.from_u16(audio.read_window(track.path(data_dir), start, count))


def draw_envelopes(sounds: dict[str, np.ndarray], rate: int, path):
    figure, axes = figures.create(13.0, 3.2, "")
    for number, (name, sound) in enumerate(sounds.items()):
        envelope = timing.onset_envelope(sound, rate)
        axes[0, 0].plot(np.arange(len(envelope)) / timing.FRAMES_PER_SECOND,
                        envelope / envelope.max(), label=name,
                        color=figures.PALETTE[number - 1] if number else "0.75",
                        linewidth=1.0 if number else 3.0)
    axes[0, 0].set(xlabel="Seconds", ylabel="Strength of onsets, of the largest")
    axes[0, 0].legend(fontsize="small")
    figures.save(figure, path)


def with_costs(weight_set, shape: float, gain: float) -> CodecEngine:
    """The codec with other costs of changes. Keras alone reads them from the config."""
    quantizer = weight_set.config.quantizer
    quantizer = quantizer.model_copy(update={
        "gain_cost": gain, "shape": quantizer.shape.model_copy(update={"change_cost": shape})})
    config = weight_set.config.model_copy(update={"quantizer": quantizer})
    return CodecEngine(dataclasses.replace(weight_set, config=config), "keras")


def bits_a_second(pieces, rate: int, level: int) -> float:
    """Bits that say which codes change, and to what, by the frequencies of both; pieces: codes
    int32 [frames, books].
    """
    bits = 0.0
    for book in np.concatenate(pieces, axis=0).T:
        changed = np.append(True, np.diff(book) != 0)
        whether, which = (np.log2(metrics.perplexity(np.bincount(values)))
                          for values in (changed, book[changed]))
        bits += whether + changed.mean() * which
    return float(bits * rate / level)


def rate_and_distortion(weight_set, sounds, rate: int) -> list[dict]:
    """A row for each of `COSTS`."""
    rows = []
    for costs in COSTS:
        copies: list[tuple[np.ndarray, np.ndarray]] = []
        row = judge.judge(with_costs(weight_set, *costs), sounds, copies=copies)
        bits = bits_a_second([codes for _, codes in copies], rate, weight_set.config.level)
        rows.append(row | {"costs": "{:g}, {:g}".format(*costs), "bits": bits})
    return rows


def draw_rates(rows: list[dict], path):
    figure, axes = figures.create(7.0, 4.0, "")
    for name, colour, marker in zip(MEASURES, figures.PALETTE, "osv", strict=False):
        axes[0, 0].plot([row["bits"] for row in rows], [row[name] for row in rows], color=colour,
                        marker=marker, label=name.replace("_", " "))
    axes[0, 0].set(xlabel="Bits a second", ylabel="Kept", ylim=(0, 1))
    axes[0, 0].legend(fontsize="small")
    figures.save(figure, path)


def main(argv=None) -> int:
    parser = cli.parser(" ".join(__doc__.split()),
                        "--data-dir data/wesnoth --codec old=final_weights "
                        "--codec new=final_weights --rates final_weights")
    arguments.add_data(parser)
    parser.add_argument("--split", metavar="F.yml",
                        default=str(CHECKOUT / "recipes" / "wesnoth" / "split.yml"))
    parser.add_argument("--model", default="vqvae_512", metavar="NAME")
    parser.add_argument("--codec", type=named, action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--rates", metavar="DIR", help="the codec whose costs of changes vary")
    parser.add_argument("--output-dir", default="docs/results/timing", type=Path, metavar="DIR")
    args = parser.parse_args(argv)
    sides, folder = read_split(args.data_dir, args.split), make_folder(args.output_dir)
    for name in TRACKS if args.codec else ():
        (track,) = [t for side in sides.values() for t in side if splits.is_named(t, [name])]
        rate, sound = track.sample_rate, excerpt(args.data_dir, track, ENVELOPE)
        sounds = {"original": sound}
        for codec, where in args.codec:
            played = CodecEngine(weights.find(where, args.model))
            sounds[codec] = played.decode(played.encode(sound[None]))[0]
        plots.waveforms({key: x[: round(WAVEFORM * rate)] for key, x in sounds.items()},
                        folder / f"{name}_waveforms.png", rate)
        draw_envelopes(sounds, rate, folder / f"{name}_onsets.png")
        for key, x in sounds.items():
            audio.write(folder / f"{name}_{key}.ogg", x, rate)
    if args.rates:
        tracks = sides["validation"]
        rows = rate_and_distortion(weights.find(args.rates, args.model), [
            excerpt(args.data_dir, t, SECONDS, t.samples // 3) for t in tracks],
            tracks[0].sample_rate)
        draw_rates(rows, folder / f"{args.model}_rates.png")
        print(tables.render(rows, [
            tables.Column("costs of shape, gain", "costs"), tables.Column("bit/s", "bits", ".0f"),
            *(tables.Column(name, name, ".3f") for name in (*MEASURES, "notes", "chroma", "mel"))]))
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
