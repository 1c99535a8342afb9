"""Tell recordings from copies with a small network: `python -m research.detector`.

The network is trained on the training tracks of the first data folder, and hears clips of
recordings and of copies by a codec; with --performances, clips of copies and of performances of the
same tracks' scores in the sound of training parts. Reported is how often it is right on tracks that
it never heard; 0.5 is chance. No model is trained against it, and its weights are thrown away.

Everything below is fixed, so that figures of different codecs compare: clips of 4 s, of equal RMS;
log magnitudes, window 1,024, hop 256; four convolutions, a mean over time and one output; 300
steps of 8 recordings and 8 copies, from other places of the tracks; three seeds. The same training
with recordings in place of the copies has to end at chance: 0.45 to 0.55. With --before, the same
training has to tell the copies of a codec that is known to be unclear in 95 %.

Deaf to: loudness; what is quieter than 1/25,000 of a loud tone, such as the steps of 16 bits;
modulation above 43 Hz but by its sidebands; whether a piece is a good piece.
"""

import json
import sys
from collections.abc import Callable, Iterator

import numpy as np

from vqwave import cli, progress, stderr
from vqwave.data import scores
from vqwave.dsp import spectrum
from vqwave.io import audio, weights
from vqwave.io.files import CHECKOUT, printable
from vqwave.play import api
from vqwave.play.engine import CodecEngine
from vqwave.play.stream import AS_COMPOSED
from vqwave.report import tables

from . import excerpts, results
from .excerpts import Pair

SIDES = ("test", "fresh")
CLIP_SECONDS, STEP_SECONDS = 4.0, 2.0
"""The length of a clip, and the distance of the clips that are judged."""
N_FFT, HOP, FLOOR = 1024, 256, 0.01
CHANNELS, STEPS, BATCH, LEARNING_RATE, SEEDS = (8, 16, 32, 32), 300, 16, 1e-3, (1, 2, 3)
HELD_OUT = "all held-out tracks of the first folder"
LEAST_RMS = 1e-3
"""A clip that is quieter is a pause."""
FIGURE, PERFORMED = "recordings told from copies", "copies told from performances"
"""Names of figures. The first is in the file of targets."""
CONTROL, BEFORE = "recordings told from recordings", "recordings told from copies before"
"""Figures that make the others valid: the training without copies, and with those of --before."""
BOUNDS = {CONTROL: {"must": "0.45 to 0.55"}, BEFORE: {"must": "≥ 0.95"},
          PERFORMED: {"must": "≤ 0.85", "aim": "≤ 0.7"}}


def parser():
    parser = cli.parser(" ".join(__doc__.split("\n\n")[0].split())
                        + " Trains on the training tracks of the first data folder, takes some "
                        "minutes, and writes research/results/NAME.md.",
                        "--data-dirs data/wesnoth data/warzone")
    excerpts.add_codec(parser)
    parser.add_argument("--before", metavar="DIR", help="a folder with the codec before")
    parser.add_argument("--performances", action="store_true",
                        help="also tell copies from performances, of the first data folder")
    parser.add_argument("--generator-weights-dir", metavar="DIR",
                        help=f"folder of the generators that perform (default: "
                             f"{weights.GENERATORS})")
    results.add_corpora(parser)
    results.add_output(parser, "detector")
    return parser


def log_spectrum(clip: np.ndarray) -> np.ndarray:
    """float32 [samples] -> [frames, bins], of a clip at an RMS of 1."""
    clip = clip / np.sqrt(np.mean(np.square(clip, dtype=np.float64)))
    return np.log10(np.concatenate([*spectrum.magnitudes(clip, N_FFT, HOP)]) + FLOOR)


def draw_batch(pairs: list[Pair], samples: int, *key: int) -> tuple[np.ndarray, np.ndarray]:
    """Clips of `samples` from random places: spectra [`BATCH`, frames, bins], and labels [`BATCH`],
    1 for copies. key: what determines the draws.
    """
    rng, spectra = np.random.default_rng(key), []
    labels = np.arange(BATCH) % 2
    while len(spectra) < BATCH:
        sound = pairs[rng.integers(len(pairs))][labels[len(spectra)]]
        first = rng.integers(len(sound) - samples + 1)
        if np.std(clip := sound[first : first + samples]) >= LEAST_RMS:
            spectra.append(log_spectrum(clip))
    return np.stack(spectra), labels.astype(np.float32)


def cut(pairs: list[Pair], samples: int, step: int) -> Iterator[tuple[np.ndarray, int]]:
    """(clip, label) at regular places, in turns of recordings and copies: no passage is judged in
    both forms.
    """
    for pair in pairs:
        for i, first in enumerate(range(0, len(pair[0]) - samples + 1, step)):
            clip = pair[i % 2][first : first + samples]
            if np.std(clip) >= LEAST_RMS:
                yield clip, i % 2


