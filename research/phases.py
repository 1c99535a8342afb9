"""The oracle of magnitudes: how clear a decoder could sound that predicts magnitudes alone.

It takes the *true* magnitudes of a minute's first 15 s of each test track, integrates phases from
them by phase gradient heap integration (Průša, Balazs, Søndergaard 2017), and measures the sound as
`research.clarity` does, beside a codec. Takes minutes, and prints a table.
"""

import sys
from heapq import heappop, heappush

import librosa
import numpy as np

from vqwave import cli, progress
from vqwave.play.engine import CodecEngine

from . import clarity, excerpts, results

WINDOWS = ((1024, 256), (2048, 512), (2048, 256))
"""Windows of the STFT and their hops, in samples."""
SECONDS = 15.0
HANN_AS_GAUSSIAN = 0.25645
"""γ / window² of the Gaussian that is nearest to a Hann window."""
TOLERANCE = 1e-4
"""Bins that are quieter, relative to the loudest bin, have random phases."""


def integrate(magnitudes: np.ndarray, window: int, hop: int) -> np.ndarray:
    """The phases of magnitudes under a Hann window, in radians: float [frames, bins] each. Loud
    bins come first. Each gives its neighbours their phases, by the mean derivative of both.
    """
    gamma = HANN_AS_GAUSSIAN * window**2
    logs = np.pad(np.log(np.maximum(magnitudes, 1e-10)), 1, mode="edge")
    centre = 2 * np.pi * hop * np.arange(magnitudes.shape[1]) / window
    to_frame = hop * window / (2 * gamma) * (logs[1:-1, 2:] - logs[1:-1, :-2]) + centre
    to_bin = gamma / (2 * hop * window) * (logs[:-2, 1:-1] - logs[2:, 1:-1])
    # In flat lists with a border, because Python reads single numbers of an array slowly.
    wide, loud = magnitudes.shape[1] + 2, np.pad(magnitudes, 1).ravel()
    missing = (loud > TOLERANCE * loud.max()).tolist()
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, loud.shape).tolist()
    moves = [(sign * distance, 0.5 * sign, np.pad(steps, 1).ravel().tolist())
             for distance, steps in ((wide, to_frame), (1, to_bin)) for sign in (1, -1)]
    order, loud = np.argsort(-loud).tolist(), loud.tolist()
    for first in order:
        heap = [(-loud[first], first)] * missing[first]
        missing[first] = False
        while heap:
            _, i = heappop(heap)
            for distance, factor, steps in moves:
                k = i + distance
                if missing[k]:
                    missing[k] = False
                    phases[k] = phases[i] + factor * (steps[i] + steps[k])
                    heappush(heap, (-loud[k], k))
    return np.reshape(phases, (-1, wide))[1:-1, 1:-1]


def resynthesise(sound: np.ndarray, window: int, hop: int) -> np.ndarray:
    """A sound, float32 [samples], from its magnitudes."""
    magnitudes = np.abs(librosa.stft(sound, n_fft=window, hop_length=hop))
    phases = integrate(magnitudes.T.astype(float), window, hop).T
    # The phases are those at the centre of a window; the FFT counts from its start, half a window
    # earlier: π for each bin.
    phases += np.pi * np.arange(len(magnitudes))[:, None]
    return librosa.istft(magnitudes * np.exp(1j * phases), hop_length=hop, n_fft=window,
                         length=len(sound)).astype(np.float32)


def main(argv=None) -> int:
    parser = cli.parser(" ".join(__doc__.split()), "--data-dirs data/wesnoth")
    excerpts.add_codec(parser)
    results.add_corpora(parser)
    args = parser.parse_args(argv)
    codec = CodecEngine(excerpts.find_codec(args))
    rate = codec.config.sample_rate
    with progress.bar() as bar:
        pairs = [[x[: round(SECONDS * rate)] for x in pair] for side in excerpts.sides(
            results.corpora(args), codec, ("test",), bar) for pair in side.pairs]
        figures = {codec.config.name: clarity.measure(pairs, rate)} | {
            f"window {window}, hop {hop}": clarity.measure(
                [(x, resynthesise(x, window, hop)) for x, _ in pairs], rate)
            for window, hop in bar.track(WINDOWS, description="integrating phases")}
    print(clarity.table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