def train(pairs: list[Pair], rate: int, seed: int, advance: Callable[[], None] = lambda: None):
    """A network that tells recordings from copies: spectra [batch, frames, bins] -> logits
    [batch, 1].
    """
    stderr.import_keras()
    import keras

    keras.utils.set_random_seed(seed)
    samples = round(CLIP_SECONDS * rate)
    network = keras.Sequential([keras.layers.Reshape((-1, N_FFT // 2 + 1, 1))])
    for i, channels in enumerate(CHANNELS):
        network.add(keras.layers.Conv2D(channels, 3 if i else 5, strides=2 if i else (2, 4),
                                        padding="same", activation="relu"))
    network.add(keras.layers.Lambda(lambda x: keras.ops.mean(x, axis=1)))
    network.add(keras.layers.Flatten())
    network.add(keras.layers.Dense(1))
    network.compile(keras.optimizers.Adam(LEARNING_RATE),
                    keras.losses.BinaryCrossentropy(from_logits=True))
    for step in range(STEPS):
        loss = float(network.train_on_batch(*draw_batch(pairs, samples, seed, step)))
        if not np.isfinite(loss):
            raise ArithmeticError(f"step {step}: the loss is {loss}")
        advance()
    return network


def share_right(network, pairs: list[Pair], rate: int) -> float:
    """How often a network is right, as the mean of its shares for recordings and for copies."""
    clips, labels = zip(*cut(pairs, round(CLIP_SECONDS * rate), round(STEP_SECONDS * rate)),
                        strict=True)
    logits = np.concatenate([network.predict_on_batch(np.stack([*map(log_spectrum, part)]))[:, 0]
                             for part in (clips[i : i + BATCH]
                                          for i in range(0, len(clips), BATCH))])
    right, labels = (logits > 0) == np.array(labels), np.array(labels)
    return float(np.mean([right[labels == label].mean() for label in (0, 1)]))


def measure(training: list[Pair], sides: dict[str, list[Pair]], rate: int,
            advance: Callable[[], None] = lambda: None) -> dict[str, list[float]]:
    """{side: how often a network is right there, for each of `SEEDS`}."""
    shares: dict[str, list[float]] = {side: [] for side in sides}
    for seed in SEEDS:
        network = train(training, rate, seed, advance)
        for side, pairs in sides.items():
            shares[side].append(share_right(network, pairs, rate))
    return shares


def perform(music: api.VQWave, folder, side: excerpts.Side) -> list[Pair]:
    """The copy of each track of a side, and a performance of its score from the same second on, in
    the sound of parts that are drawn.
    """
    pairs = []
    for seed, (track, (_, copy)) in enumerate(zip(side.tracks, side.pairs, strict=True)):
        first = excerpts.first_sample(track)
        sound = music.generate(samples=first + len(copy), seed=seed, **AS_COMPOSED,
                               score=scores.of_track(folder, track))[first:]
        pairs.append((copy, audio.from_u16(audio.to_u16(sound))))
    return pairs


def read(args, weight_set, bar) -> dict[str, list[excerpts.Side]]:
    """The sides of each figure: the training tracks, and what is judged."""
    first, *others = results.corpora(args)

    def sides(codec) -> list[excerpts.Side]:
        return [*excerpts.sides([first], codec, ("train", *SIDES), bar),
                *excerpts.sides(others, codec, SIDES, bar)]

    now = sides(CodecEngine(weight_set))
    figures = {FIGURE: now, CONTROL: [side._replace(pairs=[(x, x) for x, _ in side.pairs])
                                      for side in now]}
    if args.before:
        figures[BEFORE] = sides(CodecEngine(weights.find(args.before, args.model)))
    if args.performances:
        music = api.load(args.vqvae_weights_dir, args.generator_weights_dir)
        figures[PERFORMED] = [side._replace(pairs=perform(music, first[0], side))
                              for side in bar.track(now, description="performing")
                              if side.folder == now[0].folder]
    return figures


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    weight_set, rows = excerpts.find_codec(args), []
    rate = weight_set.config.sample_rate
    bounds = BOUNDS | {FIGURE: results.read_targets(
        CHECKOUT / "recipes" / "wesnoth" / "clarity_targets.yml")[FIGURE]}
    with progress.bar() as bar:
        figures = read(args, weight_set, bar)
        for name, (training, *heard) in figures.items():
            task = bar.add_task(name, total=STEPS * len(SEEDS))
            judged = {side.name: side.pairs for side in heard}
            judged[HELD_OUT] = [pair for side in heard if side.folder == training.folder
                                for pair in side.pairs]
            long = [pair for pair in training.pairs if len(pair[0]) >= CLIP_SECONDS * rate]
            shares = measure(long, judged, rate, lambda task=task: bar.advance(task))
            rows.append({"figure": name} | bounds[name] | shares | {
                "verdict": results.verdict(float(np.mean(shares[HELD_OUT])), bounds[name])})
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    heard = [side.describe(weight_set) for side in figures[FIGURE][1:]]
    columns = [tables.Column(x, x) for x in ("figure", "must", "aim")] + [
        tables.Column(side.name, side.name, ".3f") for side in figures[FIGURE][1:]] + [
        tables.Column(HELD_OUT, HELD_OUT, ".3f"), tables.Column("verdict", "verdict")]
    page = results.page(args.name, "detector", argv, *heard,
                        f"Means (and seeds {', '.join(map(str, SEEDS))}). Trained on a minute of "
                        f"each training track. The verdict is on {HELD_OUT}.",
                        tables.render(rows, columns))
    print(f"wrote {printable(results.write(args.output_dir, args.name, page))}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
